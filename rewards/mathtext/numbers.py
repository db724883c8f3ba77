"""Numbers as exact fractions, and when two of them are the same answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rlcs.rewards.mathtext.tree import MAX_DIGITS, MAX_SCIENTIFIC_EXPONENT, MathTextError

RELATIVE_TOLERANCE = Fraction(1, 10**6)
"""Between decimals, where the response has fewer digits than the reference (GLM-V's tolerance for math)."""
ROUNDING_TOLERANCE = Fraction(1, 100)
"""What rounds to a decimal reference must also be this near to it, so that 0.5 is not whatever lies around it."""
_MIN_DIGITS_EXACT = 2
_MIN_DIGITS_DECIMAL = 3
"""Significant digits that a decimal reference needs before a value that rounds to it is accepted."""

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)\s*"
    r"(?:(?P<whole>\d+)\s+(?P<mixed_top>\d+)\s*/\s*(?P<mixed_bottom>\d+)"
    r"|(?P<top>\d+)\s*/\s*(?P<minus>-?)(?P<bottom>\d+)"
    r"|(?P<thousands>\d{1,3}(?:,\d{3})+)(?P<thousands_decimals>\.\d*)?"
    r"|(?P<digits>\d+(?:\.\d*)?|\.\d+)"
    r"(?:\s*(?:[eE]|\*\s*10\s*\^)\s*(?:\{\s*(?P<exponent_braced>[+-]?\d+)\s*\}|(?P<exponent>[+-]?\d+)))?)"
    r"\s*(?P<percent>%?)"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number and how it was written."""

    value: Fraction
    places: int | None = None
    """Digits after the decimal point, or None if it was not written as a decimal. Negative for `3.0e8`."""

    @property
    def significant_digits(self) -> int:
        """Digits of a decimal from its first one that is not zero."""
        return len(str(abs(round(self.value * Fraction(10) ** (self.places or 0)))))


def parse_number(text: str) -> Number | None:
    """The number that `text` spells: integer, decimal, fraction, mixed, scientific, percent; None if it is no number.

    Raises:
        MathTextError: it has more digits or a larger exponent than the limits.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    if len(text) > MAX_DIGITS:
        raise MathTextError(f"the number has more than {MAX_DIGITS} digits")
    groups = match.groupdict()
    places: int | None = None
    if groups["whole"] is not None:
        if int(groups["mixed_bottom"]) == 0:
            raise MathTextError("division by zero")
        value = int(groups["whole"]) + Fraction(int(groups["mixed_top"]), int(groups["mixed_bottom"]))
    elif groups["top"] is not None:
        if int(groups["bottom"]) == 0:
            raise MathTextError("division by zero")
        value = Fraction(int(groups["top"]), int(groups["bottom"]))
        value = -value if groups["minus"] else value
    else:
        digits = groups["digits"]
        if groups["thousands"] is not None:
            digits = groups["thousands"].replace(",", "") + (groups["thousands_decimals"] or "")
        exponent = groups["exponent"] or groups["exponent_braced"]
        value, places = decimal_value(digits, int(exponent or 0) if len(exponent or "") < 9 else 10**9)
    if groups["percent"]:
        value /= 100
        places = None if places is None else places + 2
    return Number(-value if groups["sign"] == "-" else value, places)


def decimal_value(digits: str, exponent: int = 0) -> tuple[Fraction, int | None]:
    """Value and places of `digits` (with or without a point) times ten to `exponent`.

    Raises:
        MathTextError: beyond the limits.
    """
    if len(digits) > MAX_DIGITS:
        raise MathTextError(f"a number has more than {MAX_DIGITS} digits")
    if abs(exponent) > MAX_SCIENTIFIC_EXPONENT:
        raise MathTextError(f"an exponent is beyond {MAX_SCIENTIFIC_EXPONENT}")
    whole, point, decimals = digits.partition(".")
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals)) * Fraction(10) ** exponent
    return value, len(decimals) - exponent if point and decimals else None


def same_number(response: Number, reference: Number) -> bool:
    """Whether the response is the reference.

    An exact reference (integer, fraction) is met by the exact value only, however it is written. A decimal reference is
    also met by what rounds to it at its own number of places, and, where the response has fewer places, by what is
    within `RELATIVE_TOLERANCE`.
    """
    if response.value == reference.value:
        return True
    if reference.places is None:
        return False
    difference = abs(response.value - reference.value)
    if response.places is not None and response.places < reference.places:
        return difference <= RELATIVE_TOLERANCE * abs(reference.value)
    needed = _MIN_DIGITS_EXACT if response.places is None else _MIN_DIGITS_DECIMAL
    return (
        reference.significant_digits >= needed
        and difference <= Fraction(10) ** -reference.places / 2
        and difference <= ROUNDING_TOLERANCE * abs(response.value)
    )
