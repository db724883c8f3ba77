"""Sharing out draws over cells."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlcs.curricula.allocation import fill, round_shares

cells = st.lists(st.tuples(st.floats(0, 10), st.integers(0, 20)), min_size=1, max_size=20)


@given(cells, st.integers(0, 200))
def test_fill_respects_capacity_and_shares_out_everything(cells: list[tuple[float, int]], n: int) -> None:
    weights, capacity = (np.asarray(x, dtype=np.float64) for x in zip(*cells, strict=True))
    shares = fill(n, weights, capacity)
    assert (shares <= capacity + 1e-9).all() and (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(), min(n, capacity.sum()), atol=1e-6)


@given(cells, st.integers(1, 200), st.integers(0, 2**32))
def test_rounded_counts_fit_and_are_within_one(cells: list[tuple[float, int]], n: int, seed: int) -> None:
    weights, capacity = (np.asarray(x, dtype=np.float64) for x in zip(*cells, strict=True))
    shares = fill(n, weights, capacity)
    counts = round_shares(shares, np.random.default_rng(seed))
    assert counts.sum() == min(n, capacity.sum())
    assert (counts <= capacity).all() and (counts >= 0).all()
    assert (np.abs(counts - shares) < 1 + 1e-5).all()
    run = slice(len(counts) // 3, 2 * len(counts) // 3 + 1)
    assert abs(counts[run].sum() - shares[run].sum()) < 1 + 1e-5


def test_rounding_has_no_bias() -> None:
    shares = np.asarray([0.1, 2.25, 0.0, 0.65, 3.0, 1.0 / 3, 2.0 / 3])
    rng = np.random.default_rng(0)
    mean = np.mean([round_shares(shares, rng) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(mean, shares, atol=0.03)


def test_open_cells_take_what_a_full_one_cannot_by_weight() -> None:
    np.testing.assert_allclose(fill(10, np.asarray([8.0, 1, 1]), np.asarray([2.0, 100, 100])), [2, 4, 4])


def test_weight_zero_gets_something_only_when_the_rest_is_full() -> None:
    weights, capacity = np.asarray([1.0, 0.0]), np.asarray([5.0, 5.0])
    assert fill(4, weights, capacity).tolist() == [4, 0]
    assert fill(7, weights, capacity).tolist() == [5, 2]


def test_fill_keeps_the_digits_of_tiny_weights() -> None:
    np.testing.assert_allclose(fill(3, np.asarray([5e-324, 5e-324]), np.asarray([1.0, 2.0])), [1, 2])
