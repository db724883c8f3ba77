"""The plain form of a structure, and how one structure may stand for another."""

from __future__ import annotations

from fractions import Fraction

from rlcs.rewards.mathtext import exact
from rlcs.rewards.mathtext.numbers import Number
from rlcs.rewards.mathtext.polynomials import NotExact, rational_value
from rlcs.rewards.mathtext.tree import INFINITY, REALS, VALUES, MathTextError, Node, children, symbols_of

_FUNCTION_NAMES = frozenset("fghFGHP")
MINUS_INFINITY: Node = ("neg", INFINITY)


def number_of(node: Node) -> Number | None:
    """The number that a tree spells, with its decimal places; None if it is no rational number."""
    if node[0] == "rat":
        return Number(Fraction(node[1], node[2]), node[3])
    if node[0] in ("neg", "pct"):
        inner = number_of(node[1])
        if inner is None:
            return None
        if node[0] == "neg":
            return Number(-inner.value, inner.places)
        return Number(inner.value / 100, None if inner.places is None else inner.places + 2)
    power = _times_power_of_ten(node)
    if power is not None:
        mantissa, exponent = power
        return Number(
            mantissa.value * Fraction(10) ** exponent, None if mantissa.places is None else mantissa.places - exponent
        )
    try:
        value = rational_value(exact.quotient_of(node))
    except NotExact:
        return None
    return None if value is None else Number(value)


def simplify_structure(node: Node) -> Node:
    """Write out plus-minus, and give lists, chains and solutions their plain form."""
    kind = node[0]
    if node == REALS:
        return ("seq", "(", ")", MINUS_INFINITY, INFINITY)
    if kind == "rel" and node[3] == REALS:
        return (*node[:3], simplify_structure(REALS))
    if _holds_plus_minus(node):
        if kind == "rel" and node[1] == "=":
            return ("list", *(("rel", "=", node[2], side) for side in _write_out(node[3])))
        if kind in VALUES or kind == "pm":
            return ("list", *_write_out(node))
        if kind in ("list", "set"):
            items = [
                option for item in node[1:] for option in (_write_out(item) if _holds_plus_minus(item) else [item])
            ]
            return simplify_structure((kind, *items))
        raise MathTextError("plus-minus stands where it is not read")
    if kind == "list" and node[1][0] == "rel" and node[1][1] == "=" and all(item[0] in VALUES for item in node[2:]):
        # "x = 1, 2" is "x = 1 or x = 2"
        return ("list", node[1], *(("rel", "=", node[1][2], item) for item in node[2:]))
    if kind == "and":
        return _chain(node)
    if kind == "unit" and node[1][0] == "rel":
        return ("rel", *node[1][1:3], ("unit", node[1][3], node[2]))
    if kind == "union" and len(node) > 2:
        return ("union", *dict.fromkeys(node[1:]))
    return node


def _chain(node: Node) -> Node:
    """`x = 1/2 = 0.5` says `x = 1/2`, if the rest is true."""
    relations: tuple[Node, ...] = node[1:]
    if all(relation[1] == "=" for relation in relations):
        numbers = [number_of(relation[3]) for relation in relations]
        values = {number.value if number is not None else None for number in numbers}
        if None not in values and len(values) == 1:
            return relations[0]
    return node


def meet(response: Node, reference: Node) -> tuple[Node, Node]:
    """Bring two different structures to one, where one may stand for the other."""
    if response[0] == reference[0] == "rel" and (response[1] == "in") != (reference[1] == "in"):
        sides = [node[3] if node[1] == "in" else interval_of(node) for node in (response, reference)]
        return (response, reference) if None in sides else (sides[0] or response, sides[1] or reference)
    if response[0] == reference[0]:
        return response, reference
    defined = _defined_value(response)
    if defined is not None and reference[0] in VALUES:
        return defined, reference
    for index, (node, other) in enumerate(((response, reference), (reference, response))):
        bare = _bare(node, other)
        if bare is not None:
            return (bare, reference) if index == 0 else (response, bare)
    return response, reference


