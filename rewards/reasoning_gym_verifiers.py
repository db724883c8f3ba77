"""Verification of reasoning-gym answers, in a worker process: the package's verifiers, and ours where those are unfit.

Of the package's verifiers, string_insertion, spiral_matrix, binary_matrix and n_queens `eval` the answer; countdown,
puzzle24, polynomial_multiplication and the integrations give it to sympy's `parse_expr`, which evaluates it as Python.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import reasoning_gym

from rlcs.rewards.mathtext import exact, numeric
from rlcs.rewards.mathtext.grammar import parse_answer
from rlcs.rewards.mathtext.polynomials import NotExact, rational_value
from rlcs.rewards.mathtext.tree import MathTextError, Node, children

Entry = dict[str, Any]
_datasets: dict[str, Any] = {}
_POINTS = 6
_GRID_TASKS = frozenset({"arc_agi", "rearc"})


def verify(request: Any) -> float:
    """The worker's target: `[task, answer, entry]` to the verifier's value."""
    task, answer, entry = request
    own = OWN_VERIFIERS.get(task)
    if own is not None:
        try:
            return float(own(answer.strip(), entry))
        except (MathTextError, NotExact, numeric.Undefined):
            return 0.0
    if task not in _datasets:
        _datasets[task] = reasoning_gym.create_dataset(task, size=1, seed=0)
    if task in _GRID_TASKS:
        # The package compares with a tuple of tuples, which JSON has made lists of.
        grid = tuple(tuple(row) for row in entry["metadata"]["output"])
        entry = {**entry, "metadata": {**entry["metadata"], "output": grid}}
    value = float(_datasets[task].score_answer(answer=answer, entry=entry))
    return 0.0 if math.isnan(value) else value


def same_text(answer: str, entry: Entry) -> bool:
    """The reference, letter by letter."""
    return bool(answer == entry["answer"].strip())


def same_truth_value(answer: str, entry: Entry) -> bool:
    """`True` or `False`; the package takes any text for true."""
    return bool(answer.casefold() == entry["answer"].strip().casefold())


def one_of_the_boards(answer: str, entry: Entry) -> bool:
    """One of all solutions of the n queens."""
    return answer in [board.strip() for board in entry["metadata"]["valid_answers"]]


def sorted_numbers(answer: str, entry: Entry) -> bool:
    """The very numbers in the right order; the package lets each be off by one."""
    found, expected = (json.loads(text.replace("'", '"')) for text in (answer, entry["answer"]))
    if not isinstance(found, list) or len(found) != len(expected):
        return False
    return all(math.isclose(float(a), float(b), rel_tol=1e-9) for a, b in zip(found, expected, strict=True))


def complex_number(answer: str, entry: Entry) -> bool:
    """The complex number; the package takes `nan` for any."""
    value, _ = numeric.evaluate(parse_answer(answer))
    return bool(abs(value - complex(*entry["metadata"]["result"])) < 1e-6)


def makes_target(answer: str, entry: Entry) -> bool:
    """Countdown: an expression of the given numbers, each used once, with + - * / only, that makes the target."""
    return _arithmetic(answer, entry["metadata"]["numbers"]) == Fraction(entry["metadata"]["target"])


def makes_24(answer: str, entry: Entry) -> bool:
    """As countdown; the package lets any four numbers of the range make 24."""
    return _arithmetic(answer, entry["metadata"]["numbers"]) == 24


def expanded_product(answer: str, entry: Entry) -> bool:
    """The product, multiplied out."""
    return "(" not in answer and exact.equal(parse_answer(answer), parse_answer(entry["answer"]))


def antiderivative(answer: str, entry: Entry) -> bool:
    """A function whose derivative is the integrand, by value at several points."""
    import sympy

    from rlcs.rewards.mathtext.symbolic import build

    variable = entry["metadata"]["variable"]
    derivative = sympy.diff(build(parse_answer(answer)), sympy.Symbol(variable))
    integrand = build(parse_answer(entry["metadata"]["integrand"]))
    difference = derivative - integrand
    if difference.free_symbols - {sympy.Symbol(variable)}:
        return False
    agreements = 0
    for point in range(1, _POINTS + 1):
        place = {sympy.Symbol(variable): sympy.Rational(7 * point + 2, 11)}
        off, size = (abs(part.subs(place).evalf(30)) for part in (difference, integrand))
        if not (off.is_number and size.is_number and off.is_finite and size.is_finite):
            continue
        if off > 1e-15 * (1 + size):
            return False
        agreements += 1
    return agreements >= _POINTS // 2


def _arithmetic(text: str, numbers: list[int]) -> Fraction | None:
    """The value of an expression that uses each of the numbers once; None if it does not."""
    tree = parse_answer(text)
    leaves: Counter[int] = Counter()

    def walk(node: Node) -> bool:
        if node[0] == "rat":
            leaves[node[1]] += 1
            return node[2] == 1 and node[3] is None
        return node[0] in ("add", "mul", "neg", "div") and all(walk(child) for child in children(node))

    if not walk(tree) or leaves != Counter(numbers):
        return None
    return rational_value(exact.quotient_of(tree))


OWN_VERIFIERS: dict[str, Callable[[str, Entry], bool]] = {
    "string_insertion": same_text,
    "spiral_matrix": same_text,
    "binary_matrix": same_text,
    "n_queens": one_of_the_boards,
    "game_of_life_halting": same_truth_value,
    "number_sorting": sorted_numbers,
    "complex_arithmetic": complex_number,
    "countdown": makes_target,
    "puzzle24": makes_24,
    "polynomial_multiplication": expanded_product,
    "simple_integration": antiderivative,
    "intermediate_integration": antiderivative,
}
"""Verifiers that stand in for the package's."""
