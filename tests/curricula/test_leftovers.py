"""Which groups are kept for the next update, and what that saves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import CurriculumConfig
from rlcs.curricula.leftovers import groups_wanted, leftovers
from rlcs.curricula.simulate import simulate
from rlcs.curricula.simulated_learner import scenario_named


def kept(groups: list[tuple[float, bool, int]], learned: list[int], *, max_age: int = 1, most: int = 100) -> list[int]:
    rates, degenerate, ages = (np.asarray(x) for x in zip(*groups, strict=True))
    chosen = np.asarray(learned, dtype=np.int64)
    return leftovers(rates, degenerate, ages, chosen, max_age=max_age, most=most).tolist()


def test_useful_groups_that_were_not_learned_from_stay() -> None:
    assert kept([(0.5, False, 0), (0.25, False, 0), (1.0, True, 0), (0.75, False, 0)], [0]) == [1, 3]


def test_nothing_is_older_than_the_bound() -> None:
    ages = [(0.5, False, age) for age in range(4)]
    assert kept(ages, [], max_age=0) == []
    assert kept(ages, [], max_age=1) == [0]
    assert kept(ages, [], max_age=3) == [0, 1, 2]


def test_the_best_stay_where_there_are_too_many() -> None:
    assert kept([(0.1, False, 0), (0.5, False, 1), (0.5, False, 0), (0.4, False, 0)], [], max_age=2, most=2) == [1, 2]
    assert kept([(0.5, False, 1), (0.5, False, 0)], [], max_age=2, most=1) == [1], "the younger of two equals"


@given(st.integers(1, 200), st.integers(0, 400))
def test_half_a_batch_at_least_is_new(batch_size: int, num_leftovers: int) -> None:
    wanted = groups_wanted(batch_size, num_leftovers)
    assert batch_size / 2 <= wanted <= batch_size
    assert wanted + num_leftovers >= batch_size


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(0, 3),
    st.integers(0, 10),
    st.data(),
)
def test_what_is_kept(groups: list[tuple[int, bool, int]], max_age: int, most: int, data: st.DataObject) -> None:
    learned = data.draw(st.lists(st.integers(0, len(groups) - 1), unique=True))
    chosen = kept([(k / 8, degenerate, age) for k, degenerate, age in groups], learned, max_age=max_age, most=most)
    assert chosen == sorted(set(chosen) - set(learned)) and len(chosen) <= most
    assert all(not groups[i][1] and groups[i][2] < max_age for i in chosen)


@pytest.mark.parametrize(("kind", "most"), [("dapo", 0.85), ("rlcs", 1.0)])
def test_leftovers_save_responses(kind: str, most: float) -> None:
    small = replace(scenario_named("base"), num_prompts=4000, gain=0.1)
    ages = (0, 1)
    without, with_them = (
        sum(simulate(kind, small, config=CurriculumConfig(leftover_age=age), seed=seed).rollouts for seed in range(3))
        for age in ages
    )
    assert with_them <= most * without
