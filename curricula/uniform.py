"""Uniform sampling: shuffled passes over the data, the baseline of every comparison.

Between two draws of a prompt lie less than two passes over its domain: 2 N_d draws of the domain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.allocation import batches, fill, round_shares
from rlcs.curricula.base import Curriculum, Observation, PromptTable, check_like
from rlcs.curricula.passes import Passes
from rlcs.curricula.tally import LABELS, count, share_metrics


class Uniform(Curriculum):
    """Every prompt once before any prompt twice; with `domain_mix`, so within each domain, and the mix between them.

    It learns nothing from observations and draws no more prompts than the update needs.
    """

    def __init__(self, table: PromptTable, config: CurriculumConfig, seed: int) -> None:
        """One cell for all prompts, or one a domain if a mix is asked for."""
        super().__init__(table, config, seed)
        has_mix = bool(config.domain_mix) or config.domain_balance != "data"
        cells = table.domains if has_mix else np.zeros(len(table), dtype=np.int16)
        num_cells = table.num_domains if has_mix else 1
        self._passes = Passes(cells, num_cells)
        self._not_valid = -1.0  # none yet
        self._drawn = np.zeros((table.num_domains, LABELS), dtype=np.int64)  # in the last draw

    def draw(self, n: int) -> NDArray[np.int64]:
        """See `Curriculum.draw`."""
        rows = draw_from_passes(self._passes, self._shares, n, self.rng)
        self._drawn = count(self.table, rows)
        return rows

    def _shares(self, n: int) -> NDArray[np.float64]:
        weights = self.domain_mix if len(self._passes.sizes) == len(self.domain_mix) else np.ones(1)
        return fill(n, weights, self._passes.sizes.astype(np.float64))

    def observe(self, observation: Observation) -> None:
        """Only the share of degenerate groups is kept, to be logged."""
        self.notice(observation)
        if len(observation.rows):
            self._not_valid = float(observation.degenerate.mean())

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Curriculum.weights`."""
        cells = self._passes.cell_of[rows]
        shares = self._shares(1)
        return np.asarray(shares[cells] / self._passes.sizes[cells] * len(self.table))

    def reasons(self, row: int) -> list[str]:
        """See `Curriculum.reasons`."""
        all_alike = "All prompts of a domain are drawn equally often, in shuffled passes, whatever their pass rates"
        return [f"{all_alike}: {self._passes.turn(row)}."]

    def metrics(self) -> dict[str, float]:
        """The share of degenerate groups, and the share drawn by domain and offline tier."""
        metrics = {} if self._not_valid < 0 else {"curriculum/not_valid": self._not_valid}
        return metrics | share_metrics(self.table, self._drawn)

    def state_dict(self) -> dict[str, Any]:
        """See `Curriculum.state_dict`."""
        own = {"last_not_valid": self._not_valid, "drawn": self._drawn.copy()}
        return super().state_dict() | self._passes.state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Curriculum.load_state_dict`."""
        super().load_state_dict(state)
        check_like(state, Uniform.state_dict(self))
        self._passes.load_state_dict(state)
        self._not_valid = float(state["last_not_valid"])
        self._drawn = np.asarray(state["drawn"], dtype=np.int64).copy()


def draw_from_passes(
    passes: Passes, shares: Callable[[int], NDArray[np.float64]], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """[n] rows in random order, distinct unless n > N (then all N rows first, as often as they fit).

    `shares(m)` gives the [K] expected draws of each cell in a draw of m <= N, none above the cell's size, summing to m.
    Raises ValueError if n < 1.
    """
    if n < 1:
        raise ValueError(f"draw: {n} prompts were asked for; ask for at least 1")
    parts = [
        rng.permutation(passes.draw(round_shares(shares(take), rng), rng)) for take in batches(n, len(passes.cell_of))
    ]
    return np.concatenate(parts)
