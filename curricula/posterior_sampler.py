"""Draw what is expected to teach most, from calibrated beliefs about every prompt's pass rate.

- A cell's worth is the expectation of p(1 - p) (the size of GRPO's signal), or of the chance that a group of G is
  useful, 1 - p^G - (1 - p)^G, under the estimator's belief about its members (`rlcs.curricula.posterior`).
- A domain's draws go to its cells in proportion to members x exp(worth / temperature), worth scaled to at most 1
  (a softened choice of the best, as Gumbel noise makes it), or with `thompson` members x E[exp(worth / temperature)]:
  chosen by a sampled pass rate. Every prompt of a cell has the same weight; within a cell, shuffled passes.
- A share `exploration` is spread evenly over all prompts of the domain: prompts believed mastered or hopeless are
  checked again and again, so that forgetting is seen, and none waits longer than N / (exploration x draws) iterations
  on average.
- Domains keep their target mix.
- Oversampling by the predicted useful share of the coming draw, once the predictions proved calibrated; by the moving
  average of the paper before that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.allocation import fill
from rlcs.curricula.base import Curriculum, Observation, PromptTable, check_rows
from rlcs.curricula.discounted_beta import DiscountedBeta
from rlcs.curricula.expansion import Expansion
from rlcs.curricula.passes import Passes
from rlcs.curricula.posterior import Estimator, ItemResponse
from rlcs.curricula.quadrature import Floats, expect
from rlcs.curricula.state import PromptState
from rlcs.curricula.tally import count, rate_metrics, share_metrics
from rlcs.curricula.uniform import draw_from_passes

ESTIMATORS: dict[str, type[Estimator]] = {"item_response": ItemResponse, "beta": DiscountedBeta}


class Posterior(Curriculum):
    """Expected utility or Thompson sampling over the beliefs of an estimator."""

    def __init__(self, table: PromptTable, config: CurriculumConfig, seed: int) -> None:
        """Start from the offline tiers."""
        super().__init__(table, config, seed)
        self.state = PromptState(len(table))
        self.estimator = ESTIMATORS[config.estimator](table, config, self.state)
        self._passes = Passes(self.estimator.cells(np.arange(len(table))), self.estimator.num_cells)
        self._expansion = Expansion(ema=config.ema, maximum=config.max_expansion if config.expansion else 1.0)
        self._group_size = 8.0  # moving average of what is observed
        self._gap = 0.0  # moving average of predicted - observed pass rate
        self._brier = -1.0  # none yet
        self._rolled_out = 0  # prompts that were rolled out at least once
        self._present = count(table, np.arange(len(table))) > 0  # [D, L] labels that have prompts
        self._drawn = np.zeros(self._present.shape, dtype=np.int64)  # [D, L] in the last draw

    @property
    def cell_weights(self) -> Floats:
        """[K] intended share of the next draw of each cell; sums to 1."""
        config = self.config
        sizes = self._passes.sizes.astype(np.float64)
        weights = np.zeros(len(sizes))
        live = np.flatnonzero(sizes)
        means, variances = (x[live] for x in self.estimator.cell_logits())
        if config.thompson:
            weights[live] = expect(
                lambda p: np.exp((self._worth(p) - 1) / config.utility_temperature), means, variances
            )
        else:
            weights[live] = np.exp((expect(self._worth, means, variances) - 1) / config.utility_temperature)
        by_domain = (sizes * np.maximum(weights, 1e-300)).reshape(self.table.num_domains, -1)
        by_domain /= by_domain.sum(axis=1, keepdims=True)
        members = sizes.reshape(by_domain.shape)
        floor = members / members.sum(axis=1, keepdims=True)
        by_domain = (1 - config.exploration) * by_domain + config.exploration * floor
        return np.asarray((self.domain_mix[:, None] * by_domain).ravel())

    def _worth(self, p: Floats) -> Floats:
        """What a prompt with pass rate p (luck aside) teaches, at most 1."""
        if self.config.utility == "variance":
            return 4 * p * (1 - p)
        return 1 - p**self._group_size - (1 - p) ** self._group_size

    def draw(self, n: int) -> NDArray[np.int64]:
        """See `Curriculum.draw`."""
        rows = draw_from_passes(self._passes, self._shares, n, self.rng)
        self._drawn = count(self.table, rows)
        return rows

    def _shares(self, n: int) -> Floats:
        """[K] expected draws of each cell in a draw of n, none above the cell's size."""
        sizes = self._passes.sizes.reshape(self.table.num_domains, -1).astype(np.float64)
        weights = self.cell_weights.reshape(sizes.shape)
        by_domain = fill(n, self.domain_mix, sizes.sum(axis=1))
        return np.concatenate([fill(by_domain[d], weights[d], sizes[d]) for d in range(len(sizes))])

    def observe(self, observation: Observation) -> None:
        """Score the predictions, update the beliefs, move prompts to their new cells."""
        rows, counts = observation.rows, observation.counts
        check_rows(rows, len(self.table))
        if len(rows) == 0:
            return
        self._expansion.observe(observation.degenerate)
        self._score_predictions(observation)
        unique, inverse = np.unique(rows, return_inverse=True)
        right = np.bincount(inverse, observation.pass_rates * counts)
        self._rolled_out += int((self.state.times[unique] == 0).sum())
        self.state.step += 1
        self.estimator.observe(unique, right, np.bincount(inverse, counts).astype(np.int64))
        self._passes.move(unique, self.estimator.cells(unique))

    def _score_predictions(self, observation: Observation) -> None:
        ema = self.config.ema
        gaps = self.estimator.predict(observation.rows) - observation.pass_rates
        self._brier = float(np.mean(gaps**2))
        self._gap = ema * self._gap + (1 - ema) * float(gaps.mean())
        self._group_size = ema * self._group_size + (1 - ema) * float(observation.counts.mean())

    def predict(self, rows: NDArray[np.int64]) -> Floats:
        """See `Curriculum.predict`."""
        return self.estimator.predict(rows)

    def predict_logits(self, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See `Curriculum.predict_logits`."""
        return self.estimator.row_logits(rows)

    def num_prompts(self, batch_size: int) -> int:
        """See `Curriculum.num_prompts`: by the predicted useful share of the next draw if that can be trusted."""
        if not self.config.expansion:
            return batch_size
        if self.state.step < 5 or abs(self._gap) > 0.1:
            return self._expansion.num_prompts(batch_size, len(self.table))
        return self._expansion.num_prompts(batch_size, len(self.table), not_valid=1 - self.predicted_useful)

    @property
    def predicted_useful(self) -> float:
        """Expected share of groups of the next draw whose responses are not all alike."""
        size = self._group_size
        live = np.flatnonzero(self._passes.sizes)
        means, variances = (x[live] for x in self.estimator.cell_logits())
        floors = np.repeat(self.estimator.floors, self.estimator.cells_per_domain)[live][:, None]

        def is_useful(s: Floats) -> Floats:
            p = floors + (1 - floors) * s
            return np.asarray(1 - p**size - (1 - p) ** size)

        return float(self.cell_weights[live] @ expect(is_useful, means, variances))

    def metrics(self) -> dict[str, float]:
        """Quality of the predictions, share drawn by domain and offline tier, pass rates of prompts not rolled out yet."""
        metrics = {
            "curriculum/expansion": self.num_prompts(1000) / 1000,
            "curriculum/predicted_useful": self.predicted_useful,
            "curriculum/rolled_out": self._rolled_out / len(self.table),
        }
        if self._brier >= 0:
            metrics["curriculum/brier"] = self._brier
            metrics["curriculum/calibration_gap"] = self._gap
        if self._expansion.not_valid is not None:
            metrics["curriculum/not_valid"] = self._expansion.not_valid
        rates = np.where(self._present, self.estimator.label_pass_rates(), np.nan)
        return metrics | share_metrics(self.table, self._drawn) | rate_metrics(self.table, rates)

    def state_dict(self) -> dict[str, Any]:
        """See `Curriculum.state_dict`."""
        own: dict[str, Any] = {"group_size": self._group_size, "gap": self._gap, "brier": self._brier}
        own |= {"rolled_out": self._rolled_out, "drawn": self._drawn.copy()}
        parts = (self._passes, self._expansion, self.state, self.estimator)
        for part in parts:
            own |= part.state_dict()
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Curriculum.load_state_dict`."""
        super().load_state_dict(state)
        self.state.load_state_dict(state)
        self.estimator.load_state_dict(state)
        self._passes.load_state_dict(state)
        self._expansion.load_state_dict(state)
        self._rolled_out = int(state["rolled_out"])
        self._drawn = np.asarray(state["drawn"], dtype=np.int64).copy()
        self._group_size, self._gap, self._brier = (float(state[k]) for k in ("group_size", "gap", "brier"))
