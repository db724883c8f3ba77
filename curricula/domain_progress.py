"""Shares of the domains by learning progress: where pass rates change, there is something to learn or to win back.

After teacher-student curriculum learning (Matiisen et al., arXiv 1707.00183): a domain's share follows the absolute
change of its pass rate. Level l (a domain's mean pass rate over all of its prompts, estimated by the curriculum), slow
average s, change c, each a moving average with weight 0.9 of the past:

    s <- 0.9 s + 0.1 l,     c <- 0.9 c + 0.1 (l - s),     share = f base + (1 - f) base |c| / sum(base |c|)

so that domains that change equally keep their base shares. A steady change of r an iteration shows as |c| = 9 r; noise
cancels in c before its size is taken. `base` are the shares that the domains would have otherwise and f the floor, so
that no domain falls below f of its base share. During the first 10 iterations, in which estimates move because they were
poor, and when nothing changes, the shares are the base.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_KEEP = 0.9
_WARM_UP = 10
_NO_CHANGE = 1e-6


class DomainProgress:
    """The moving averages of D domains."""

    def __init__(self, base: Floats, floor: float) -> None:
        """`base` [D] sums to 1; `floor` in (0, 1]."""
        self._base, self._floor = base, floor
        self._slow = np.full(len(base), -1.0)  # [D] none yet
        self.change = np.zeros(len(base))
        """[D] smoothed signed change of the pass rate."""
        self._step = 0

    @property
    def shares(self) -> Floats:
        """[D] target shares, summing to 1."""
        size = self._base * np.abs(self.change)
        if self._step <= _WARM_UP or size.sum() < _NO_CHANGE:
            return self._base
        return np.asarray(self._floor * self._base + (1 - self._floor) * size / size.sum())

    def observe(self, levels: Floats) -> None:
        """Take in the domains' pass rates [D] after an iteration; NaN for a domain that nothing is known of."""
        self._step += 1
        if self._step < _WARM_UP:
            return
        is_known = ~np.isnan(levels)
        levels = np.where(is_known, levels, 0.0)
        slow = np.where(self._slow < 0, levels, _KEEP * self._slow + (1 - _KEEP) * levels)
        self.change = np.where(is_known, _KEEP * self.change + (1 - _KEEP) * (levels - slow), self.change)
        self._slow = np.where(is_known, slow, self._slow)

    def state_dict(self) -> dict[str, Any]:
        """Arrays and a number that `load_state_dict` takes."""
        return {"progress_slow": self._slow.copy(), "progress_change": self.change.copy(), "progress_step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._slow = np.asarray(state["progress_slow"], dtype=np.float64).copy()
        self.change = np.asarray(state["progress_change"], dtype=np.float64).copy()
        self._step = int(state["progress_step"])


class LabelLevels:
    """A domain's pass rate from moving averages of its labels: right for samplers that are even within a label.

    It weighs labels by their prompts, so that a sampler that turns to harder tiers does not pass for forgetting.
    """

    def __init__(self, census: NDArray[np.int64], keep: float) -> None:
        """`census` [D, L] prompts of each domain and label; `keep`: weight of the past at each iteration."""
        self._census, self._keep = census, keep
        self._right = np.zeros(census.shape)
        self._seen = np.zeros(census.shape)  # discounted groups

    @property
    def levels(self) -> Floats:
        """[D] pass rate over the labels that were seen; NaN where none was."""
        weights = np.where(self._seen > 0, self._census, 0)
        rates = self._right / np.maximum(self._seen, 1e-12)
        total = weights.sum(axis=1)
        return np.where(total > 0, (weights * rates).sum(axis=1) / np.maximum(total, 1), np.nan)

    def observe(self, groups: Floats, passed: Floats) -> None:
        """[D, L] groups of an iteration and the sums of their pass rates; a label forgets when it is seen."""
        keep = np.where(groups > 0, self._keep, 1.0)
        self._seen = keep * self._seen + groups
        self._right = keep * self._right + passed

    def state_dict(self) -> dict[str, Any]:
        """Arrays that `load_state_dict` takes."""
        return {"level_right": self._right.copy(), "level_seen": self._seen.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._right = np.asarray(state["level_right"], dtype=np.float64).reshape(self._right.shape).copy()
        self._seen = np.asarray(state["level_seen"], dtype=np.float64).reshape(self._seen.shape).copy()
