"""Shuffled passes over cells whose members change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.curricula.passes import Passes


def draw(passes: Passes, cell: int, count: int, rng: np.random.Generator) -> np.ndarray:
    counts = np.zeros(len(passes.sizes), dtype=np.int64)
    counts[cell] = count
    return passes.draw(counts, rng)


def members(passes: Passes) -> list[set[int]]:
    state = passes.state_dict()
    return [set(part.tolist()) for part in np.split(state["members"], np.cumsum(state["sizes"])[:-1])]


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(0, 2**32), st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_a_pass_draws_each_row_once_whatever_the_sizes_of_the_draws(size: int, seed: int, counts: list[int]) -> None:
    passes, rng = Passes(np.zeros(size, dtype=np.int64), 1), np.random.default_rng(seed)
    times = np.zeros(size, dtype=np.int64)
    for count in counts:
        rows = draw(passes, 0, min(count, size), rng)
        assert len(set(rows.tolist())) == len(rows)
        np.add.at(times, rows, 1)
        assert times.max() - times.min() <= 1


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**32), st.integers(1, 25))
def test_moves_and_draws_keep_every_row_in_its_cell(rows: int, cells: int, seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    where = rng.integers(cells, size=rows)
    passes = Passes(where, cells)
    for _ in range(steps):
        moved = rng.choice(rows, size=rng.integers(0, rows + 1), replace=False)
        where[moved] = rng.integers(cells, size=len(moved))
        passes.move(moved, where[moved])
        cell = int(rng.integers(cells))
        size = int((where == cell).sum())
        drawn = draw(passes, cell, int(rng.integers(0, size + 1)), rng)
        assert (where[drawn] == cell).all() and len(set(drawn.tolist())) == len(drawn)
        assert members(passes) == [set(np.flatnonzero(where == c).tolist()) for c in range(cells)]
        assert (passes.cell_of == where).all()
        assert (passes.used <= passes.sizes).all() and (passes.used >= 0).all()


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_draws_from_many_cells_at_once_are_distinct_and_of_the_asked_counts(seed: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    where = rng.integers(cells, size=60)
    passes = Passes(where, cells)
    sizes = np.bincount(where, minlength=cells)
    for _ in range(10):
        moved = rng.choice(60, size=5, replace=False)
        where[moved] = rng.integers(cells, size=5)
        passes.move(moved, where[moved])
        sizes = np.bincount(where, minlength=cells)
        counts = rng.integers(0, sizes + 1)
        rows = passes.draw(counts, rng)
        assert len(set(rows.tolist())) == len(rows)
        assert (np.bincount(where[rows], minlength=cells) == counts).all()
        assert members(passes) == [set(np.flatnonzero(where == c).tolist()) for c in range(cells)]


@pytest.mark.parametrize("count", [2, 7])
def test_all_subsets_are_equally_likely(count: int) -> None:
    rng = np.random.default_rng(0)
    seen: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        rows = tuple(sorted(draw(Passes(np.zeros(9, dtype=np.int64), 1), 0, count, rng).tolist()))
        seen[rows] = seen.get(rows, 0) + 1
    assert len(seen) == 36
    expected = 6000 / 36
    assert sum((n - expected) ** 2 / expected for n in seen.values()) < 67  # chi-square, 35 degrees, p = 0.001


def test_a_moved_row_waits_for_the_next_pass_of_its_new_cell() -> None:
    passes, rng = Passes(np.asarray([0, 0, 1, 1, 1]), 2), np.random.default_rng(0)
    passes.move(np.asarray([0]), np.asarray([1]))
    assert set(draw(passes, 1, 3, rng).tolist()) == {2, 3, 4}


def test_draws_are_even() -> None:
    rng = np.random.default_rng(0)
    first = np.zeros(10)
    for _ in range(4000):
        first[draw(Passes(np.zeros(10, dtype=np.int64), 1), 0, 3, rng)] += 1
    expected = 4000 * 3 / 10
    assert ((first - expected) ** 2 / expected).sum() < 28  # chi-square, 9 degrees of freedom, p = 0.001


def test_resumed_passes_draw_the_same() -> None:
    passes = Passes(np.arange(50) % 3, 3)
    rng = np.random.default_rng(0)
    draw(passes, 1, 5, rng)
    passes.move(np.asarray([1, 2, 3]), np.asarray([0, 0, 0]))
    other = Passes(np.arange(50) % 3, 3)
    other.load_state_dict(passes.state_dict())
    for cell in (0, 1, 2):
        a, b = np.random.default_rng(9), np.random.default_rng(9)
        assert draw(passes, cell, 10, a).tolist() == draw(other, cell, 10, b).tolist()


def test_asking_for_more_than_a_cell_holds_is_an_error() -> None:
    with pytest.raises(ValueError, match="cell 0 has 2 rows, 3 were asked for"):
        draw(Passes(np.zeros(2, dtype=np.int64), 1), 0, 3, np.random.default_rng(0))
