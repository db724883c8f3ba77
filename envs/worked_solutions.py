"""Worked solutions of a few reasoning-gym tasks, short enough for a small policy to learn in a cold start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlcs.envs.base import WorkedSolution

Entry = dict[str, Any]
"""A reasoning-gym item: `question`, `answer`, `metadata`."""


def solve_chain_sum(entry: Entry) -> WorkedSolution:
    """Running totals: `7-9+2` becomes `7-9=-2 -2+2=0`."""
    tokens = entry["metadata"]["expression"].split()
    total = int(tokens[0])
    steps = []
    for operator, term in zip(tokens[1::2], tokens[2::2], strict=True):
        after = total + int(term) if operator == "+" else total - int(term)
        steps.append(f"{total}{operator}{term}={after}")
        total = after
    return WorkedSolution(" ".join(steps), str(total))


def solve_products(entry: Entry) -> WorkedSolution:
    """Running products; a factor of several digits is split into its places: `12*34` is `12*4=48 12*30=360 48+360=408`."""
    factors = [int(token) for token in entry["metadata"]["expression"].split(" * ")]
    total = factors[0]
    steps = []
    for factor in factors[1:]:
        places = [int(digit) * 10**place for place, digit in enumerate(reversed(str(factor)))]
        if len(places) == 1:
            steps.append(f"{total}*{factor}={total * factor}")
        else:
            partial = 0
            for value in places:
                product = total * value
                steps.append(f"{total}*{value}={product}")
                if partial:
                    steps.append(f"{partial}+{product}={partial + product}")
                partial += product
        total *= factor
    return WorkedSolution(" ".join(steps), str(total))


def solve_spell_backward(entry: Entry) -> WorkedSolution:
    """The letters one by one, then the same from the end."""
    word = entry["metadata"]["word"]
    return WorkedSolution(f"{' '.join(word)}|{' '.join(reversed(word))}", entry["answer"])


def solve_letter_counting(entry: Entry) -> WorkedSolution:
    """The running total after each word."""
    letter = entry["metadata"]["target_letter"]
    total = 0
    totals = []
    for word in entry["metadata"]["span"]:
        total += word.lower().count(letter)
        totals.append(str(total))
    return WorkedSolution(" ".join(totals), str(total))


def solve_gcd(entry: Entry) -> WorkedSolution:
    """Euclid's remainders: of 12 and 18 they are `18,12,6`; a third number goes on with the result."""
    numbers = entry["metadata"]["numbers"]
    total = numbers[0]
    runs = []
    for number in numbers[1:]:
        high, low = max(total, number), min(total, number)
        remainders = [high]
        while low:
            remainders.append(low)
            high, low = low, high % low
        runs.append(",".join(str(value) for value in remainders))
        total = high
    return WorkedSolution(" ".join(runs), str(total))


SOLVERS: dict[str, Callable[[Entry], WorkedSolution]] = {
    "chain_sum": solve_chain_sum,
    "products": solve_products,
    "spell_backward": solve_spell_backward,
    "letter_counting": solve_letter_counting,
    "gcd": solve_gcd,
}
