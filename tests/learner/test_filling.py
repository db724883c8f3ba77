"""Micro-batches: whole, within the budget, few, and the same again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlcs.learner.filling import Work, fill

FAMILIES = st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(1, 60), max_size=8)), max_size=10)


def work_of(families: list[tuple[int, list[int]]]) -> Work:
    return Work([prefix for prefix, _ in families], [own for _, own in families])


@given(FAMILIES, st.integers(20, 200))
@example([(0, [1, 20, 1])], 20)  # two pieces of a family had come into one micro-batch
def test_every_sequence_once_within_the_budget_and_not_below_the_bound(
    families: list[tuple[int, list[int]]], budget: int
) -> None:
    work = work_of(families)
    found = fill(work, budget)
    members = sorted((family, member) for part in found for family, chosen in part for member in chosen)
    assert members == [(family, member) for family, own in enumerate(work.own) for member in range(len(own))]
    for part in found:
        assert len({family for family, _ in part}) == len(part)
        alone = len(part) == 1 and len(part[0][1]) == 1
        assert alone or sum(map(work.cost, part)) <= budget
    assert len(found) >= work.lower_bound(budget)
    assert found == fill(work, budget)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(1, 9), min_size=1, max_size=2)), min_size=1, max_size=3)
)
@settings(max_examples=60)
def test_the_lower_bound_is_one(families: list[tuple[int, list[int]]]) -> None:
    work, budget = work_of(families), 12
    items = [(family, member) for family, own in enumerate(work.own) for member in range(len(own))]
    assert work.lower_bound(budget) <= fewest(work, items, budget) <= len(fill(work, budget))


def fewest(work: Work, items: list[tuple[int, int]], budget: int) -> int:
    """The true minimum, by trying all partitions."""
    best = len(items)

    def go(index: int, bins: list[list[tuple[int, int]]]) -> None:
        nonlocal best
        if len(bins) >= best and index < len(items):
            return
        if index == len(items):
            best = min(best, len(bins))
            return
        for part in bins:
            part.append(items[index])
            chosen = {family: [m for f, m in part if f == family] for family, _ in part}
            if sum(work.cost(unit) for unit in chosen.items()) <= budget:
                go(index + 1, bins)
            part.pop()
        go(index + 1, [*bins, [items[index]]])

    go(0, [])
    return best


@pytest.mark.parametrize(("size", "longest", "budget"), [(8, 512, 4096), (16, 4096, 16384), (8, 2048, 8192)])
@pytest.mark.parametrize("mix", ["even", "skewed", "mixed"])
def test_few_micro_batches_above_the_lower_bound(size: int, longest: int, budget: int, mix: str) -> None:
    used = bound = 0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        families = []
        for _ in range(64):
            count = int(rng.integers(2, 2 * size)) if mix == "mixed" else size
            skewed = np.clip(rng.lognormal(np.log(longest / 6), 0.9, count), 8, longest).astype(int)
            own = [longest // 2] * count if mix == "even" else skewed.tolist()
            families.append((int(rng.integers(24, longest // 8)), own))
        work = work_of(families)
        used += len(fill(work, budget))
        bound += work.lower_bound(budget)
    assert used <= 1.05 * bound
