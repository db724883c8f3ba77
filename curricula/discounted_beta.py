"""A discounted Beta posterior a prompt: the simple alternative to the item-response filter.

As in MoPPS (arXiv 2507.04632): right and wrong responses are counted a prompt, the past discounted at each new group
in favour of the prior, which is the pass rate of first rollouts with the prompt's domain and label. Two things are
added, without which predictions lag behind a policy that learns (they were too low by 0.06 in the simulator):

- *Progress.* What is kept of a prompt is the logit of its mean less the progress of its domain, so that progress moves
  all of its prompts. Progress is followed by one scoring step an iteration on the groups of prompts seen before.
- *Concentration.* The prior weighs as many responses as the spread of first pass rates within the label says.
"""

from __future__ import annotations

import numpy as np

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import PromptTable
from rlcs.curricula.posterior import Estimator, Rows
from rlcs.curricula.quadrature import Floats, Ints, sigmoid
from rlcs.curricula.state import PromptState
from rlcs.curricula.tally import LABELS
from rlcs.types import NUM_TIERS

_BIN = 0.4
_NUM_BINS = 30
_LOWEST = -_BIN * _NUM_BINS / 2
_WEIGHT_EDGES = np.asarray([6.0, 12.0, 20.0])
_WEIGHTS = np.asarray([4.0, 9.0, 15.0, 25.0])
"""Representative numbers of responses behind the beliefs of the cells."""
_LEAST, _MOST = 1.0, 12.0
"""Bounds of the prior's weight, in responses."""


