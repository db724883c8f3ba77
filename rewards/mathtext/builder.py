"""Builds expression trees under limits: on their size, and on every rational number that they could be folded to.

Folding while building means that `10^{10^{10}}` is refused before anything computes it.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial

from rlcs.rewards.mathtext.numbers import decimal_value
from rlcs.rewards.mathtext.tree import (
    MAX_EXPONENT,
    MAX_FACTORIAL,
    MAX_HEIGHT,
    MAX_NODES,
    MAX_POWER_DIGITS,
    MathTextError,
    Node,
    children,
)

_MAX_BITS = int(MAX_POWER_DIGITS * 3.33)


class TreeBuilder:
    """Makes nodes, and knows the rational value of those that have one."""

    def __init__(self) -> None:
        self.nodes = 0
        # By id of a node: the node (kept alive, so that its id stays its own), its value if rational, its height.
        self.known: dict[int, tuple[Node, Fraction | None, int]] = {}

    def make(self, *node: object) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise MathTextError(f"the answer has more than {MAX_NODES} parts")
        value = self.fold(node)
        if value is not None:
            check_size(value)
        height = 1 + max((self.known[id(child)][2] for child in children(node) if id(child) in self.known), default=0)
        if height > MAX_HEIGHT:
            raise MathTextError(f"the answer is nested deeper than {MAX_HEIGHT}")
        self.known[id(node)] = (node, value, height)
        return node

    def value(self, node: Node) -> Fraction | None:
        known = self.known.get(id(node))
        return known[1] if known else None

    def fold(self, node: Node) -> Fraction | None:
        kind = node[0]
        if kind == "rat":
            return Fraction(node[1], node[2])
        if kind == "pow":
            return self.fold_power(self.value(node[1]), self.value(node[2]))
        if kind == "div" and self.value(node[2]) == 0:
            raise MathTextError("division by zero")
        if kind not in ("neg", "add", "mul", "div", "pct", "fact"):
            return None
        known = [self.value(child) for child in node[1:]]
        if kind == "fact":
            return self.fold_factorial(known[0])
        values = [value for value in known if value is not None]
        if len(values) < len(known):
            return None
        if kind == "neg":
            return -values[0]
        if kind == "pct":
            return values[0] / 100
        if kind == "div":
            return values[0] / values[1]
        total = values[0]
        for value in values[1:]:
            total = total + value if kind == "add" else total * value
            check_size(total)  # at each step, so that no step is slow
        return total

    def fold_power(self, base: Fraction | None, exponent: Fraction | None) -> Fraction | None:
        if exponent is None:
            return None
        if abs(exponent) > MAX_EXPONENT or exponent.denominator > MAX_EXPONENT:
            raise MathTextError(f"an exponent is beyond {MAX_EXPONENT}")
        if base is None or exponent.denominator != 1:
            return None
        if base == 0 and exponent <= 0:
            raise MathTextError("zero to a power that is not positive")
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and bits * abs(exponent) > 2 * _MAX_BITS:
            raise MathTextError(f"a power has more than {MAX_POWER_DIGITS} digits")
        return base ** int(exponent)

    def fold_factorial(self, value: Fraction | None) -> Fraction | None:
        if value is None:
            return None
        if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
            raise MathTextError(f"a factorial is of something that is no integer from 0 to {MAX_FACTORIAL}")
        return Fraction(factorial(int(value)))

    def number(self, digits: str) -> Node:
        mantissa, _, exponent = digits.lower().partition("e")
        value, places = decimal_value(mantissa, int(exponent or 0) if len(exponent) < 9 else 10**9)
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
            raise MathTextError(f"a number has more than {MAX_POWER_DIGITS} digits")  # JSON could not carry it
        return self.make("rat", value.numerator, value.denominator, places)


def check_size(value: Fraction) -> None:
    """Raise MathTextError if a number has more digits than are computed with."""
    if value.numerator.bit_length() + value.denominator.bit_length() > 2 * _MAX_BITS:
        raise MathTextError(f"a number has more than {MAX_POWER_DIGITS} digits")
