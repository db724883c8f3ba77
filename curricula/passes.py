"""Rows parted into cells, each drawn without replacement in shuffled passes.

A cell is a stretch of a pool of rows: first those that were drawn in this pass, then the fresh ones, then room to grow.
A draw swaps random fresh rows to the front; when none is fresh the next pass begins. Draws and moves of n rows cost
O(n) plus O(K) for K cells, whatever N is, and no Python loop runs over rows or cells.

All work is on *places*, indices into the pool. Cells own disjoint stretches, so that places sorted in ascending order
are grouped by cell, and two sorted lists with equally many places a cell match up one to one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.errors import CheckpointError

Ints = NDArray[np.int64]


class Passes:
    """K cells of rows with shuffled passes. Every row is in exactly one cell."""

    def __init__(self, cell_of: NDArray[np.integer[Any]], num_cells: int) -> None:
        """Part rows 0 to N - 1 by `cell_of` [N], values in [0, num_cells); all rows fresh."""
        self.cell_of = cell_of.astype(np.int32)  # [N]
        sizes = np.bincount(self.cell_of, minlength=num_cells).astype(np.int64)
        self._lay_out(np.argsort(self.cell_of, kind="stable").astype(np.int32), sizes, np.zeros_like(sizes))

    def _lay_out(self, pool: NDArray[np.int32], sizes: Ints, used: Ints) -> None:
        self._pool = pool
        self.sizes = sizes  # [K] rows of each cell
        self.used = used  # [K] rows drawn in this pass
        self._start = np.cumsum(sizes) - sizes  # [K] first place
        self._room = sizes.copy()  # [K] places owned
        self._top = len(pool)  # end of the part of the pool that is owned
        self._place = np.empty(len(pool), dtype=np.int32)  # [N] place of each row
        self._place[pool] = np.arange(len(pool), dtype=np.int32)

    def draw(self, counts: Ints, rng: np.random.Generator) -> Ints:
        """Distinct rows, `counts` [K] of each cell, in no useful order. Raises ValueError if a cell has fewer."""
        cells = np.flatnonzero(counts)
        counts, sizes, used = counts[cells], self.sizes[cells], self.used[cells]
        if (counts > sizes).any():
            i = int(np.argmax(counts > sizes))
            raise ValueError(f"cell {cells[i]} has {sizes[i]} rows, {counts[i]} were asked for")
        fresh = sizes - used
        ends = counts > fresh  # the pass ends: its rest is drawn, and the next pass begins without it
        rest = self._pool[_ranges(self._start[cells[ends]] + used[ends], fresh[ends])]
        low, high = np.where(ends, 0, used), np.where(ends, used, sizes)
        counts = np.where(ends, counts - fresh, counts)
        self.used[cells] = low
        group, offset = _choose(high - low, counts, rng)
        places = (self._start[cells] + low)[group] + offset
        rows = self._pool[places]
        self._to_front(cells, counts, places)
        drawn: Ints = np.concatenate([rest, rows]).astype(np.int64)
        return drawn

    def move(self, rows: Ints, cells: NDArray[np.integer[Any]]) -> None:
        """Put distinct `rows` [m] into `cells` [m]; they count as drawn in the pass of the new cell."""
        changed = self.cell_of[rows] != cells
        if changed.any():
            self._remove(rows[changed])
            self._add(rows[changed], cells[changed].astype(np.int64))

    def turn(self, row: int) -> str:
        """How a row stands in the present pass of its cell, in a sentence."""
        cell = int(self.cell_of[row])
        size, used = int(self.sizes[cell]), int(self.used[cell])
        if self._place[row] < self._start[cell] + used:
            return f"it had its turn in the present pass, in which {size - used:,} of {size:,} still wait"
        return f"it waits for its turn in the present pass, with {size - used:,} of {size:,}"

    def state_dict(self) -> dict[str, Any]:
        """Arrays that `load_state_dict` takes."""
        members = self._pool[_ranges(self._start, self.sizes)]
        return {"members": members, "sizes": self.sizes.copy(), "used": self.used.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: it does not put every row into one cell.
        """
        sizes, used = (np.asarray(state[name], dtype=np.int64).copy() for name in ("sizes", "used"))
        members = np.asarray(state["members"], dtype=np.int32).copy()
        rows = np.arange(len(self.cell_of))
        fits = (used >= 0).all() and (used <= sizes).all() and sizes.max() <= len(rows) and sizes.sum() == len(rows)
        if not fits or not np.array_equal(np.sort(members), rows):
            raise CheckpointError("the saved curriculum does not have every prompt in one cell: it was changed")
        self.cell_of[members] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        self._lay_out(members, sizes, used)

    def _put(self, places: Ints, rows: NDArray[np.integer[Any]]) -> None:
        self._pool[places] = rows
        self._place[rows] = places

    def _to_front(self, cells: Ints, counts: Ints, places: Ints) -> None:
        """Swap the fresh rows at `places`, `counts` of each of `cells`, to the end of the used ones."""
        order = np.argsort(self._start[cells])
        cells, counts, places = cells[order], counts[order], np.sort(places)
        front = _ranges(self._start[cells] + self.used[cells], counts)
        rows = self._pool[places]
        self._put(_without(places, front), self._pool[_without(front, places)])
        self._put(front, rows)
        self.used[cells] += counts

    def _remove(self, rows: Ints) -> None:
        """Take rows out of their cells: the used ones close up first, then the fresh ones over the gap."""
        places = np.sort(self._place[rows]).astype(np.int64)
        owner = self.cell_of[self._pool[places]].astype(np.int64)
        cells, group, counts = _runs(owner)
        start, used, size = self._start[cells], self.used[cells], self.sizes[cells]
        was_used = places < (start + used)[group]
        num_used = np.bincount(group[was_used], minlength=len(cells))
        self._close(start + used, num_used, places[was_used])
        gap = _ranges(start + used - num_used, num_used)
        self._close(start + size, counts, np.sort(np.concatenate([gap, places[~was_used]])))
        self.sizes[cells] -= counts
        self.used[cells] -= num_used

    def _close(self, ends: Ints, counts: Ints, holes: Ints) -> None:
        """Fill `holes` (ascending), `counts` of each stretch that ends at `ends`, with the last rows of the stretch."""
        tail = _ranges(ends - counts, counts)
        self._put(_without(holes, tail), self._pool[_without(tail, holes)])

    def _add(self, rows: Ints, cells: Ints) -> None:
        """Append rows to cells, as used ones."""
        distinct, counts = np.unique(cells, return_counts=True)
        self._grow(distinct, counts)
        order = np.argsort(self._start[cells], kind="stable")
        rows, cells = rows[order], cells[order]
        distinct, _, counts = _runs(cells)
        places = _ranges(self._start[distinct] + self.sizes[distinct], counts)
        self._put(places, rows)
        self.cell_of[rows] = cells
        self.sizes[distinct] += counts
        self._to_front(distinct, counts, places)

    def _grow(self, cells: Ints, counts: Ints) -> None:
        """Give those of `cells` that lack room for `counts` more rows a larger stretch at the end of the pool."""
        wanted = self.sizes[cells] + counts
        lacking = wanted > self._room[cells]
        cells, room = cells[lacking], 2 * wanted[lacking] + 8
        if len(cells) == 0:
            return
        start = self._top + np.cumsum(room) - room
        self._top += int(room.sum())
        if self._top > len(self._pool):
            pool = np.empty(self._top + len(self._pool) // 4, dtype=np.int32)
            pool[: len(self._pool)] = self._pool
            self._pool = pool
        rows = self._pool[_ranges(self._start[cells], self.sizes[cells])]
        self._start[cells], self._room[cells] = start, room
        self._put(_ranges(start, self.sizes[cells]), rows)


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """The concatenation of `starts[i], ..., starts[i] + counts[i] - 1` for each i."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - (ends - counts), counts))


def _runs(values: Ints) -> tuple[Ints, Ints, Ints]:
    """Of an array with equal values side by side: the values, the run of each element, and the lengths of the runs."""
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    counts = np.diff(np.append(first, len(values)))
    return values[first], np.repeat(np.arange(len(first)), counts), counts


def _without(ascending: Ints, others: Ints) -> Ints:
    """The elements of `ascending` that are not in `others`, also ascending; both without repeats."""
    if len(others) == 0:
        return ascending
    at = np.minimum(np.searchsorted(others, ascending), len(others) - 1)
    return np.asarray(ascending[others[at] != ascending])


def _choose(lengths: Ints, counts: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Random distinct offsets: `counts[i]` of range(lengths[i]) for each i; returns i and offset of each choice."""
    dense = 2 * counts > lengths
    group = np.repeat(np.flatnonzero(dense), lengths[dense])
    offset = _ranges(np.zeros(int(dense.sum()), dtype=np.int64), lengths[dense])
    order = np.lexsort((rng.random(len(group)), group))
    rank = np.empty_like(order)
    rank[order] = _ranges(np.zeros(int(dense.sum()), dtype=np.int64), lengths[dense])
    chosen = rank < counts[group]

    sparse_group = np.repeat(np.flatnonzero(~dense), counts[~dense])
    base = np.cumsum(lengths) - lengths
    sparse = (rng.random(len(sparse_group)) * lengths[sparse_group]).astype(np.int64)
    while True:  # a repeat is drawn again; at most half of a range is taken, so that this ends soon
        first = np.unique(base[sparse_group] + sparse, return_index=True)[1]
        if len(first) == len(sparse):
            break
        again = np.ones(len(sparse), dtype=bool)
        again[first] = False
        sparse[again] = (rng.random(int(again.sum())) * lengths[sparse_group[again]]).astype(np.int64)
    return np.concatenate([group[chosen], sparse_group]), np.concatenate([offset[chosen], sparse])
