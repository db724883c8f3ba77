r"""Chemistry answers: formulae, equations, electron configurations, quantities, names.

| reference | right is |
|---|---|
| `2H2 + O2 -> 2H2O` | balanced, the same species on the same sides in any order, coefficients in the same ratios |
| `H2O(l)` | the same species (`rlcs.rewards.species`); a state that contradicts is wrong, a missing one is fine |
| `NaCl, H2O` | the same species in any order (`ordered`: in this order) |
| `HF > HCl > HBr` | the same order, written from either end |
| `1s^2 2s^2 2p^4` | the same occupation; `[He]` stands for its shells |
| `sp^3` | also `sp3` |
| `+3` | also `3+` and `+III` |
| `0.10 mol/L`, numbers, expressions | as in `rlcs.rewards.physics` |
| `2-methylpropane` | the same name but for blanks, dashes and the case of words; else what the judge says |
"""

from __future__ import annotations

import re
import unicodedata

from rlcs.rewards.base import Columns
from rlcs.rewards.chemical_text import plain_chemistry
from rlcs.rewards.electrons import configuration
from rlcs.rewards.formulas import Formula, parse_formula
from rlcs.rewards.mathtext.unit_words import NO_UNITS
from rlcs.rewards.quantity_text import read_quantities
from rlcs.rewards.reactions import Reaction, imbalance, parse_reaction, reaction_difference
from rlcs.rewards.science import ScienceVerifier
from rlcs.rewards.species import species_difference
from rlcs.rewards.text import flag_of
from rlcs.rewards.value_text import QuantityTextError
from rlcs.rewards.verifier import Match

_SEPARATORS = re.compile(r"[,;、和与]|\band\b")
_NUMBER_START = re.compile(r"\s*[$(]*[+-]?\s?[\d.]")
_OXIDATION = re.compile(r"^\s*\$?(?P<sign>[+-]?)\s?\{?(?P<size>[1-9]|I{1,3}|IV|VI{0,3})\}?\s?(?P<after>[+-]?)\$?\s*$")
_SUBSTANCE = re.compile(
    r"(?P<quantity>\s*[+-]?[\d.][^\n]{0,80}?[A-Za-z}]\$?)\s+(?:of\s+(?P<named>\S.{0,40})|(?P<formula>[A-Z]\S{1,40}))"
)
_SUBSTANCE_NAME = re.compile(r"[^\W\d_]+(?: [^\W\d_]+){0,2}")
_HYBRID = re.compile(r"sp[23]?(?:d[23]?)?|d[23]?sp[23]")
_ROMAN = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8}
_NAME_WORD = re.compile(r"[^\W\d_]{2,}")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))


class Chemistry(ScienceVerifier):
    """1 if the boxed answer is the reference formula, equation, quantity or name, else 0 with the reason.

    Args:
        extract: how the answer is found in a response.
        judge: decides where a name or words differ, and where a formula is asked for and the answer holds none.
        tolerance: of quantities, relative to the reference; GLM-V's 1e-5. A decimal reference also accepts what rounds
            to it.
        require_unit: a bare number is wrong where the reference has a unit. If not, it is taken in that unit.
        timeout_s: deadline of one symbolic comparison.
        memory_mb: what a symbolic comparison may allocate.

    Columns of a row that are heeded: those of `rlcs.rewards.physics.Physics`; `ordered` (true) also for lists of
    formulae, which may come in any order otherwise.
    """

    def _match_by_rule(self, answer: str, reference: str, columns: Columns) -> Match | tuple[str, str]:
        """As for physics; an answer may name the substance, and if the reference does too, it must be the same."""
        (quantity, substance), (expected, other) = _split_substance(answer), _split_substance(reference)
        if substance and other and not _same_substance(substance, other):
            return Match(0.0, f"a quantity of {substance}, not of {other}")
        return super()._match_by_rule(quantity, expected, columns)

    def match_special(self, answer: str, reference: str, columns: Columns) -> Match | None:
        for match_kind in (_match_reaction, _match_configuration, _match_hybrid, _match_oxidation):
            match = match_kind(answer, reference)
            if match is not None:
                return match
        formulas = _formulas(reference)
        if formulas is not None and not _is_number(reference):
            return _match_formulas(answer, formulas, is_ordered=bool(flag_of(columns, "ordered", False)))
        if _NAME_WORD.search(reference) and _name(answer) == _name(reference):
            return Match(1.0, "the same name")
        return None

    def validate_special(self, answer: str, columns: Columns) -> tuple[bool, str]:
        reaction = _reaction(answer)
        if isinstance(reaction, Reaction):
            return True, _with_reference(imbalance(reaction))
        if isinstance(reaction, str):
            return (False, "") if _NAME_WORD.search(answer) else (True, _with_reference(reaction))
        return configuration(answer) is not None or _formulas(answer) is not None, ""


