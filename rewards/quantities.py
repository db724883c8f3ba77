"""Quantities: numbers and vectors with units, and when two of them are the same answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from rlcs.rewards.mathtext.numbers import Number
from rlcs.rewards.unit_conversion import NO_UNIT, DimensionError, Unit, convert

_ROUNDING_LIMIT = Fraction(1, 100)
"""What rounds to a decimal reference must also be this near to it, so that 0.5 is not whatever lies around it."""
_MIN_DIGITS = 2
"""Significant digits that a decimal reference needs before a value that rounds to it is accepted."""
_SLACK = Fraction(1, 10**11)
"""Relative error of the definitions of units."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or a vector, with a unit."""

    components: tuple[Number, ...]
    """One for a number."""
    units: tuple[Unit, ...] = (NO_UNIT,)
    """What its unit may mean; the literal reading first."""
    is_vector: bool = False
    label: str = ""
    """`v` in `v = 3 m/s`."""
    direction: str = ""
    """`up`, `north`, ...; the same word for all spellings."""
    is_tight: bool = False
    """The unit stands right after the number, without markup: `2mg` may be a product of variables."""

    @property
    def has_unit(self) -> bool:
        """Whether a unit is written."""
        return not self.units[0].is_one


@dataclass(frozen=True, slots=True)
class Quantities:
    """An answer: one quantity or several."""

    items: tuple[Quantity, ...]
    is_choice: bool = False
    """They are joined by `or`, so that their order means nothing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How quantities are compared."""

    tolerance: Fraction = Fraction(1, 10**5)
    """Relative to the reference."""
    require_unit: bool = True
    """A bare number is wrong where the reference has a unit; else it is taken in the reference's unit."""
    is_difference: bool = False
    """Degrees are differences of temperature: 20 degrees Celsius are 20 K."""
    is_ordered: bool = True
    """Several quantities without names must come in the reference's order, unless they are joined by `or`."""


def with_unit(quantities: Quantities, units: tuple[Unit, ...]) -> Quantities:
    """The same, with a unit for the bare numbers."""
    items = tuple(item if item.has_unit else replace(item, units=units) for item in quantities.items)
    return replace(quantities, items=items)


def compare(response: Quantities, reference: Quantities, rules: Rules) -> tuple[bool, str]:
    """Whether the response is the reference, and why."""
    if len(response.items) != len(reference.items):
        return False, f"{len(response.items)} quantities where the reference has {len(reference.items)}"
    mine, theirs = list(response.items), list(reference.items)
    labels = {item.label for item in mine}, {item.label for item in theirs}
    if len(mine) > 1 and len(labels[0]) == len(mine) and labels[0] == labels[1]:
        mine.sort(key=lambda item: item.label)
        theirs.sort(key=lambda item: item.label)
    elif len(mine) > 1 and (reference.is_choice or not rules.is_ordered):
        return _same_in_any_order(mine, theirs, rules), "compared in any order"
    for a, b in zip(mine, theirs, strict=True):
        reason = _difference(a, b, rules)
        if reason:
            return False, reason
    return True, "the same quantity" if len(mine) == 1 else "the same quantities"


def same_value(value: Fraction, reference: Number, tolerance: Fraction) -> bool:
    """Whether a value is the reference within the relative tolerance, or rounds to its digits if it is a decimal."""
    difference, size = abs(value - reference.value), abs(reference.value)
    if difference <= max(tolerance, _SLACK) * size:
        return True
    if reference.places is None or reference.significant_digits < _MIN_DIGITS:
        return False
    return difference <= Fraction(10) ** -reference.places / 2 + _SLACK * size and difference <= _ROUNDING_LIMIT * size


def _same_in_any_order(mine: list[Quantity], theirs: list[Quantity], rules: Rules) -> bool:
    remaining = list(theirs)
    for item in mine:
        partner = next((i for i, other in enumerate(remaining) if not _difference(item, other, rules)), None)
        if partner is None:
            return False
        remaining.pop(partner)
    return True


def _difference(response: Quantity, reference: Quantity, rules: Rules) -> str:
    """Why the response is not the reference; empty if it is."""
    if reference.direction and response.direction != reference.direction:
        return f"the direction is {response.direction or 'missing'}, not {reference.direction}"
    if response.is_vector != reference.is_vector:
        return "a vector is not a number"
    units = reference.units if not rules.require_unit and not response.has_unit else response.units
    reason = ""
    for source in units:
        for target in reference.units:
            try:
                values = [
                    convert(component.value, source, target, is_difference=rules.is_difference)
                    for component in response.components
                ]
            except DimensionError as error:
                reason = reason or (str(error) if response.has_unit else "the unit is missing")
                continue
            if len(values) != len(reference.components):
                return f"{len(values)} components where the reference has {len(reference.components)}"
            pairs = zip(values, reference.components, strict=True)
            if all(same_value(value, component, rules.tolerance) for value, component in pairs):
                return ""
            reason = "the value is another"
    return reason
