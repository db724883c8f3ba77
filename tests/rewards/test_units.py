"""Units are read from text without evaluating it, and convert as pint says."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pint
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.rewards.unit_conversion import NO_UNIT, DimensionError, Unit, convert
from rlcs.rewards.unit_names import chinese_names, symbols
from rlcs.rewards.units import MAX_CHARACTERS, UnitTextError, read_unit

_settings = settings(max_examples=100, deadline=None)
_LENGTHS = ["m", "cm", "km", "mm", "ft", "in", "mi", "ly", "µm", "米", "公里"]
_registry = pint.UnitRegistry()


def unit(text: str) -> Unit:
    return read_unit(text)[0]


def converted(value: float, source: str, target: str) -> float:
    return float(convert(Fraction(value), unit(source), unit(target)))


@pytest.mark.parametrize(
    "spelling",
    [
        "m/s^2", "m/s²", "m s⁻²", "m·s^{-2}", r"\mathrm{m/s^2}", r"\text{ m/s}^2", r"\frac{m}{s^2}", "m/s/s", "m s-2",
        "meters per second squared", r"\meter\per\second\squared", "米/秒²", "米每二次方秒", "ｍ／ｓ²", "m/(s·s)", "m/s**2",
        r"\mathrm{m}\,\mathrm{s}^{-2}", "N/kg", "[m/s^2]",
    ],
)  # fmt: skip
def test_spellings_of_one_unit(spelling: str) -> None:
    assert convert(Fraction(1), unit(spelling), unit("m/s^2")) == 1


def test_the_case_of_a_symbol_counts() -> None:
    assert unit("mg") != unit("Mg")
    assert converted(1, "Mm", "mm") == 1e9
    with pytest.raises(UnitTextError):
        read_unit("k")


def test_an_open_division_has_two_readings_and_a_bracket_one() -> None:
    assert len(read_unit("J/kg·K")) == 2
    assert read_unit("J/kg·K")[1] == unit("J/(kg·K)")
    assert len(read_unit("J/(kg·K)")) == 1
    assert len(read_unit("m/s/s")) == 1


def test_no_text_is_no_unit() -> None:
    assert read_unit("  ") == (NO_UNIT,) and NO_UNIT.is_one


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [(20, "°C", "K", 293.15), (32, "°F", "°C", 0), (-40, "℃", "°F", -40), (0, "K", r"^{\circ}\text{C}", -273.15)],
)
def test_temperatures_have_offsets(value: float, source: str, target: str, expected: float) -> None:
    assert converted(value, source, target) == expected


def test_degrees_inside_of_a_product_are_differences() -> None:
    assert converted(1, "J/(kg·°C)", "J/(kg·K)") == 1
    assert convert(Fraction(20), unit("°C"), unit("K"), is_difference=True) == 20


def test_angles() -> None:
    assert converted(180, "°", "rad") == pytest.approx(3.141592653589793)
    assert converted(60, "rpm", "rad/s") == pytest.approx(6.283185307179586)


@pytest.mark.parametrize(
    ("one", "other"), [("m", "s"), ("Hz", "rad/s"), ("Hz", "Bq"), ("Gy", "Sv"), ("dB", "%"), ("m", "")]
)
def test_what_measures_something_else_does_not_convert(one: str, other: str) -> None:
    with pytest.raises(DimensionError):
        convert(Fraction(1), unit(one), unit(other))


@_settings
@given(
    st.sampled_from(["meter", "inch", "mile", "light_year", "angstrom"]),
    st.sampled_from(["joule", "calorie", "electron_volt", "watt hour"]),
    st.integers(-3, 3),
    st.floats(1e-6, 1e6),
)
def test_conversion_agrees_with_pint(length: str, energy: str, power: int, value: float) -> None:
    mine = Unit() * _of_names(f"{length}") ** Fraction(power) * _of_names(energy)
    target = _of_names("meter") ** Fraction(power) * _of_names("joule")
    theirs = _registry.Quantity(value, _registry.Unit(length)) ** 1
    factor = (theirs / value).to("meter").magnitude ** power * _registry.Quantity(1.0, energy.replace(" ", "*")).to(
        "joule"
    ).magnitude
    assert float(convert(Fraction(value), mine, target)) == pytest.approx(value * factor, rel=1e-9)


def _of_names(names: str) -> Unit:
    return Unit(factors=tuple(sorted((name, Fraction(1)) for name in names.split())))


@_settings
@given(st.fractions(min_value=-(10**9), max_value=10**9), st.sampled_from(_LENGTHS), st.sampled_from(_LENGTHS))
def test_conversion_there_and_back_changes_nothing(value: Fraction, one: str, other: str) -> None:
    there = convert(value, unit(one), unit(other))
    assert convert(there, unit(other), unit(one)) == value


@_settings
@given(
    st.lists(st.sampled_from(["m", "s^{-1}", "kg", "A", "K^2"]), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_factors_commute(factors: list[str], rng: object) -> None:
    shuffled = factors[:]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert unit(" ".join(factors)) == unit("·".join(shuffled))


def test_pint_knows_every_name_of_the_tables() -> None:
    meanings = {meaning for _, meaning in (*symbols().values(), *chinese_names().values())}
    for spelling, (_, meaning) in {**symbols(), **chinese_names()}.items():
        if meaning in meanings:
            meanings.discard(meaning)
            assert isinstance(unit(spelling).dimension, tuple)
    assert not meanings - {"1/100", "1/1000", "1e-6", "1e-9"}


@pytest.mark.parametrize(
    "text",
    [
        "meter**9999999", "m^{10^{10}}", "kg" * 50_000, "(" * 10_000 + "m" + ")" * 10_000, "__import__('os')", "m//s",
        "((m^12)^12)^12", "((((ym^12)^12)^12)^12)", "m/", "m^", "m^{1/0}", "foo", "m·", "(m", "m)", "5 m", r"\frac{m}{",
        "m" + " m" * 100, "\x00", "\ud800", "千" * 1000, "m^999", "%^12^12",
    ],
)  # fmt: skip
def test_what_is_no_unit_is_refused(text: str) -> None:
    with pytest.raises(UnitTextError):
        read_unit(text)


_TOKENS = ["m", "kg", "s", "°", "C", "°C", "^", "{", "}", "(", ")", "/", "·", "*", "2", "-1", "per", " ", "\\frac", "\\text{",
           "μ", "米", "每", "平方", "squared", "%", "\\", "\\mathrm", "**", "9999", "kilo", "\\kilo", "."]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS), max_size=30).map("".join) | st.text(max_size=MAX_CHARACTERS + 5))
def test_any_text_is_a_unit_or_an_error_of_ours(text: str) -> None:
    try:
        readings = read_unit(text)
    except UnitTextError as error:
        assert str(error)
    else:
        for reading in readings:
            assert convert(Fraction(1), reading, reading) == 1 and isinstance(reading.dimension, tuple)


def test_pint_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from rlcs.rewards.physics import Physics; from rlcs.rewards.chemistry import Chemistry; "
        "Physics(); Chemistry(); sys.exit('pint' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
