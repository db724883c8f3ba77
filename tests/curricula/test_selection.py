"""Balanced selection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.curricula.selection import select_balanced


def select(pass_rates: list[float], degenerate: list[bool], size: int, ages: list[int] | None = None) -> list[int]:
    return select_balanced(
        np.asarray(pass_rates, dtype=np.float64),
        np.asarray(degenerate, dtype=bool),
        size,
        None if ages is None else np.asarray(ages),
    ).tolist()


def test_keeps_the_groups_nearest_to_half() -> None:
    assert select([0.1, 0.5, 0.9, 0.4, 0.7], [False] * 5, 3) == [1, 3, 4]


def test_degenerate_groups_come_last_even_at_half() -> None:
    assert select([0.5, 0.05, 1.0], [True, False, True], 1) == [1]
    assert select([0.5, 0.05, 1.0], [True, False, True], 2) == [0, 1]


def test_a_mean_at_the_bound_is_not_what_makes_a_group_degenerate() -> None:
    assert select([0.0, 0.5], [False, True], 1) == [0]


def test_ties_go_to_the_older_then_to_the_first() -> None:
    assert select([0.375, 0.625, 0.375], [False] * 3, 2) == [0, 1]
    assert select([0.375, 0.625, 0.375], [False] * 3, 1, ages=[0, 1, 1]) == [1]


def test_all_are_kept_when_there_are_not_enough() -> None:
    assert select([0.0, 1.0], [True, True], 5) == [0, 1]


@pytest.mark.parametrize("bad", [float("nan"), -1.0, 2.0])
def test_bad_pass_rates_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="group 1 is not in"):
        select([0.5, bad], [False, False], 1)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40), st.integers(0, 40))
def test_nothing_dropped_is_better_than_something_kept(groups: list[tuple[int, bool]], size: int) -> None:
    pass_rates = np.asarray([g[0] / 8 for g in groups])
    degenerate = np.asarray([g[1] for g in groups])
    kept = select_balanced(pass_rates, degenerate, size)
    assert len(kept) == min(size, len(groups)) and (np.diff(kept) > 0).all()
    rank = degenerate * 10 + np.abs(pass_rates - 0.5)
    dropped = np.setdiff1d(np.arange(len(groups)), kept)
    if len(kept) and len(dropped):
        assert rank[kept].max() <= rank[dropped].min() + 1e-9
