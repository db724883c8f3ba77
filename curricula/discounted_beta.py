"""A discounted Beta posterior a prompt: the simple alternative to the item-response filter.

As in MoPPS (arXiv 2507.04632): right and wrong responses are counted a prompt, the past discounted at each new group.
The prior is the mean pass rate of first rollouts with the prompt's domain and label. It knows nothing of progress on
prompts that were not seen lately.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import PromptTable
from rlcs.curricula.posterior import Estimator, Rows
from rlcs.curricula.quadrature import Floats
from rlcs.curricula.state import PromptState
from rlcs.curricula.tally import LABELS
from rlcs.types import NUM_TIERS

_MEANS = 20
_WEIGHT_EDGES = np.asarray([6.0, 12.0, 20.0])
_WEIGHTS = np.asarray([4.0, 9.0, 15.0, 25.0])
"""Representative numbers of responses behind the beliefs of the cells."""


class DiscountedBeta(Estimator):
    """A Beta posterior a prompt, in `state.mean` (right) and `state.variance` (responses), the past discounted."""

    _saved = ("label_right", "label_seen")

    def __init__(self, table: PromptTable, config: CurriculumConfig, state: PromptState) -> None:
        """Labels at their tier's middle, with the weight of `offline_weight` responses."""
        super().__init__(table, config, state)
        middles = np.append(1 - (np.arange(NUM_TIERS) + 0.5) / NUM_TIERS, 0.5)
        weight = max(config.offline_weight, 1.0)
        self.label_right = np.tile(middles * weight, (table.num_domains, 1))  # [D, L]
        self.label_seen = np.full((table.num_domains, LABELS), weight)  # [D, L]
        self._per_domain = LABELS + _MEANS * len(_WEIGHTS)
        self.num_cells = table.num_domains * self._per_domain

    def _counts(self, rows: Rows) -> tuple[Floats, Floats]:
        """[n] right and [n] wrong responses of each row, the prior (2 responses) with them."""
        at = (self._table.domains[rows], self._labels[rows])
        prior = self.label_right[at] / self.label_seen[at]
        right = self._state.mean[rows].astype(np.float64)
        wrong = self._state.variance[rows] - right
        return right + 2 * prior, wrong + 2 * (1 - prior)

    def cells(self, rows: Rows) -> NDArray[np.int64]:
        """See `Estimator.cells`: by label if never rolled out, else by mean pass rate and number of responses."""
        right, wrong = self._counts(rows)
        bins = np.minimum((right / (right + wrong) * _MEANS).astype(np.int64), _MEANS - 1)
        seen = LABELS + bins * len(_WEIGHTS) + np.searchsorted(_WEIGHT_EDGES, right + wrong)
        within = np.where(self._state.times[rows] > 0, seen, self._labels[rows])
        return np.asarray(self._table.domains[rows].astype(np.int64) * self._per_domain + within)

    def cell_logits(self) -> tuple[Floats, Floats]:
        """See `Estimator.cell_logits`."""
        means = np.repeat((np.arange(_MEANS) + 0.5) / _MEANS, len(_WEIGHTS))
        weights = np.tile(_WEIGHTS, _MEANS)
        shape = (self._table.num_domains, 1)
        prior = self.label_right / self.label_seen
        right = np.concatenate([2 * prior, np.tile(means * weights, shape)], axis=1)
        wrong = np.concatenate([2 * (1 - prior), np.tile((1 - means) * weights, shape)], axis=1)
        return _beta_logits(right.ravel(), wrong.ravel())

    def row_logits(self, rows: Rows) -> tuple[Floats, Floats]:
        """See `Estimator.row_logits`."""
        return _beta_logits(*self._counts(rows))

    def label_pass_rates(self) -> Floats:
        """See `Estimator.label_pass_rates`."""
        return np.asarray(self.label_right / self.label_seen)

    def predict(self, rows: Rows) -> Floats:
        """[n] expected pass rates, the means of the Beta posteriors."""
        right, wrong = self._counts(rows)
        return right / (right + wrong)

    def observe(self, rows: Rows, right: Floats, counts: NDArray[np.int64]) -> None:
        """See `Estimator.observe`."""
        state, keep = self._state, self._config.ema
        new = state.times[rows] == 0
        flat = self._table.domains[rows[new]].astype(np.int64) * LABELS + self._labels[rows[new]]
        size, shape = self.label_seen.size, self.label_seen.shape
        seen = np.bincount(flat, counts[new], minlength=size).reshape(shape)
        forget = np.where(seen > 0, keep, 1.0)
        self.label_seen = forget * self.label_seen + seen
        self.label_right = forget * self.label_right + np.bincount(flat, right[new], minlength=size).reshape(shape)
        state.mean[rows] = keep * state.mean[rows] + right
        state.variance[rows] = keep * state.variance[rows] + counts
        state.times[rows] += 1
        state.last_step[rows] = state.step


def _beta_logits(right: Floats, wrong: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of logit(p) for p ~ Beta(right, wrong), to second order."""
    right, wrong = np.maximum(right, 0.05), np.maximum(wrong, 0.05)
    return np.log(right / wrong), np.minimum(1 / right + 1 / wrong, 16.0)
