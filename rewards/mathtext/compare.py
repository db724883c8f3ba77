"""Whether two expression trees are the same answer: structures by structure, values by value.

Verdicts are three-valued: True, False, or None for undecided. `Comparison` decides what exact and numeric arithmetic
can; a subclass (`rlcs.rewards.mathtext.symbolic`) decides more by overriding `prove`.

| structure | equal if |
|---|---|
| values | numbers: `same_number`; else proven by normal forms, refuted by value; with variables: equal at all points |
| tuple, interval | brackets and items in order; `(1,2)` is not `[1,2]` |
| set, list, `or` | the same items in any order; a set ignores repetition |
| union | the same parts in any order |
| matrix | the same shape and entries |
| equation | left minus right is the same up to a constant factor; `x = 3` is also `3` |
| inequality | the same up to a positive factor; `x > 2` is also `(2, \\infty)` |
| words | the same letters, whatever the case |
| unit | the same value and unit; a missing unit is forgiven |
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

from rlcs.rewards.mathtext import exact, numeric
from rlcs.rewards.mathtext.numbers import Number, same_number
from rlcs.rewards.mathtext.polynomials import NotExact
from rlcs.rewards.mathtext.structure import infinity_sign, meet, number_of, simplify_structure
from rlcs.rewards.mathtext.tree import INFINITY, VALUES, MathTextError, Node, children, symbols_of

Verdict = bool | None

_ENOUGH_POINTS = 2
"""That must have values before functions count as equal."""
_IMAGINARY: Node = ("const", "i")
_MAX_ITEMS = 64
_LONG_DECIMAL = 15


class Comparison:
    """Compares a response's tree with a reference's."""

    def __init__(self) -> None:
        self.used_numeric = False
        """Whether an equality rests on values at many points, not on a proof."""

    def same(self, response: Node, reference: Node) -> Verdict:
        """Whether the response is the reference. Raises MathTextError if one of them has too many parts."""
        return self._same(simplify_structure(response), simplify_structure(reference))

    def prove(self, response: Node, reference: Node) -> Verdict:
        """Decide an equality of constants that holds to 40 digits; None here."""
        return None

    def _same(self, response: Node, reference: Node) -> Verdict:
        if response == reference:
            return True
        if reference[0] == "unit" or response[0] == "unit":
            return self._same_units(response, reference)
        response, reference = meet(response, reference)
        kinds = (response[0], reference[0])
        if kinds[0] in VALUES and kinds[1] in VALUES:
            if _holds_structure(response) or _holds_structure(reference):
                return self._same_parts(response, reference)
            return self.same_value(response, reference)
        if kinds == ("seq", "seq"):
            return self._same_sequence(response, reference)
        if set(kinds) <= {"set", "list"}:
            return self._same_items(response, reference)
        if kinds == ("union", "union"):
            return self._unordered(response[1:], reference[1:])
        if kinds == ("matrix", "matrix"):
            return self._same_matrix(response, reference)
        if kinds == ("rel", "rel"):
            return self._same_relation(response, reference)
        if kinds == ("and", "and"):
            return self._unordered(response[1:], reference[1:])
        if kinds == ("ratio", "ratio"):
            return self._same_ratio(response, reference)
        return False  # different structures, or words that differ

    # --- values

    def same_value(self, response: Node, reference: Node) -> Verdict:
        """Equality of two values."""
        infinities = infinity_sign(response), infinity_sign(reference)
        if any(infinities):
            return infinities[0] == infinities[1]
        if _holds(response, INFINITY):
            return False
        if reference[0] == "deg" and number_of(response) is not None:
            response = ("deg", response)  # the unit of an angle may be left out
        numbers = number_of(response), number_of(reference)
        if numbers[0] is not None and numbers[1] is not None:
            return same_number(numbers[0], numbers[1])
        if numbers[1] is not None and numbers[1].places is not None and not symbols_of(response):
            return self._rounds_to(response, numbers[1])
        try:
            if exact.equal(response, reference):
                return True
        except NotExact:
            pass
        return self._by_value(response, reference)

    def _rounds_to(self, response: Node, reference: Number) -> Verdict:
        try:
            value, _ = numeric.evaluate(response)
        except numeric.TooLarge:
            return False
        except numeric.Undefined:
            return None
        if abs(numeric.context().im(value)) > 1e-30:
            return False
        return same_number(Number(_fraction(value)), reference)

    def _by_value(self, response: Node, reference: Node) -> Verdict:
        names = symbols_of(response) | symbols_of(reference)
        number = number_of(response)
        if number is not None and number.places is not None and number.places > _LONG_DECIMAL:
            return False  # an irrational number written out, which agrees to as many digits as it has
        if not names:
            verdict = self._agree(response, reference, numeric.Domain.COMPLEX, range(1))
            return self.prove(response, reference) if verdict in (True, None) else False
        domains = [numeric.Domain.COMPLEX]
        if not (_holds(response, _IMAGINARY) or _holds(reference, _IMAGINARY)):
            domains = [numeric.Domain.REAL, numeric.Domain.COMPLEX]
        for domain in domains:
            verdict = self._agree(response, reference, domain, domain.points)
            if verdict is not None:
                self.used_numeric = self.used_numeric or verdict
                return verdict
        return self.prove(response, reference)

    def _agree(self, response: Node, reference: Node, domain: numeric.Domain, points: range) -> Verdict:
        """Whether the values are the same at the points; None if too few points have values."""
        needed = min(_ENOUGH_POINTS, len(points))
        agreements, known = 0, 0
        for point in points:
            value = _value_at(reference, point, domain)
            known += value is not None
            try:
                other = numeric.evaluate(response, point, domain)
            except numeric.TooLarge:
                if len(points) == 1:
                    return False  # no answer is a number that cannot even be written down
                continue
            except numeric.Undefined:
                continue
            if value is not None:
                if numeric.differ(other, value):
                    return False
                agreements += 1
        if agreements >= needed:
            return True
        if len(points) > 1 and domain is numeric.Domain.COMPLEX and not agreements and known >= needed:
            return False  # the reference has values where the response has none
        return None

    # --- structures

    def _same_units(self, response: Node, reference: Node) -> Verdict:
        units = {_plain_unit(node[2]) for node in (response, reference) if node[0] == "unit"}
        if len(units) > 1:
            return False
        values = [node[1] if node[0] == "unit" else node for node in (response, reference)]
        return self._same(values[0], values[1])

    def _same_parts(self, response: Node, reference: Node) -> Verdict:
        """Equality of what is no value as a whole, such as the point `A(2, 3)`."""
        parts, others = children(response), children(reference)
        if response[0] != reference[0] or len(parts) != len(others) or not parts:
            return False
        return _all(self._same(a, b) for a, b in zip(parts, others, strict=True))

    def _same_sequence(self, response: Node, reference: Node) -> Verdict:
        if response[1:3] != reference[1:3] or len(response) != len(reference):
            return False
        return _all(self._same(a, b) for a, b in zip(response[3:], reference[3:], strict=True))

    def _same_items(self, response: Node, reference: Node) -> Verdict:
        left, right = response[1:], reference[1:]
        if "set" in (response[0], reference[0]):
            left, right = self._distinct(left), self._distinct(right)
        return self._unordered(left, right)

    def _distinct(self, items: tuple[Node, ...]) -> tuple[Node, ...]:
        kept: list[Node] = []
        for item in items[:_MAX_ITEMS]:
            if not any(self._same(item, other) for other in kept):
                kept.append(item)
        return (*kept, *items[_MAX_ITEMS:])

    def _unordered(self, left: tuple[Node, ...], right: tuple[Node, ...]) -> Verdict:
        """Whether the items can be paired. Equality is transitive, so that the first partner found is good enough."""
        if len(left) != len(right):
            return False
        if len(left) > _MAX_ITEMS:
            raise MathTextError(f"there are more than {_MAX_ITEMS} items")
        remaining = list(right)
        undecided = False
        for item in left:
            verdicts = [self._same(item, other) for other in remaining]
            if True in verdicts:
                remaining.pop(verdicts.index(True))
            elif None in verdicts:
                undecided = True
            else:
                return False
        return None if undecided else True

    def _same_matrix(self, response: Node, reference: Node) -> Verdict:
        rows, others = response[1], reference[1]
        if len(rows) != len(others) or len(rows[0]) != len(others[0]):
            return False
        return _all(
            self._same(a, b) for row, other in zip(rows, others, strict=True) for a, b in zip(row, other, strict=True)
        )

    def _same_ratio(self, response: Node, reference: Node) -> Verdict:
        if len(response) != len(reference):
            return False
        return _all(
            self.same_value(("mul", a, d), ("mul", b, c))
            for (a, b), (c, d) in zip(pairwise(response[1:]), pairwise(reference[1:]), strict=True)
        )

    def _same_relation(self, response: Node, reference: Node) -> Verdict:
        if response[1] != reference[1]:
            return False
        operator, (left, right), (other_left, other_right) = response[1], response[2:], reference[2:]
        direct = _all([self._same(left, other_left), self._same(right, other_right)])
        if direct or operator == "in":
            return direct
        if not all(side[0] in VALUES for side in (left, right, other_left, other_right)):
            if operator in ("=", "!="):
                return _all([self._same(left, other_right), self._same(right, other_left)])
            return direct
        factor = self._factor(("add", left, ("neg", right)), ("add", other_left, ("neg", other_right)))
        if factor is None or factor == 0:
            return False
        return True if operator in ("=", "!=") else factor > 0

    def _factor(self, left: Node, right: Node) -> Fraction | None:
        """The constant c with left = c x right; only its sign is exact where it comes from values at points."""
        try:
            factor = exact.proportional(left, right)
            if factor is not None:
                return factor
        except NotExact:
            pass
        mp = numeric.context()
        ratios = []
        for point in numeric.Domain.COMPLEX.points:
            try:
                a, b = numeric.evaluate(left, point)[0], numeric.evaluate(right, point)[0]
            except numeric.Undefined:
                continue
            if abs(b) < 1e-20 or abs(a) < 1e-20:
                return None
            ratios.append(a / b)
        if len(ratios) < 2 or any(abs(ratio / ratios[0] - 1) > 1e-25 for ratio in ratios):
            return None
        if abs(mp.im(ratios[0])) > 1e-25:
            return None
        self.used_numeric = True
        return Fraction(1) if mp.re(ratios[0]) > 0 else Fraction(-1)


def _holds(node: Node, part: Node) -> bool:
    return node == part or any(_holds(child, part) for child in children(node))


def _holds_structure(node: Node) -> bool:
    return node[0] not in VALUES or any(_holds_structure(child) for child in children(node))


def _value_at(node: Node, point: int, domain: numeric.Domain) -> numeric.Value | None:
    try:
        return numeric.evaluate(node, point, domain)
    except numeric.Undefined:
        return None


def _plain_unit(unit: str) -> str:
    """A unit without what makes no difference."""
    unit = unit.strip(".").replace("{", "").replace("}", "")
    return unit[:-1] if len(unit) > 3 and unit.endswith("s") else unit


def _fraction(value: object) -> Fraction:
    """A 40-digit number as the fraction that it is."""
    sign, mantissa, exponent, _ = numeric.context().re(value)._mpf_
    return Fraction(-int(mantissa) if sign else int(mantissa)) * Fraction(2) ** int(exponent)


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    """Conjunction of three-valued verdicts; stops at the first False."""
    result: Verdict = True
    for verdict in verdicts:
        if verdict is False:
            return False
        if verdict is None:
            result = None
    return result
