"""`rlcs curriculum RUN`: tiers x domains, share drawn and available, pass rate then and now, useful share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlcs.curricula.tally import labels_of
from rlcs.curriculum_commands.history import Floats, History, Rows
from rlcs.types import NUM_TIERS


@dataclass(frozen=True, slots=True)
class Cell:
    """Training prompts of one domain and tier, or of several."""

    domain: str
    tier: int | None
    """None for ungraded prompts."""
    prompts: int
    distinct: int
    """Prompts drawn at least once."""
    groups: int
    """Groups drawn."""
    share_drawn: float
    """Of all groups."""
    share_available: float
    """Of all training prompts."""
    first_pass_rate: float | None
    """Mean over the prompts drawn of the first observation of each."""
    pass_rate: float | None
    """Mean over the same prompts of the newest estimate: the curriculum's prediction, else the last observation."""
    useful: float | None
    """Share of the groups that were not degenerate."""
    kept: float | None
    """Share of the groups that were learned from."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole table."""

    cells: list[Cell]
    """By domain and tier."""
    domains: list[Cell]
    """All tiers of each domain; `tier` is None."""
    tiers: list[Cell]
    """All domains of each tier, then of the ungraded."""
    all: Cell
    is_predicted: bool
    """Whether `pass_rate` is the curriculum's prediction."""


def overview(history: History) -> Overview:
    """Count a run's draws by domain and tier."""
    count = _Counter(history)
    labels, domains = labels_of(history.table), history.table.domains
    names = history.table.domain_names
    present = [label for label in range(NUM_TIERS + 1) if (labels == label).any()]
    cells = [
        count.cell(name, label, (domains == d) & (labels == label))
        for d, name in enumerate(names)
        for label in present
        if ((domains == d) & (labels == label)).any()
    ]
    return Overview(
        cells=cells,
        domains=[count.cell(name, NUM_TIERS, domains == d) for d, name in enumerate(names)],
        tiers=[count.cell("all", label, labels == label) for label in present],
        all=count.cell("all", NUM_TIERS, np.ones(len(labels), dtype=bool)),
        is_predicted=count.is_predicted,
    )


class _Counter:
    """First and newest pass rates a prompt, then sums over masks of prompts."""

    def __init__(self, history: History) -> None:
        self._history = history
        rows, rates = history.rows, history.pass_rates
        self._drawn, first = np.unique(rows, return_index=True)  # [d] distinct rows, index of the first group of each
        self._first = rates[first]
        last = len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1]
        self._now, self.is_predicted = self._newest(self._drawn, rates[last])

    def _newest(self, drawn: Rows, last: Floats) -> tuple[Floats, bool]:
        curriculum = self._history.curriculum
        predicted = curriculum.predict(drawn) if curriculum is not None and len(drawn) else None
        return (last, False) if predicted is None else (predicted, True)

    def cell(self, domain: str, label: int, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Cell:
        """The row of the prompts in `mask` [N]."""
        groups, drawn = mask[self._history.rows], mask[self._drawn]
        return Cell(
            domain=domain,
            tier=None if label == NUM_TIERS else label,
            prompts=int(mask.sum()),
            distinct=int(drawn.sum()),
            groups=int(groups.sum()),
            share_drawn=float(groups.mean()) if len(groups) else 0.0,
            share_available=float(mask.mean()),
            first_pass_rate=_mean(self._first[drawn]),
            pass_rate=_mean(self._now[drawn]),
            useful=_mean(~self._history.degenerate[groups]),
            kept=_mean(self._history.kept[groups]),
        )


def _mean(values: Floats | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    return float(values.mean()) if len(values) else None