def _defined_value(node: Node) -> Node | None:
    """What a name is said to be: `2x + 3` in `y = 2x + 3`, `f(x) = 2x + 3` and `a_n = 2n + 3`."""
    if node[:2] != ("rel", "="):
        return None
    left: Node = node[2]
    right: Node = node[3]
    if left[0] == "mul" and len(left) == 3 and left[1][0] == "sym" and left[1][1][:1] in _FUNCTION_NAMES:
        left = left[1]  # the grammar reads f(x) as f times x
    return right if left[0] == "sym" and left[1] not in symbols_of(right) else None


def _bare(node: Node, other: Node) -> Node | None:
    """`node` without its variable, as an interval or as one of a list, if that is the form of `other`."""
    kind, form = node[0], other[0]
    if kind == "rel":
        operator: str = node[1]
        left: Node = node[2]
        right: Node = node[3]
        if operator == "=" and (form in VALUES or form in ("seq", "set", "matrix", "unit", "union")):
            if left[0] == "sym" and not symbols_of(right):
                return right
            if right[0] == "sym" and not symbols_of(left):
                return left
            if not symbols_of(node) and exact_equal(left, right):
                return right  # "2 + 3 = 5"
        if operator == "=" and form == left[0] == "seq" and all(item[0] == "sym" for item in left[3:]):
            return right  # "(x, y) = (1, 2)"
        if operator == "in" and form in ("seq", "union", "set", "rel", "and"):
            return right
    if kind in ("rel", "and") and form in ("seq", "union"):
        return interval_of(node)
    if kind == "list" and form == "union":
        parts = [interval_of(item) if item[0] in ("rel", "and") else item for item in node[1:]]
        return None if None in parts else ("union", *parts)
    if kind in VALUES and form in ("set", "list") and len(other) == 2:
        return (form, node)
    if kind == "set" and len(node) == 2 and form in VALUES:
        item: Node = node[1]
        return item
    return None


def exact_equal(left: Node, right: Node) -> bool:
    """Whether normal forms prove equality; False where there are none."""
    try:
        return exact.equal(left, right)
    except NotExact:
        return False


def interval_of(node: Node) -> Node | None:
    """The interval that an inequality in one variable describes."""
    if node[0] == "rel":
        operator, left, right = node[1:]
        if operator not in ("<", "<="):
            return None
        closed = operator == "<="
        if left[0] == "sym" and not symbols_of(right):
            return ("seq", "(", "]" if closed else ")", MINUS_INFINITY, right)
        if right[0] == "sym" and not symbols_of(left):
            return ("seq", "[" if closed else "(", ")", left, INFINITY)
        return None
    if len(node) == 3:
        first, second = node[1:]
        if first[1] in ("<", "<=") and second[1] in ("<", "<="):
            if first[3] != second[2]:
                first, second = second, first  # a > x > b
            if first[3] == second[2] and first[3][0] == "sym":
                opening = "[" if first[1] == "<=" else "("
                return ("seq", opening, "]" if second[1] == "<=" else ")", first[2], second[3])
    return None


def _holds_plus_minus(node: Node) -> bool:
    return node[0] == "pm" or any(_holds_plus_minus(child) for child in children(node))


def _write_out(node: Node) -> list[Node]:
    """The two values of an expression with plus-minus; all signs turn together."""
    return [_with_sign(node, sign) for sign in "+-"]


def _with_sign(node: Node, sign: str) -> Node:
    if node[0] == "pm":
        inner = _with_sign(node[2], sign)
        return inner if node[1] == sign else ("neg", inner)
    if node[0] in ("rat", "sym", "const", "word"):
        return node
    return tuple(_with_sign(part, sign) if isinstance(part, tuple) else part for part in node)


def infinity_sign(node: Node) -> int:
    if node == INFINITY:
        return 1
    return -1 if node == MINUS_INFINITY else 0


def _times_power_of_ten(node: Node) -> tuple[Number, int] | None:
    """Mantissa and exponent of `3.0 * 10^8`, which keeps its places."""
    if node[0] != "mul" or len(node) != 3 or node[2][0] != "pow" or node[2][1][:3] != ("rat", 10, 1):
        return None
    mantissa, exponent = number_of(node[1]), number_of(node[2][2])
    if mantissa is None or mantissa.places is None or exponent is None or exponent.value.denominator != 1:
        return None
    return mantissa, int(exponent.value)
