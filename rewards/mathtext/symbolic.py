"""What exact and numeric arithmetic leave undecided, by sympy. Runs in a worker process that can be killed.

Expressions are built from trees with sympy's constructors; sympy never sees a text.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import sympy

from rlcs.rewards.mathtext.compare import Comparison, Verdict
from rlcs.rewards.mathtext.tree import MathTextError, Node, from_json

_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}
_FUNCTIONS = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "sinh": sympy.sinh,
    "cosh": sympy.cosh, "tanh": sympy.tanh, "arcsinh": sympy.asinh, "arccosh": sympy.acosh, "arctanh": sympy.atanh,
    "log": sympy.log, "abs": sympy.Abs, "floor": sympy.floor, "ceil": sympy.ceiling, "sgn": sympy.sign,
    "arg": sympy.arg, "Re": sympy.re, "Im": sympy.im, "max": sympy.Max, "min": sympy.Min, "gcd": sympy.gcd,
    "lcm": sympy.lcm, "binom": sympy.binomial,
}  # fmt: skip


def compare(request: Any) -> list[Any]:
    """The worker's target: `[response tree, reference tree]` to `[verdict or None, whether numeric]`."""
    response, reference = from_json(request)
    comparison = _SymbolicComparison()
    verdict = comparison.same(response, reference)
    return [verdict, comparison.used_numeric]


class _SymbolicComparison(Comparison):
    def prove(self, response: Node, reference: Node) -> Verdict:
        difference = build(response) - build(reference)
        if difference.is_zero:
            return True
        for simplified in (sympy.expand, sympy.radsimp, sympy.simplify, sympy.trigsimp):
            difference = simplified(difference)
            if difference.is_zero:
                return True
            if difference.is_Rational:
                return False
        return True if difference.equals(0) else None


def build(node: Node) -> Any:
    """A sympy expression. Raises MathTextError for what is no value."""
    kind = node[0]
    if kind == "rat":
        return sympy.Rational(node[1], node[2])
    if kind == "sym":
        return sympy.Symbol(node[1])
    if kind == "const":
        return _CONSTANTS[node[1]]
    parts = [build(child) for child in (node[2:] if kind == "fn" else node[1:])]
    if kind == "neg":
        return -parts[0]
    if kind == "add":
        return sympy.Add(*parts)
    if kind == "mul":
        return sympy.Mul(*parts)
    if kind == "div":
        return parts[0] / parts[1]
    if kind == "pow":
        return sympy.Pow(parts[0], parts[1])
    if kind == "fact":
        return sympy.factorial(parts[0])
    if kind == "pct":
        return parts[0] / 100
    if kind == "deg":
        return parts[0] * sympy.pi / 180
    if kind == "fn" and node[1] == "root":
        base, degree = parts
        return sympy.real_root(base, degree) if base.is_negative and degree.is_odd else sympy.Pow(base, 1 / degree)
    if kind == "fn" and node[1] in ("gcd", "lcm"):
        return reduce(_FUNCTIONS[node[1]], parts)
    if kind == "fn" and node[1] in _FUNCTIONS:
        return _FUNCTIONS[node[1]](*parts)
    raise MathTextError(f"{kind} is no value")


def _warm_up() -> None:
    """Make sympy import and cache what comparisons use, once in the nursery instead of in every worker."""
    root: Node = ("fn", "root", ("add", ("rat", 3, 1, None), ("rat", 2, 1, None)), ("rat", 2, 1, None))
    nested: Node = ("fn", "root", ("add", root, ("rat", 1, 1, None)), ("rat", 2, 1, None))
    _SymbolicComparison().prove(nested, ("fn", "cos", ("div", ("const", "pi"), ("rat", 5, 1, None))))


_warm_up()