class DiscountedBeta(Estimator):
    """A Beta posterior a prompt: `state.mean` is the logit of its mean, `state.variance` the responses behind it."""

    _saved = ("label_mean", "label_seen", "label_spread", "label_groups", "progress", "progress_variance")

    def __init__(self, table: PromptTable, config: CurriculumConfig, state: PromptState) -> None:
        """Labels at their tier's middle, with the weight of `offline_weight` responses."""
        super().__init__(table, config, state)
        shape = (table.num_domains, LABELS)
        middles = np.append(1 - (np.arange(NUM_TIERS) + 0.5) / NUM_TIERS, 0.5)
        self.label_mean = np.tile(_logit(middles), (shape[0], 1))  # [D, L] logits, less progress
        self.label_seen = np.full(shape, max(config.offline_weight, 1.0))  # [D, L] responses
        self.label_spread = np.full(shape, 1 / 3)  # [D, L] variance of p over p(1 - p): concentration 2
        self.label_groups = np.full(shape, 10.0)  # [D, L] first groups behind it
        self.progress = np.zeros(table.num_domains)  # [D] logits
        self.progress_variance = np.full(table.num_domains, 0.1)  # [D]
        self._per_domain = LABELS + _NUM_BINS * len(_WEIGHTS)
        self.num_cells = table.num_domains * self._per_domain

    def _prior(self, domains: Ints, labels: Ints) -> tuple[Floats, Floats]:
        """[n] mean pass rate and [n] weight, in responses, of the prior of each domain and label."""
        mean = sigmoid(self.label_mean[domains, labels] + self.progress[domains])
        return mean, np.clip(1 / self.label_spread[domains, labels] - 1, _LEAST, _MOST)

    def _counts(self, rows: Rows) -> tuple[Floats, Floats]:
        """[n] right and [n] wrong responses of each row, the prior with them."""
        domains, state = self._table.domains[rows], self._state
        prior, weight = self._prior(domains, self._labels[rows])
        is_seen = state.times[rows] > 0
        p = np.where(is_seen, sigmoid(state.mean[rows] + self.progress[domains]), prior)
        total = np.where(is_seen, state.variance[rows], weight)
        return p * total, (1 - p) * total

    def cells(self, rows: Rows) -> Rows:
        """See `Estimator.cells`: by label if never rolled out, else by mean pass rate and number of responses."""
        state = self._state
        bins = np.clip((state.mean[rows] - _LOWEST) / _BIN, 0, _NUM_BINS - 1).astype(np.int64)
        seen = LABELS + bins * len(_WEIGHTS) + np.searchsorted(_WEIGHT_EDGES, state.variance[rows])
        within = np.where(state.times[rows] > 0, seen, self._labels[rows])
        return np.asarray(self._table.domains[rows].astype(np.int64) * self._per_domain + within)

    def cell_logits(self) -> tuple[Floats, Floats]:
        """See `Estimator.cell_logits`."""
        domains, labels = np.divmod(np.arange(self.label_mean.size), LABELS)
        prior, weight = (x.reshape(self.label_mean.shape) for x in self._prior(domains, labels))
        centres = np.repeat(_LOWEST + _BIN * (np.arange(_NUM_BINS) + 0.5), len(_WEIGHTS))
        p = np.concatenate([prior, sigmoid(self.progress[:, None] + centres)], axis=1)  # [D, cells]
        seen = np.broadcast_to(np.tile(_WEIGHTS, _NUM_BINS), (len(p), len(centres)))
        total = np.concatenate([weight, seen], axis=1)
        return _beta_logits((p * total).ravel(), ((1 - p) * total).ravel())

    def row_logits(self, rows: Rows) -> tuple[Floats, Floats]:
        """See `Estimator.row_logits`."""
        return _beta_logits(*self._counts(rows))

    def label_pass_rates(self) -> Floats:
        """See `Estimator.label_pass_rates`."""
        return sigmoid(self.label_mean + self.progress[:, None])

    def predict(self, rows: Rows) -> Floats:
        """[n] expected pass rates, the means of the Beta posteriors."""
        right, wrong = self._counts(rows)
        return right / (right + wrong)

    def observe(self, rows: Rows, right: Floats, counts: Ints) -> None:
        """See `Estimator.observe`: progress, then labels, then prompts."""
        state, keep = self._state, self._config.ema
        domains, labels = self._table.domains[rows].astype(np.int64), self._labels[rows]
        is_new = state.times[rows] == 0
        self._follow_progress(rows[~is_new], right[~is_new], counts[~is_new])
        self._learn_labels(domains[is_new], labels[is_new], right[is_new], counts[is_new])
        prior, weight = self._prior(domains, labels)
        old_right, old_wrong = self._counts(rows)
        forget = np.where(is_new, 0.0, 1 - keep)
        new_right = (1 - forget) * old_right + forget * weight * prior + right
        total = (1 - forget) * (old_right + old_wrong) + forget * weight + counts
        state.mean[rows] = _logit(np.clip(new_right / total, 1e-3, 1 - 1e-3)) - self.progress[domains]
        state.variance[rows] = total
        state.times[rows] += 1
        state.last_step[rows] = state.step

    def _follow_progress(self, rows: Rows, right: Floats, counts: Ints) -> None:
        """One scoring step a domain on the groups of rows seen before; the variance grows by `ability_drift` first."""
        size = len(self.progress)
        domains = self._table.domains[rows].astype(np.int64)
        old_right, old_wrong = self._counts(rows)
        total = old_right + old_wrong
        p = np.clip(old_right / total, 0.01, 0.99)
        scale = 1 / counts + 1 / (total + 1)  # variance of the observed rate about p, over p(1 - p)
        variance = self.progress_variance + self._config.ability_drift
        precision = 1 / variance + np.bincount(domains, p * (1 - p) / scale, minlength=size)
        pull = np.bincount(domains, (right / counts - p) / scale, minlength=size)
        self.progress = self.progress + np.clip(pull / precision, -1.0, 1.0)
        self.progress_variance = np.minimum(1 / precision, 1.0)

    def _learn_labels(self, domains: Ints, labels: Ints, right: Floats, counts: Ints) -> None:
        """Mean and concentration of first pass rates; a label forgets when it is seen."""
        flat = domains * LABELS + labels
        size, shape = self.label_seen.size, self.label_seen.shape

        def add(x: Floats | None = None) -> Floats:
            return np.bincount(flat, x, minlength=size).reshape(shape).astype(np.float64)

        m = np.clip(self._prior(domains, labels)[0], 0.02, 0.98)
        # Of a pass rate with concentration c: E[(rate - m)^2] = m(1 - m) (s + (1 - s) / n), s = 1 / (c + 1).
        square = ((right / counts - m) ** 2 / (m * (1 - m)) - 1 / counts) / np.maximum(1 - 1 / counts, 0.5)
        groups = add()
        self.label_groups = np.minimum(self.label_groups + groups, 200)
        self.label_spread += (add(square) - groups * self.label_spread) / self.label_groups
        self.label_spread = np.clip(self.label_spread, 1 / (_MOST + 1), 1 / (_LEAST + 1))
        keep = np.where(groups > 0, self._config.ema, 1.0)
        before = sigmoid(self.label_mean + self.progress[:, None]) * self.label_seen
        self.label_seen = keep * self.label_seen + add(counts.astype(np.float64))
        after = np.clip((keep * before + add(right)) / self.label_seen, 1e-3, 1 - 1e-3)
        self.label_mean = np.where(groups > 0, _logit(after) - self.progress[:, None], self.label_mean)


def _logit(p: Floats) -> Floats:
    return np.asarray(np.log(p / (1 - p)))


def _beta_logits(right: Floats, wrong: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of logit(p) for p ~ Beta(right, wrong), to second order."""
    right, wrong = np.maximum(right, 0.05), np.maximum(wrong, 0.05)
    return np.log(right / wrong), np.minimum(1 / right + 1 / wrong, 16.0)
