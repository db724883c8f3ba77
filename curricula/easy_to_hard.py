"""Staged sampling: from easy to hard, a domain at a time as it is mastered.

Each domain stands at a stage, an offline tier, and draws evenly from the prompts of that tier and the easier ones; half
of its draws come from the stage's own tier. When the moving average of the pass rate at the stage's tier is over the
threshold, the stage goes on by one; as in AdaRFT (arXiv 2504.05520), difficulty follows success. Ungraded prompts count
as of the middle tier. A share `exploration` goes evenly to all tiers, so that none waits for ever: a prompt of a tier of S
prompts, one of T tiers of a domain of share m, is drawn at least once in about 2 S T / (exploration m n) iterations of n
draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.allocation import fill_domains, with_floor
from rlcs.curricula.base import UNGRADED, Curriculum, Observation, PromptTable, check_like
from rlcs.curricula.passes import Passes
from rlcs.curricula.tally import LABELS, count, share_metrics
from rlcs.curricula.uniform import draw_from_passes
from rlcs.types import NUM_TIERS, TIER_NAMES

_THRESHOLD = 0.75
"""Pass rate at which a tier counts as learned: past the middle, before the groups become degenerate."""


class EasyToHard(Curriculum):
    """Stages by domain."""

    def __init__(self, table: PromptTable, config: CurriculumConfig, seed: int) -> None:
        """Every domain at the easiest tier that it has."""
        super().__init__(table, config, seed)
        tiers = np.where(table.tiers == UNGRADED, NUM_TIERS // 2, table.tiers).astype(np.int64)
        self._passes = Passes(table.domains.astype(np.int64) * NUM_TIERS + tiers, table.num_domains * NUM_TIERS)
        self.stages = np.argmax(self._sizes > 0, axis=1)  # [D] tier
        self._averages = np.zeros(table.num_domains)  # [D] pass rate at the stage's tier
        self._groups = np.zeros(table.num_domains)  # [D] groups behind it
        self._drawn = np.zeros((table.num_domains, LABELS), dtype=np.int64)  # in the last draw

    @property
    def _sizes(self) -> NDArray[np.int64]:
        return self._passes.sizes.reshape(-1, NUM_TIERS)

    @property
    def cell_shares(self) -> NDArray[np.float64]:
        """[D, NUM_TIERS] share of the next draw that each tier of each domain is meant to get; sums to 1."""
        sizes = self._sizes.astype(np.float64)
        tiers, stages = np.arange(NUM_TIERS)[None, :], self.stages[:, None]
        reviewed = np.where(tiers < stages, sizes, 0.0)
        has_review = reviewed.sum(axis=1, keepdims=True) > 0
        weights = np.where(tiers == stages, np.where(has_review, 0.5, 1.0), 0.0)
        weights = weights + 0.5 * reviewed / np.maximum(reviewed.sum(axis=1, keepdims=True), 1)
        return np.asarray(self.domain_mix[:, None] * with_floor(weights, sizes, self.config.exploration))

    def draw(self, n: int) -> NDArray[np.int64]:
        """See `Curriculum.draw`."""
        rows = draw_from_passes(self._passes, self._shares, n, self.rng)
        self._drawn = count(self.table, rows)
        return rows

    def _shares(self, n: int) -> NDArray[np.float64]:
        return fill_domains(n, self.domain_mix, self.cell_shares, self._sizes.astype(np.float64))

    def observe(self, observation: Observation) -> None:
        """Average the pass rates at the stages; advance where an average of at least 8 groups is over the threshold."""
        self.notice(observation)
        cells = self._passes.cell_of[observation.rows]
        domains, tiers = cells // NUM_TIERS, cells % NUM_TIERS
        at_stage = tiers == self.stages[domains]
        num_domains = self.table.num_domains
        groups = np.bincount(domains[at_stage], minlength=num_domains)
        passed = np.bincount(domains[at_stage], observation.pass_rates[at_stage], minlength=num_domains)
        keep = np.where(groups > 0, self.config.ema, 1.0)
        total = keep * self._groups + groups
        self._averages = (keep * self._groups * self._averages + passed) / np.maximum(total, 1e-12)
        self._groups = total
        later = (self._sizes > 0) & (np.arange(NUM_TIERS)[None, :] > self.stages[:, None])
        advance = (self._groups >= 8) & (self._averages > _THRESHOLD) & later.any(axis=1)
        self.stages = np.where(advance, np.argmax(later, axis=1), self.stages)
        self._averages[advance] = 0
        self._groups[advance] = 0

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Curriculum.weights`."""
        cells = self._passes.cell_of[rows]
        return np.asarray(self.cell_shares.ravel()[cells] / self._passes.sizes[cells] * len(self.table))

    def explain(self, row: int) -> dict[str, float]:
        """See `Curriculum.explain`; with the stage of the prompt's domain."""
        domain = int(self.table.domains[row])
        stage = {"stage": float(self.stages[domain]), "stage_pass_rate": float(self._averages[domain])}
        return super().explain(row) | stage

    def reasons(self, row: int) -> list[str]:
        """See `Curriculum.reasons`."""
        domain, tier = int(self.table.domains[row]), int(self._passes.cell_of[row] % NUM_TIERS)
        stage = int(self.stages[domain])
        place = f"Its domain {self.table.domain_names[domain]!r} stands at stage {TIER_NAMES[stage]!r}"
        if self._groups[domain] > 0:
            place += f", where {self._averages[domain]:.0%} are right ({_THRESHOLD:.0%} are needed to go on)"
        share = f"the {self.config.exploration:.0%} of the draws that go evenly to all tiers"
        by_tier = {
            tier == stage: "It is of that tier, which gets half of the draws or more.",
            tier < stage: "It is of an easier tier, which is reviewed.",
            tier > stage: f"It is of a harder tier, which waits: only {share} reach it.",
        }
        return [place + ".", by_tier[True], f"Within its tier {self._passes.turn(row)}."]

    def metrics(self) -> dict[str, float]:
        """The mean stage, and the stage of each domain where there are not many."""
        metrics = {"curriculum/stage": float(self.domain_mix @ self.stages)}
        if self.table.num_domains <= 16:
            for name, stage in zip(self.table.domain_names, self.stages, strict=True):
                metrics[f"curriculum/stage/{name}"] = float(stage)
        return metrics | share_metrics(self.table, self._drawn)

    def state_dict(self) -> dict[str, Any]:
        """See `Curriculum.state_dict`."""
        own = {"stages": self.stages.copy(), "averages": self._averages.copy(), "groups": self._groups.copy()}
        own["drawn"] = self._drawn.copy()
        return super().state_dict() | self._passes.state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Curriculum.load_state_dict`."""
        super().load_state_dict(state)
        check_like(state, EasyToHard.state_dict(self))
        self._passes.load_state_dict(state)
        self.stages = np.asarray(state["stages"], dtype=np.int64).copy()
        self._averages = np.asarray(state["averages"], dtype=np.float64).copy()
        self._groups = np.asarray(state["groups"], dtype=np.float64).copy()
        self._drawn = np.asarray(state["drawn"], dtype=np.int64).copy()
