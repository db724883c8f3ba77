"""Formulae and equations: read by a grammar, balanced by exact arithmetic, compared by species."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.rewards.chemical_text import plain_chemistry
from rlcs.rewards.electrons import configuration
from rlcs.rewards.formulas import SYMBOLS, Formula, FormulaError, parse_formula
from rlcs.rewards.reactions import Reaction, imbalance, parse_reaction, reaction_difference
from rlcs.rewards.species import species_difference

_settings = settings(max_examples=150, deadline=None)
_BALANCED = [
    ([(2, "H2"), (1, "O2")], [(2, "H2O")]),
    ([(1, "CH4"), (2, "O2")], [(1, "CO2"), (2, "H2O")]),
    ([(1, "MnO4^-"), (5, "Fe^2+"), (8, "H^+")], [(1, "Mn^2+"), (5, "Fe^3+"), (4, "H2O")]),
    ([(2, "KClO3")], [(2, "KCl"), (3, "O2")]),
    ([(1, "Cu^2+"), (2, "e^-")], [(1, "Cu")]),
    ([(3, "Ca(OH)2"), (2, "H3PO4")], [(1, "Ca3(PO4)2"), (6, "H2O")]),
]
_Side = list[tuple[int, str]]


def formula(text: str) -> Formula:
    return parse_formula(plain_chemistry(text))


def reaction(text: str) -> Reaction:
    found = parse_reaction(plain_chemistry(text))
    assert found is not None
    return found


def written(sides: tuple[_Side, _Side], factor: Fraction = Fraction(1), arrow: str = " -> ") -> str:
    return arrow.join(" + ".join(f"{number * factor} {species}" for number, species in side) for side in sides)


def test_a_formula_is_counted_through_its_brackets() -> None:
    assert formula("Al2(SO4)3").composition() == {("Al", None): 2, ("S", None): 3, ("O", None): 12}
    assert formula("CuSO4·5H2O").composition() == {("Cu", None): 1, ("S", None): 1, ("O", None): 9, ("H", None): 10}
    assert formula("[Cu(NH3)4]^{2+}").composition() == {("Cu", None): 1, ("N", None): 4, ("H", None): 12}
    assert formula("{}^{14}_{6}C").composition() == {("C", 14): 1}


@pytest.mark.parametrize(
    ("text", "charge"),
    [
        ("Na+", 1), ("Cu2+", 2), ("Cu^{2+}", 2), ("Fe^{+3}", 3), ("SO42-", -2), ("SO_4^{2-}", -2), ("NH4+", 1),
        ("NO3-", -1), ("Cr2O72-", -2), ("Hg22+", 2), ("OH⁻", -1), ("PO₄³⁻", -3), ("O2-", -2), ("e-", -1), ("H2O", 0),
    ],
)  # fmt: skip
def test_charges(text: str, charge: int) -> None:
    assert formula(text).charge == charge


@pytest.mark.parametrize(
    ("text", "state"),
    [("H2O(l)", "l"), ("CO2↑", "g"), (r"AgCl\downarrow", "s"), ("Na+(aq)", "aq"), ("H_2O_{(g)}", "g")],
)
def test_states(text: str, state: str) -> None:
    assert formula(text).state == state


@pytest.mark.parametrize(
    "name", ["Hydrogen", "Carbon", "Tin", "Iron", "Copper", "Silicon", "Neon", "Boron", "sodium", "Water", "None", "Xx"]
)
def test_names_are_no_formulae(name: str) -> None:
    with pytest.raises(FormulaError):
        formula(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(" * 10_000 + "H",
        "H" * 10_000,
        "H0",
        "H99999",
        "((((((((H))))))))",
        "(H]",
        "H)",
        "()",
        "^",
        "{}^{14}_{7}C",
        "H++-",
        "1",
    ],
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        formula(text)


@_settings
@given(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(1, 20)), min_size=1, max_size=6, unique_by=lambda t: t[0]),
       st.randoms(use_true_random=False))  # fmt: skip
def test_the_order_of_elements_makes_no_difference(parts: list[tuple[str, int]], rng: random.Random) -> None:
    shuffled = parts[:]
    rng.shuffle(shuffled)
    texts = ["".join(f"{symbol}_{{{count}}}" for symbol, count in order) for order in (parts, shuffled)]
    assert not species_difference(formula(texts[0]), formula(texts[1]))
    more = "".join(f"{symbol}{count + 1}" for symbol, count in parts)
    assert species_difference(formula(more), formula(texts[0]))


def test_isomers_are_other_species_unless_the_reference_shows_no_structure() -> None:
    assert species_difference(formula("CH3OCH3"), formula("CH3CH2OH"))
    assert species_difference(formula("C2H6O"), formula("CH3CH2OH"))
    assert not species_difference(formula("C2H6O"), formula("CH3CH2OH"), in_equation=True)
    assert not species_difference(formula("CH3CH2OH"), formula("C2H6O"))


@_settings
@given(st.sampled_from(_BALANCED), st.integers(1, 9), st.integers(1, 4), st.randoms(use_true_random=False))
def test_order_and_scale_of_an_equation_make_no_difference(
    sides: tuple[_Side, _Side], top: int, bottom: int, rng: random.Random
) -> None:
    shuffled = tuple(rng.sample(side, len(side)) for side in sides)
    for arrow in (" -> ", "=", r" \rightarrow ", "⇌"):
        other = reaction(written(shuffled, Fraction(top, bottom), arrow))  # type: ignore[arg-type]
        assert not imbalance(other)
        assert not reaction_difference(other, reaction(written(sides)))


@_settings
@given(st.sampled_from(_BALANCED), st.data())
def test_an_unbalanced_equation_is_always_refused(sides: tuple[_Side, _Side], data: st.DataObject) -> None:
    side = data.draw(st.integers(0, 1))
    index = data.draw(st.integers(0, len(sides[side]) - 1))
    changed = tuple([*side] for side in sides)
    number, species = changed[side][index]
    changed[side][index] = (number + data.draw(st.integers(1, 9)), species)
    other = reaction(written(changed))  # type: ignore[arg-type]
    assert imbalance(other)
    assert "not balanced" in reaction_difference(other, reaction(written(sides)))


@_settings
@given(st.sampled_from(_BALANCED))
def test_the_sides_do_not_change_places(sides: tuple[_Side, _Side]) -> None:
    assert reaction_difference(reaction(written((sides[1], sides[0]))), reaction(written(sides)))


def test_a_contradicting_state_is_wrong_and_a_missing_one_fine() -> None:
    reference = reaction("CaCO3(s) -> CaO(s) + CO2(g)")
    assert not reaction_difference(reaction("CaCO3 -> CaO + CO2"), reference)
    assert not reaction_difference(reaction("CaCO3 = CaO + CO2↑"), reference)
    assert "state" in reaction_difference(reaction("CaCO3(s) -> CaO(s) + CO2(l)"), reference)


def test_nuclear_equations_keep_mass_and_charge_numbers() -> None:
    assert not imbalance(reaction(r"{}^{235}_{92}U + {}^1_0n \to {}^{141}_{56}Ba + {}^{92}_{36}Kr + 3{}^1_0n"))
    assert "mass number" in imbalance(reaction("^{238}U -> ^{235}Th + ^{4}He"))
    assert not imbalance(reaction("{}^{22}_{11}Na -> {}^{22}_{10}Ne + {}^0_{+1}e"))


@pytest.mark.parametrize("text", ["CH2=CH2", "n = 2", "F = 5 N", "H2O", "x = 3", "C"])
def test_what_is_no_equation(text: str) -> None:
    assert parse_reaction(plain_chemistry(text)) is None


def test_configurations() -> None:
    assert configuration("[Ar]3d^5 4s^1") == configuration("1s22s22p63s23p64s13d5")
    assert configuration("1s^2 2s^2") != configuration("1s^2 2s^1")
    assert configuration("1s^3") is None and configuration("1s^2 1s^2") is None and configuration("H2O") is None


_TOKENS = ["H", "O2", "Na", "+", "-", "->", "=", "⇌", "^", "{", "}", "_", "2", "(", ")", "[", "]", "(aq)", "·", "\\ce{", "\\frac",
           " ", "e", "↑", "1/2", "9999", "¹⁴", "\\rightarrow", "0", "点燃"]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS), max_size=40).map("".join) | st.text(max_size=100))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        plain = plain_chemistry(text)
        found = parse_reaction(plain)
        if found:
            imbalance(found)
        parse_formula(plain)
    except ValueError as error:
        assert str(error)
    configuration(text)
