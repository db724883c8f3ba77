"""Units as products of powers of named units, and conversion between them.

pint defines what a name is worth, and nothing else: it is asked by name, and never for text of a model, since its own
parser evaluates expressions. Each name is asked for once.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

_OPAQUE = frozenset({"decibel"})
"""Units that convert to nothing but themselves."""
_KINDS = {
    "hertz": "frequency", "becquerel": "activity", "radian": "angle", "degree": "angle", "revolution": "angle",
    "arcminute": "angle", "arcsecond": "angle", "gray": "absorbed dose", "sievert": "equivalent dose",
}  # fmt: skip
"""What units stand for that have the dimension of another: 5 Hz is not 5 rad/s, though both are 5 / s."""


class DimensionError(ValueError):
    """Two units measure different things."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of powers of named units."""

    scale: Fraction = Fraction(1)
    factors: tuple[tuple[str, Fraction], ...] = ()
    """Names of pint's registry and their powers, sorted."""

    @property
    def is_one(self) -> bool:
        """Whether it is no unit at all; a percent has a scale."""
        return not self.factors and self.scale == 1

    @property
    def dimension(self) -> tuple[tuple[str, Fraction], ...]:
        """Powers of length, mass, time and so on; empty for numbers and angles."""
        powers: dict[str, Fraction] = {}
        for name, power in self.factors:
            for base, base_power in _definition(name).dimension:
                powers[base] = powers.get(base, Fraction(0)) + power * base_power
        return tuple(sorted((base, power) for base, power in powers.items() if power))

    @property
    def kinds(self) -> frozenset[str]:
        """What the named units stand for beyond their dimension."""
        return frozenset(_KINDS[name] for name, _ in self.factors if name in _KINDS)

    def __mul__(self, other: Unit) -> Unit:
        powers = dict(self.factors)
        for name, power in other.factors:
            powers[name] = powers.get(name, Fraction(0)) + power
        factors = tuple(sorted((name, power) for name, power in powers.items() if power))
        return Unit(self.scale * other.scale, factors)

    def __pow__(self, power: Fraction) -> Unit:
        return Unit(_power(self.scale, power), tuple((name, exponent * power) for name, exponent in self.factors))

    def __str__(self) -> str:
        shown = [name if power == 1 else f"{name}^{power}" for name, power in self.factors]
        return " ".join(([f"{float(self.scale):g}"] if self.scale != 1 else []) + shown) or "no unit"


NO_UNIT = Unit()


def convert(value: Fraction, source: Unit, target: Unit, *, is_difference: bool = False) -> Fraction:
    """`value` in units of `source`, expressed in `target`.

    A lone degree Celsius or Fahrenheit is a temperature (20 degrees Celsius are 293.15 K), a temperature difference
    with `is_difference`, and always a difference inside of a product.

    Raises:
        DimensionError: they measure different things.
    """
    if source == target:
        return value
    if source.dimension != target.dimension:
        raise DimensionError(f"{source} does not convert to {target}")
    kinds = source.kinds, target.kinds
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        raise DimensionError(f"{source} ({', '.join(kinds[0])}) is not {target} ({', '.join(kinds[1])})")
    base = value * _size(source) + (0 if is_difference else _offset(source))
    return (base - (0 if is_difference else _offset(target))) / _size(target)


@lru_cache(maxsize=2048)
def unit_of(power_of_ten: int, meaning: str) -> Unit:
    """The unit that an entry of `rlcs.rewards.unit_names` stands for."""
    unit = Unit(Fraction(10) ** power_of_ten)
    for part in meaning.split():
        if part[0].isdigit():
            unit = unit * Unit(Fraction(part))
        else:
            name, _, power = part.partition("^")
            unit = unit * Unit(Fraction(1), ((name, Fraction(power or 1)),))
    return unit


def warm_up() -> None:
    """Import pint and make its registry (about 0.4 s), so that the first answer need not."""
    _definition("meter")


# --- what a unit is worth


@dataclass(frozen=True, slots=True)
class _Definition:
    size: Fraction
    """In base units."""
    offset: Fraction
    dimension: tuple[tuple[str, Fraction], ...]


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


@lru_cache(maxsize=1024)
def _definition(name: str) -> _Definition:
    """What a name of the tables is worth."""
    if name in _OPAQUE:
        return _Definition(Fraction(1), Fraction(0), ((name, Fraction(1)),))
    registry = _registry()
    unit = getattr(registry, name)  # a look-up by name; nothing is parsed
    zero, one = (registry.Quantity(number, unit).to_base_units().magnitude for number in (0.0, 1.0))
    dimension = tuple(sorted((base, Fraction(power)) for base, power in unit.dimensionality.items()))
    if zero == 0:
        # Through the shortest decimal, so that 0.3048 is what it looks like.
        return _Definition(Fraction(repr(float(one))), Fraction(0), dimension)
    offset = Fraction(zero).limit_denominator(10_000)  # 5463/20 and 45967/180
    return _Definition(Fraction(one - zero).limit_denominator(10_000), offset, dimension)


def _size(unit: Unit) -> Fraction:
    size = unit.scale
    for name, power in unit.factors:
        size *= _power(_definition(name).size, power)
    return size


def _offset(unit: Unit) -> Fraction:
    if len(unit.factors) == 1 and unit.factors[0][1] == 1 and unit.scale == 1:
        return _definition(unit.factors[0][0]).offset
    return Fraction(0)


def _power(base: Fraction, power: Fraction) -> Fraction:
    if power.denominator == 1:
        return base ** int(power)
    return Fraction(repr(float(base) ** float(power)))
