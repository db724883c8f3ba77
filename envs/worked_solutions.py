"""Worked solutions of a few reasoning-gym tasks, short enough for a small policy to learn in a cold start."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from rlcs.envs.base import WorkedSolution

Entry = dict[str, Any]
"""A reasoning-gym item: `question`, `answer`, `metadata`."""


def solve_chain_sum(entry: Entry) -> WorkedSolution:
    """Running totals of one width: `7 - 9 + 2` becomes `+07 -02 +00`.

    A total then stands as far from the next as a one-digit term of the question from its neighbour, four tokens of one
    character each, which makes the term that belongs to a total easy to find.
    """
    tokens = entry["metadata"]["expression"].split()
    total = int(tokens[0])
    totals = [total]
    for operator, term in zip(tokens[1::2], tokens[2::2], strict=True):
        total += int(term) if operator == "+" else -int(term)
        totals.append(total)
    return WorkedSolution(" ".join(f"{value:+03d}" for value in totals), str(total))


def solve_products(entry: Entry) -> WorkedSolution:
    """Running products: `3 * 4 * 5` becomes `3 12 60`."""
    total = 1
    totals = []
    for factor in entry["metadata"]["expression"].split(" * "):
        total *= int(factor)
        totals.append(str(total))
    return WorkedSolution(" ".join(totals), str(total))


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


def solve_lcm(entry: Entry) -> WorkedSolution:
    """The multiple of the numbers so far: of 4, 6 and 9 they are `4 12 36`."""
    totals = list(itertools.accumulate(entry["metadata"]["numbers"], math.lcm))
    return WorkedSolution(" ".join(str(total) for total in totals), str(totals[-1]))


def solve_count_primes(entry: Entry) -> WorkedSolution:
    """The number of primes below the start and up to the end: between 11 and 20 they are `4 8`, hence 4."""
    start = entry["metadata"]["start"]
    count = len(entry["metadata"]["primes"])
    below = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, start))
    return WorkedSolution(f"{below} {below + count}", str(count))


SOLVERS: dict[str, Callable[[Entry], WorkedSolution]] = {
    "chain_sum": solve_chain_sum,
    "products": solve_products,
    "spell_backward": solve_spell_backward,
    "letter_counting": solve_letter_counting,
    "gcd": solve_gcd,
    "lcm": solve_lcm,
    "basic_arithmetic": solve_chain_sum,
    "count_primes": solve_count_primes,
}
