"""Exact values of functions: radicals and logarithms over primes, sine and its kin at the usual angles."""

from __future__ import annotations

from fractions import Fraction
from math import comb, gcd, lcm

from rlcs.rewards.mathtext.polynomials import (
    IMAGINARY,
    MAX_POWER,
    ONE,
    Atom,
    NotExact,
    Quotient,
    add,
    atom_quotient,
    constant,
    invert,
    key_of,
    multiply,
    prime_factors,
    rational_value,
    scale,
)
from rlcs.rewards.mathtext.tree import MAX_FACTORIAL

PI: Atom = ("const", "pi")
E: Atom = ("const", "e")


def is_radical(quotient: Quotient) -> bool:
    """Whether it is a positive rational times radicals of primes."""
    top, bottom = quotient
    if bottom is not ONE or len(top) != 1:
        return False
    ((monomial, coefficient),) = top.items()
    return coefficient > 0 and all(atom[0] == "root" for atom, _ in monomial)


def root(value: Fraction, degree: int) -> Quotient:
    """The principal root of a rational number, as a rational times radicals of primes."""
    if value == 0:
        return {}, ONE
    result: Quotient = (ONE, ONE)
    if value < 0:
        if degree != 2:
            raise NotExact
        result, value = atom_quotient(IMAGINARY), -value
    for number, sign in ((value.numerator, 1), (value.denominator, -1)):
        for prime, exponent in prime_factors(number):
            whole, rest = divmod(sign * exponent, degree)
            result = scale(result, Fraction(prime) ** whole)
            if rest:
                result = multiply(result, _reduced_radical(prime, degree, rest))
    return result


def _reduced_radical(prime: int, degree: int, exponent: int) -> Quotient:
    """prime^(exponent/degree) with the fraction in lowest terms."""
    power = Fraction(exponent, degree)
    return atom_quotient(("root", prime, power.denominator), power.numerator)


def root_of_radical(quotient: Quotient, degree: int) -> Quotient:
    """sqrt(2 sqrt(3)) as radicals of primes; all of it is positive, so that roots of products split."""
    ((monomial, coefficient),) = quotient[0].items()
    result = root(coefficient, degree)
    for atom, exponent in monomial:
        power = Fraction(exponent, atom[2] * degree)
        if power.denominator > MAX_POWER:
            raise NotExact
        result = multiply(result, atom_quotient(("root", atom[1], power.denominator), power.numerator))
    return result


def logarithm(argument: Quotient) -> Quotient:
    """The natural logarithm, split over primes and powers of e."""
    value = rational_value(argument)
    if value is not None:
        if value <= 0:
            raise NotExact
        total: Quotient = ({}, ONE)
        for number, sign in ((value.numerator, 1), (value.denominator, -1)):
            for prime, exponent in prime_factors(number):
                total = add(total, scale(atom_quotient(("fn", "log", prime)), Fraction(sign * exponent)))
        return total
    top, bottom = argument
    if bottom is ONE and len(top) == 1:
        ((monomial, coefficient),) = top.items()
        if coefficient > 0 and all(atom == E or atom[0] == "root" for atom, _ in monomial):
            total = logarithm(constant(coefficient))
            for atom, exponent in monomial:
                if atom == E:
                    term = constant(Fraction(exponent))
                else:
                    term = scale(logarithm(constant(Fraction(atom[1]))), Fraction(exponent, atom[2]))
                total = add(total, term)
            return total
    return atom_quotient(("fn", "log", key_of(argument)))


def of_rationals(name: str, values: list[Fraction | None]) -> Quotient:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        raise NotExact
    if name in ("max", "min"):
        return constant(max(known) if name == "max" else min(known))
    if any(value.denominator != 1 for value in known):
        raise NotExact
    whole = [int(value) for value in known]
    if name == "binom":
        if len(whole) != 2 or not 0 <= whole[1] <= whole[0] <= 2 * MAX_FACTORIAL:
            raise NotExact
        return constant(Fraction(comb(*whole)))
    return constant(Fraction(gcd(*whole) if name == "gcd" else lcm(*whole)))


def angle_over_pi(argument: Quotient) -> Fraction | None:
    """The argument over pi, if that is rational."""
    if not argument[0]:
        return Fraction(0)
    if argument[1] is ONE and argument[0].keys() == {((PI, 1),)}:
        return next(iter(argument[0].values()))
    return None


_COSINES: dict[Fraction, tuple[Fraction, int]] = {
    Fraction(0): (Fraction(1), 1),
    Fraction(1, 6): (Fraction(1, 2), 3),
    Fraction(1, 4): (Fraction(1, 2), 2),
    Fraction(1, 3): (Fraction(1, 2), 1),
    Fraction(1, 2): (Fraction(0), 1),
}
"""Angle over pi to (rational, radicand): cos = rational x sqrt(radicand)."""


def cosine(angle: Fraction) -> Quotient:
    """cos(angle x pi). Raises NotExact if it is none of the usual angles."""
    angle %= 2
    if angle > 1:
        angle = 2 - angle
    sign = Fraction(1)
    if angle > Fraction(1, 2):
        angle, sign = 1 - angle, Fraction(-1)
    if angle not in _COSINES:
        raise NotExact
    factor, radicand = _COSINES[angle]
    return scale(root(Fraction(radicand), 2), sign * factor)


def trigonometric(name: str, angle: Fraction) -> Quotient | None:
    quarter = Fraction(1, 2)
    if name in ("cos", "sec"):
        value = cosine(angle)
        return value if name == "cos" else invert(value)
    if name in ("sin", "csc"):
        value = cosine(angle - quarter)
        return value if name == "sin" else invert(value)
    if name in ("tan", "cot"):
        across, along = cosine(angle - quarter), cosine(angle)
        return multiply(across, invert(along)) if name == "tan" else multiply(along, invert(across))
    return None
