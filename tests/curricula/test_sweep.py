"""Rounds through all prompts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlcs.curricula.sweep import Sweep


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 1000))
def test_everybody_is_visited_in_each_round(size: int, count: int, seed: int) -> None:
    sweep = Sweep(np.zeros(size, dtype=np.int16), 1, seed)
    count = min(count, size)
    rounds = -(-size // count)
    rows = np.concatenate([sweep.take(np.asarray([count]), np.empty(0, np.int64)) for _ in range(rounds)])
    assert set(rows.tolist()) == set(range(size))


@given(st.integers(2, 30), st.integers(0, 1000), st.data())
def test_rows_taken_already_are_passed_over(size: int, seed: int, data: st.DataObject) -> None:
    domains = np.arange(size) % 2
    sweep = Sweep(domains, 2, seed)
    taken = np.asarray(data.draw(st.lists(st.integers(0, size - 1), unique=True)), dtype=np.int64)
    free = np.bincount(domains, minlength=2) - np.bincount(domains[taken], minlength=2)
    counts = np.asarray([data.draw(st.integers(0, int(n))) for n in free])
    rows = sweep.take(counts, taken)
    assert (np.bincount(domains[rows], minlength=2) == counts).all()
    assert not set(rows.tolist()) & set(taken.tolist())
    assert len(set(rows.tolist())) == len(rows)


def test_a_resumed_round_goes_on() -> None:
    domains = np.arange(20) % 3
    none = np.empty(0, np.int64)
    sweep, other = Sweep(domains, 3, 1), Sweep(domains, 3, 2)
    sweep.take(np.asarray([2, 3, 1]), none)
    other.load_state_dict(sweep.state_dict())
    for _ in range(5):
        counts = np.asarray([1, 2, 3])
        assert sweep.take(counts, none).tolist() == other.take(counts, none).tolist()
