"""Exact normal forms: an expression as a quotient of polynomials with rational coefficients.

A monomial is a tuple of (atom, exponent) pairs. Atoms are variables, constants, prime radicals, and functions of normal
forms. Rules applied on the way: i^2 = -1, radicals and logarithms split over primes, sine and its kin at the usual
angles. Equal normal forms prove equality; different ones prove nothing.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import factorial

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
    rational_value,
    scale,
    whole_power,
    without_negative_powers,
)
from rlcs.rewards.mathtext.special_values import (
    PI,
    E,
    angle_over_pi,
    cosine,
    is_radical,
    logarithm,
    of_rationals,
    root,
    root_of_radical,
    trigonometric,
)
from rlcs.rewards.mathtext.tree import MAX_FACTORIAL, Node


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
        return multiply(scale(quotient_of(node[1]), Fraction(1, 180)), atom_quotient(PI))
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
        return whole_power(root(value, power.denominator), power.numerator)
    if base == atom_quotient(E):
        return _exponential(exponent)
    if power is not None and power.denominator <= 12 and is_radical(base):
        return whole_power(root_of_radical(base, power.denominator), power.numerator)
    if power is not None and len(base[0]) == 1 and base[1] is ONE:
        # A power of a variable's power: (x)^(1/2) stays an atom of its own.
        ((monomial, coefficient),) = base[0].items()
        if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1 and power.denominator <= 12:
            radical = ("fn", "radical", monomial[0][0], power.denominator)
            return _radical_power(radical, monomial[0][0], power)
    return atom_quotient(("fn", "pow", key_of(base), key_of(exponent)))


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
        return add(cosine(angle), multiply(atom_quotient(IMAGINARY), cosine(angle - Fraction(1, 2))))
    if bottom is not ONE:
        return atom_quotient(("fn", "exp", key_of(exponent)))
    result: Quotient = (ONE, ONE)
    for monomial, coefficient in top.items():
        if monomial == ():
            factor = atom_quotient(E, int(coefficient)) if coefficient.denominator == 1 else None
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
    return tuple(sorted(((IMAGINARY, 1), (PI, 1)), key=repr))


def _function(name: str, arguments: list[Quotient]) -> Quotient:
    first = arguments[0]
    value = rational_value(first)
    if name == "root":
        degree = rational_value(arguments[1])
        if degree is None or degree.denominator != 1 or not 2 <= degree <= 12:
            raise NotExact
        if value is not None and value < 0 and degree % 2:
            return scale(root(-value, int(degree)), Fraction(-1))  # the real root
        return _power(first, constant(1 / degree))
    if name == "abs" and value is not None:
        return constant(abs(value))
    if name in ("floor", "ceil") and value is not None:
        floor = value.numerator // value.denominator
        return constant(Fraction(floor if name == "floor" or floor == value else floor + 1))
    if name == "sgn" and value is not None:
        return constant(Fraction((value > 0) - (value < 0)))
    if name in ("max", "min", "gcd", "lcm", "binom"):
        return of_rationals(name, [rational_value(argument) for argument in arguments])
    if name == "log":
        natural = logarithm(first)
        return natural if len(arguments) == 1 else multiply(natural, invert(logarithm(arguments[1])))
    angle = angle_over_pi(first)
    if angle is not None:
        special = trigonometric(name, angle)
        if special is not None:
            return special
    return atom_quotient(("fn", name, *(key_of(argument) for argument in arguments)))