def _split_substance(text: str) -> tuple[str, str]:
    """`2.0 g of NaCl` and `2 mol O2` as a quantity and what it is of; the text and nothing if it is another."""
    match = _SUBSTANCE.fullmatch(text)
    if match is None or _is_number(text):
        return text, ""
    substance = match["named"] or match["formula"]
    formulas = _formulas(substance)
    is_name = bool(match["named"]) and _SUBSTANCE_NAME.fullmatch(substance) is not None
    is_known = (
        len(formulas[1]) == 1 if formulas else is_name and not NO_UNITS.intersection(substance.casefold().split())
    )
    return (match["quantity"], substance) if is_known and _is_number(match["quantity"]) else (text, "")


def _same_substance(one: str, other: str) -> bool:
    pair = _formulas(one), _formulas(other)
    if pair[0] is None or pair[1] is None:
        return _name(one) == _name(other)
    return len(pair[0][1]) == len(pair[1][1]) == 1 and not species_difference(pair[0][1][0], pair[1][1][0])


def _with_reference(reason: str) -> str:
    return f"the reference answer cannot be used: {reason}" if reason else ""


def _match_reaction(answer: str, reference: str) -> Match | None:
    expected = _reaction(reference)
    if not isinstance(expected, Reaction):
        return None
    mine = _reaction(answer)
    if not isinstance(mine, Reaction):
        return Match(0.0, f"the answer is no equation{f': {mine}' if mine else ''}")
    reason = reaction_difference(mine, expected)
    return Match(float(not reason), reason or "the same equation")


def _match_configuration(answer: str, reference: str) -> Match | None:
    expected = configuration(reference)
    if expected is None:
        return None
    same = configuration(answer) == expected
    return Match(float(same), "the same configuration" if same else "another configuration, or none")


def _match_hybrid(answer: str, reference: str) -> Match | None:
    """`sp3` for `sp^{3}`."""
    texts = [re.sub(r"\\mathrm|[\s^{}$]", "", unicodedata.normalize("NFKC", text)) for text in (answer, reference)]
    if not _HYBRID.fullmatch(texts[1]):
        return None
    return Match(float(texts[0] == texts[1]), "compared as hybrid orbitals")


def _match_oxidation(answer: str, reference: str) -> Match | None:
    """`+3`, `3+` and `+III`; only where the reference has a sign and a digit."""
    if not re.fullmatch(r"[+-]\d", reference.strip("$ ")):
        return None
    states = [_oxidation(text) for text in (answer, reference)]
    if None in states:
        return None
    return Match(float(states[0] == states[1]), "compared as oxidation states")


def _oxidation(text: str) -> int | None:
    match = _OXIDATION.match(text.replace("−", "-").replace("^", ""))
    if match is None or (match["sign"] and match["after"]):
        return None
    size = _ROMAN.get(match["size"]) or int(match["size"])
    return -size if "-" in (match["sign"], match["after"]) else size


def _match_formulas(answer: str, expected: tuple[str, tuple[Formula, ...]], *, is_ordered: bool) -> Match:
    mine = _formulas(answer)
    if mine is None:
        return Match(0.0, "the answer is no formula", is_open=_NAME_WORD.search(answer) is not None)
    (kind, response), (expected_kind, reference) = mine, expected
    if kind != expected_kind or len(response) != len(reference):
        return Match(0.0, "the answer has another number of formulae, or they are joined otherwise")
    if expected_kind == "order" or is_ordered or len(reference) == 1:
        pairs = zip(response, reference, strict=True)
        reason = next((reason for a, b in pairs if (reason := species_difference(a, b))), "")
        return Match(float(not reason), reason or "the same species")
    remaining = list(response)
    for formula in reference:
        partner = next((other for other in remaining if not species_difference(other, formula)), None)
        if partner is None:
            return Match(0.0, "a species is missing or another")
        remaining.remove(partner)
    return Match(1.0, "the same species, in any order")


def _reaction(text: str) -> Reaction | str | None:
    """The equation, why it cannot be read, or None if the text is none."""
    try:
        return parse_reaction(plain_chemistry(text))
    except ValueError as error:
        return str(error)


def _formulas(text: str) -> tuple[str, tuple[Formula, ...]] | None:
    """The formulae of a text, and whether they are a list or an order such as `HF > HCl`; None if it has others."""
    try:
        plain = plain_chemistry(text)
        if plain == "No":
            return None  # the word, not nobelium
        for sign, step in ((">", 1), ("<", -1)):
            if sign in plain:
                return "order", tuple(map(parse_formula, plain.split(sign)))[::step]
        return "list", tuple(parse_formula(part) for part in _SEPARATORS.split(plain) if part.strip())
    except ValueError:
        return None


def _is_number(text: str) -> bool:
    if not _NUMBER_START.match(text):
        return False
    try:
        read_quantities(text)
    except QuantityTextError:
        return False
    return True


def _name(text: str) -> str:
    """A name without blanks and with one kind of dash; single letters (D, N, R) keep their case."""
    text = unicodedata.normalize("NFKC", text).translate(_DASHES)
    text = re.sub(r"\\(?:text|mathrm|ce)\s?\{([^{}]*)\}", r"\1", text).strip(" .。$")
    return "".join(_NAME_WORD.sub(lambda match: match.group().casefold(), text).split())
