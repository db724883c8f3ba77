"""Quotients of polynomials with rational coefficients.

A monomial is a tuple of (atom, exponent) pairs, a polynomial maps monomials to coefficients, a quotient is a pair of
polynomials. Atoms are tuples: `("sym", "x")`, `("const", "pi")`, `("root", 2, 3)` for the third root of the prime 2,
and `("fn", name, ...)` for functions. Products apply i^2 = -1 and (p^(1/k))^k = p. Everything is bounded in size.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

Atom = tuple[Any, ...]
Monomial = tuple[tuple[Atom, int], ...]
Polynomial = dict[Monomial, Fraction]
Quotient = tuple[Polynomial, Polynomial]

MAX_POWER = 64
_MAX_TERMS = 200
_MAX_BITS = 13_000
"""Less than the 4,300 digits that Python converts to text."""
_LARGEST_PRIME = 2000
"""Factors are found by trial division up to here."""

IMAGINARY: Atom = ("const", "i")
ONE: Polynomial = {(): Fraction(1)}


class NotExact(Exception):
    """The expression has no normal form here, or it is too large."""


def rational_value(quotient: Quotient) -> Fraction | None:
    """The value of a normal form that is a rational number."""
    top, bottom = quotient
    if not top:
        return Fraction(0)
    if len(top) == len(bottom) == 1 and () in top and () in bottom:
        return top[()] / bottom[()]
    return None


def constant(value: Fraction) -> Quotient:
    return (_checked({(): value}) if value else {}), ONE


def atom_quotient(atom: Atom, exponent: int = 1) -> Quotient:
    return {((atom, exponent),): Fraction(1)}, ONE


def scale(quotient: Quotient, factor: Fraction) -> Quotient:
    top, bottom = quotient
    return ({monomial: coefficient * factor for monomial, coefficient in top.items()} if factor else {}), bottom


def add(left: Quotient, right: Quotient) -> Quotient:
    if left[1] == right[1]:
        return _normal(_sum(left[0], right[0]), left[1])
    return _normal(_sum(_product(left[0], right[1]), _product(right[0], left[1])), _product(left[1], right[1]))


def multiply(left: Quotient, right: Quotient) -> Quotient:
    return _normal(_product(left[0], right[0]), _product(left[1], right[1]))


def invert(quotient: Quotient) -> Quotient:
    if not quotient[0]:
        raise NotExact  # division by zero
    return _normal(quotient[1], quotient[0])


def _normal(top: Polynomial, bottom: Polynomial) -> Quotient:
    """Fold a denominator of one term into the numerator; make the first coefficient of a longer one 1."""
    if not top:
        return {}, ONE
    if not bottom:
        raise NotExact
    if len(bottom) == 1:
        ((monomial, coefficient),) = bottom.items()
        if not monomial and coefficient == 1:
            return top, ONE
        inverse = {tuple((atom, -exponent) for atom, exponent in monomial): 1 / coefficient}
        return _product(top, inverse), ONE
    leading = bottom[min(bottom, key=repr)]
    if leading != 1:
        top = {monomial: coefficient / leading for monomial, coefficient in top.items()}
        bottom = {monomial: coefficient / leading for monomial, coefficient in bottom.items()}
    if top.keys() == bottom.keys() and len({top[monomial] / bottom[monomial] for monomial in top}) == 1:
        return {(): next(iter(top.values())) / next(iter(bottom.values()))}, ONE
    return top, bottom


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for monomial, coefficient in right.items():
        value = total.get(monomial, Fraction(0)) + coefficient
        if value:
            total[monomial] = value
        else:
            total.pop(monomial, None)
    return _checked(total)


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    if left is ONE:
        return right
    if right is ONE:
        return left
    if len(left) * len(right) > 10 * _MAX_TERMS:
        raise NotExact
    total: Polynomial = {}
    for monomial, coefficient in left.items():
        for other, factor in right.items():
            merged, scale = _merge(monomial, other)
            value = total.get(merged, Fraction(0)) + coefficient * factor * scale
            if value:
                total[merged] = value
            else:
                total.pop(merged, None)
    return _checked(total)


def _checked(polynomial: Polynomial) -> Polynomial:
    if len(polynomial) > _MAX_TERMS:
        raise NotExact
    for coefficient in polynomial.values():
        if coefficient.numerator.bit_length() + coefficient.denominator.bit_length() > _MAX_BITS:
            raise NotExact
    return polynomial


def _merge(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials, and the rational factor that radicals and i leave."""
    if not left and not right:
        return (), Fraction(1)
    exponents: dict[Atom, int] = dict(left)
    for atom, exponent in right:
        exponents[atom] = exponents.get(atom, 0) + exponent
    scale = Fraction(1)
    for atom, exponent in exponents.items():
        if atom == IMAGINARY:
            # i^2 = -1
            halves, exponents[atom] = divmod(exponent, 2)
            scale *= (-1) ** (halves % 2)
        elif atom[0] == "root":
            # (p^(1/k))^k = p
            wholes, exponents[atom] = divmod(exponent, atom[2])
            if abs(wholes) > MAX_POWER:
                raise NotExact
            scale *= Fraction(atom[1]) ** wholes
    kept = [(atom, exponent) for atom, exponent in exponents.items() if exponent]
    if any(abs(exponent) > 10 * MAX_POWER for _, exponent in kept):
        raise NotExact
    kept.sort(key=repr)
    return tuple(kept), scale


def without_negative_powers(polynomial: Polynomial) -> Polynomial:
    """Times the smallest monomial that leaves no variable with a negative exponent, and none in every term."""
    lowest: dict[Atom, int] = {}
    for atom in {atom for monomial in polynomial for atom, _ in monomial}:
        if atom[0] == "sym":
            lowest[atom] = min(dict(monomial).get(atom, 0) for monomial in polynomial)
    shift = tuple(sorted(((a, -e) for a, e in lowest.items() if e < 0), key=repr))
    return _product(polynomial, {shift: Fraction(1)}) if shift else polynomial


def whole_power(base: Quotient, power: int) -> Quotient:
    if power < 0:
        return invert(whole_power(base, -power))
    value = rational_value(base)
    if value is not None:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) * power > _MAX_BITS:
            raise NotExact
        return constant(value**power)
    if power > MAX_POWER and not (len(base[0]) == 1 and base[1] is ONE):
        raise NotExact
    result: Quotient = (ONE, ONE)
    square = base
    while power:
        if power & 1:
            result = multiply(result, square)
        power >>= 1
        if power:
            square = multiply(square, square)
    return result


@lru_cache(maxsize=4096)
def prime_factors(number: int) -> tuple[tuple[int, int], ...]:
    """Factorisation by small primes; a remainder that may not be prime counts as one, if it is no perfect power."""
    factors = []
    divisor = 2
    while divisor * divisor <= number and divisor <= _LARGEST_PRIME:
        exponent = 0
        while number % divisor == 0:
            number //= divisor
            exponent += 1
        if exponent:
            factors.append((divisor, exponent))
        divisor += 1 if divisor == 2 else 2
    if number > 1:
        if divisor <= _LARGEST_PRIME or number < _LARGEST_PRIME**2:
            factors.append((number, 1))
        else:
            raise NotExact
    return tuple(factors)


def key_of(quotient: Quotient) -> Atom:
    """A normal form as something that can be part of an atom."""
    return tuple(tuple(sorted(polynomial.items(), key=repr)) for polynomial in quotient)
