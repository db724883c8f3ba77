"""Exact normal forms: an expression as a quotient of polynomials with rational coefficients.

A monomial is a tuple of (atom, exponent) pairs. Atoms are variables, constants, prime radicals, and functions of normal
forms. Rules applied on the way: i^2 = -1, radicals and logarithms split over primes, sine and its kin at the usual
angles. Equal normal forms prove equality; different ones prove nothing.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import comb, factorial

from rlcs.rewards.mathtext.polynomials import (
    IMAGINARY,
    MAX_POWER,
    ONE,
    Atom,
    Monomial,
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
    whole_power,
    without_negative_powers,
)
from rlcs.rewards.mathtext.tree import MAX_FACTORIAL, Node

_PI: Atom = ("const", "pi")
_E: Atom = ("const", "e")


@lru_cache(maxsize=4096)
def quotient_of(node: Node) -> Quotient:
    """The normal form of an expression. Raises NotExact. Not to be changed by the caller."""
    kind = node[0]
    if kind == "rat":
        return constant(Fraction(node[1], node[2]))
    if kind == "sym":
        return atom_quotient(node)
    if kind == "const":
        if node[1] == "inf":
            raise NotExact
        return atom_quotient(node)
    if kind == "neg":
        return scale(quotient_of(node[1]), Fraction(-1))
    if kind == "pct":
        return scale(quotient_of(node[1]), Fraction(1, 100))
    if kind == "deg":
        return multiply(scale(quotient_of(node[1]), Fraction(1, 180)), atom_quotient(_PI))
    if kind == "add":
        total = quotient_of(node[1])
        for child in node[2:]:
            total = add(total, quotient_of(child))
        return total
    if kind == "mul":
        product = quotient_of(node[1])
        for child in node[2:]:
            product = multiply(product, quotient_of(child))
        return product
    if kind == "div":
        return multiply(quotient_of(node[1]), invert(quotient_of(node[2])))
    if kind == "pow":
        return _power(quotient_of(node[1]), quotient_of(node[2]))
    if kind == "fact":
        value = rational_value(quotient_of(node[1]))
        if value is None:
            return atom_quotient(("fn", "fact", key_of(quotient_of(node[1]))))
        if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
            raise NotExact
        return constant(Fraction(factorial(int(value))))
    if kind == "fn":
        return _function(node[1], [quotient_of(child) for child in node[2:]])
    raise NotExact


def equal(left: Node, right: Node) -> bool:
    """Whether the normal forms prove equality. Raises NotExact if there are none."""
    difference = add(quotient_of(left), scale(quotient_of(right), Fraction(-1)))
    return not difference[0]


def proportional(left: Node, right: Node) -> Fraction | None:
    """The constant c with left = c x right, up to factors that are powers of variables; None if there is none.

    Raises:
        NotExact: there are no normal forms.
    """
    tops = [without_negative_powers(quotient_of(node)[0]) for node in (left, right)]
    if not all(tops) or tops[0].keys() != tops[1].keys():
        return None
    ratios = {tops[0][monomial] / tops[1][monomial] for monomial in tops[0]}
    return ratios.pop() if len(ratios) == 1 else None


def _power(base: Quotient, exponent: Quotient) -> Quotient:
    power = rational_value(exponent)
    if power is not None and power.denominator == 1:
        return whole_power(base, int(power))
    value = rational_value(base)
    if value is not None and power is not None:
        if power.denominator > 12 or abs(power) > MAX_POWER:
            raise NotExact
        return whole_power(_root(value, power.denominator), power.numerator)
    if base == atom_quotient(_E):
        return _exponential(exponent)
    if power is not None and power.denominator <= 12 and _is_radical(base):
        return whole_power(_root_of_radical(base, power.denominator), power.numerator)
    if power is not None and len(base[0]) == 1 and base[1] is ONE:
        # A power of a variable's power: (x)^(1/2) stays an atom of its own.
        ((monomial, coefficient),) = base[0].items()
        if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1 and power.denominator <= 12:
            radical = ("fn", "radical", monomial[0][0], power.denominator)
            return _radical_power(radical, monomial[0][0], power)
    return atom_quotient(("fn", "pow", key_of(base), key_of(exponent)))


def _is_radical(quotient: Quotient) -> bool:
    """Whether it is a positive rational times radicals of primes."""
    top, bottom = quotient
    if bottom is not ONE or len(top) != 1:
        return False
    ((monomial, coefficient),) = top.items()
    return coefficient > 0 and all(atom[0] == "root" for atom, _ in monomial)


def _root_of_radical(quotient: Quotient, degree: int) -> Quotient:
    """sqrt(2 sqrt(3)) as radicals of primes; all of it is positive, so that roots of products split."""
    ((monomial, coefficient),) = quotient[0].items()
    result = _root(coefficient, degree)
    for atom, exponent in monomial:
        power = Fraction(exponent, atom[2] * degree)
        if power.denominator > MAX_POWER:
            raise NotExact
        result = multiply(result, atom_quotient(("root", atom[1], power.denominator), power.numerator))
    return result


def _radical_power(radical: Atom, base: Atom, power: Fraction) -> Quotient:
    """base^(whole + rest/k) as base^whole x radical^rest, so that sqrt(x)^3 and x sqrt(x) look the same."""
    whole, rest = divmod(power.numerator, power.denominator)
    result = atom_quotient(radical, rest)
    return multiply(result, atom_quotient(base, whole)) if whole else result


def _exponential(exponent: Quotient) -> Quotient:
    """e^(a i pi) at the usual angles; else e^a with the atoms split over the terms of the sum."""
    top, bottom = exponent
    if bottom is ONE and top.keys() == {_monomial_i_pi()}:
        angle = next(iter(top.values()))
        return add(_cosine(angle), multiply(atom_quotient(IMAGINARY), _cosine(angle - Fraction(1, 2))))
    if bottom is not ONE:
        return atom_quotient(("fn", "exp", key_of(exponent)))
    result: Quotient = (ONE, ONE)
    for monomial, coefficient in top.items():
        if monomial == ():
            factor = atom_quotient(_E, int(coefficient)) if coefficient.denominator == 1 else None
        else:
            factor = None
        if factor is None:
            # e^(3x/2) is (e^(x/2))^3, so that products of exponentials add up.
            if abs(coefficient.numerator) > MAX_POWER:
                raise NotExact
            factor = atom_quotient(("fn", "exp", monomial, coefficient.denominator), coefficient.numerator)
        result = multiply(result, factor)
    return result


def _monomial_i_pi() -> Monomial:
    return tuple(sorted(((IMAGINARY, 1), (_PI, 1)), key=repr))


def _root(value: Fraction, degree: int) -> Quotient:
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


def _function(name: str, arguments: list[Quotient]) -> Quotient:
    first = arguments[0]
    value = rational_value(first)
    if name == "root":
        degree = rational_value(arguments[1])
        if degree is None or degree.denominator != 1 or not 2 <= degree <= 12:
            raise NotExact
        if value is not None and value < 0 and degree % 2:
            return scale(_root(-value, int(degree)), Fraction(-1))  # the real root
        return _power(first, constant(1 / degree))
    if name == "abs" and value is not None:
        return constant(abs(value))
    if name in ("floor", "ceil") and value is not None:
        floor = value.numerator // value.denominator
        return constant(Fraction(floor if name == "floor" or floor == value else floor + 1))
    if name == "sgn" and value is not None:
        return constant(Fraction((value > 0) - (value < 0)))
    if name in ("max", "min", "gcd", "lcm", "binom"):
        return _of_rationals(name, [rational_value(argument) for argument in arguments])
    if name == "log":
        natural = _logarithm(first)
        return natural if len(arguments) == 1 else multiply(natural, invert(_logarithm(arguments[1])))
    angle = _angle(first)
    if angle is not None:
        special = _trigonometric(name, angle)
        if special is not None:
            return special
    return atom_quotient(("fn", name, *(key_of(argument) for argument in arguments)))


def _of_rationals(name: str, values: list[Fraction | None]) -> Quotient:
    from math import gcd, lcm

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


def _logarithm(argument: Quotient) -> Quotient:
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
        if coefficient > 0 and all(atom == _E or atom[0] == "root" for atom, _ in monomial):
            total = _logarithm(constant(coefficient))
            for atom, exponent in monomial:
                if atom == _E:
                    term = constant(Fraction(exponent))
                else:
                    term = scale(_logarithm(constant(Fraction(atom[1]))), Fraction(exponent, atom[2]))
                total = add(total, term)
            return total
    return atom_quotient(("fn", "log", key_of(argument)))


def _angle(argument: Quotient) -> Fraction | None:
    """The argument over pi, if that is rational."""
    if not argument[0]:
        return Fraction(0)
    if argument[1] is ONE and argument[0].keys() == {((_PI, 1),)}:
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


def _cosine(angle: Fraction) -> Quotient:
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
    return scale(_root(Fraction(radicand), 2), sign * factor)


def _trigonometric(name: str, angle: Fraction) -> Quotient | None:
    quarter = Fraction(1, 2)
    if name in ("cos", "sec"):
        cosine = _cosine(angle)
        return cosine if name == "cos" else invert(cosine)
    if name in ("sin", "csc"):
        sine = _cosine(angle - quarter)
        return sine if name == "sin" else invert(sine)
    if name in ("tan", "cot"):
        sine, cosine = _cosine(angle - quarter), _cosine(angle)
        return multiply(sine, invert(cosine)) if name == "tan" else multiply(cosine, invert(sine))
    return None
