"""Expression trees: nested tuples `(kind, *children)`, which JSON carries to the workers and back.

| kind | children | means |
|---|---|---|
| `rat` | numerator, denominator, places or None | a number; `places` counts the digits after a decimal point |
| `sym` | name | a variable |
| `const` | `pi`, `e`, `i`, `inf` | a constant |
| `add`, `mul` | two or more nodes | sum, product |
| `neg`, `fact`, `deg`, `pct` | a node | minus, factorial, degrees, percent |
| `div`, `pow` | two nodes | quotient, power |
| `fn` | name, arguments | a function: `sin`, `log` (argument, base), `root` (radicand, degree), ... |
| `pm` | `+` or `-`, a node | plus-minus (or minus-plus) the node |
| `seq` | opening, closing, items | a tuple or an interval |
| `set`, `list`, `union` | items | unordered: a set, `1, 2` or `1 or 2`, `A \\cup B` |
| `matrix` | rows, each a tuple of nodes | a matrix |
| `rel` | operator, left, right | `=`, `!=`, `<`, `<=`, `in` |
| `and` | relations | a chain such as `1 < x < 2` |
| `ratio` | items | `3:4` |
| `word` | text | an answer in words |
| `unit` | a node, text | a value with a unit |
"""

from __future__ import annotations

from typing import Any

Node = tuple[Any, ...]

MAX_CHARACTERS = 2000
MAX_DEPTH = 64
"""Of brackets, arguments and exponents in the text."""
MAX_HEIGHT = 150
"""Of the tree."""
MAX_NODES = 500
MAX_DIGITS = 1000
MAX_POWER_DIGITS = 4000
"""Digits of a number that is computed from a literal power."""
MAX_EXPONENT = 5000
MAX_SCIENTIFIC_EXPONENT = 10_000
MAX_FACTORIAL = 500

INFINITY: Node = ("const", "inf")
EMPTY_SET: Node = ("set",)
REALS: Node = ("sym", "mathbb_R")
VALUES = frozenset({"rat", "sym", "const", "add", "mul", "neg", "fact", "deg", "pct", "div", "pow", "fn"})
"""Kinds of nodes that are values, not structures."""


class MathTextError(ValueError):
    """A text is no mathematical answer that can be read, or is larger than the limits."""


def rational(numerator: int, denominator: int = 1, places: int | None = None) -> Node:
    """A number node."""
    return ("rat", numerator, denominator, places)


def children(node: Node) -> tuple[Node, ...]:
    """The child nodes."""
    kind = node[0]
    if kind in ("rat", "sym", "const", "word"):
        return ()
    if kind in ("fn", "rel", "pm"):
        return node[2:]
    if kind == "seq":
        return node[3:]
    if kind == "unit":
        return node[1:2]
    if kind == "matrix":
        return tuple(entry for row in node[1] for entry in row)
    return node[1:]


def symbols_of(node: Node) -> frozenset[str]:
    """Names of the variables in a tree."""
    if node[0] == "sym":
        return frozenset((node[1],))
    found: frozenset[str] = frozenset()
    for child in children(node):
        found |= symbols_of(child)
    return found


def from_json(value: Any) -> Any:
    """A tree as it was before JSON made lists of its tuples."""
    return tuple(from_json(item) for item in value) if isinstance(value, list) else value
