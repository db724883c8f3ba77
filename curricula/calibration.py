"""How well predicted pass rates match the observed ones: Brier score and expected calibration error.

Each prediction is made before its group is rolled out. The calibration error compares means within bins of predictions,
so the chance in a group of few responses averages out; the Brier score keeps that chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 10

Floats = NDArray[np.float64]


def bin_of(predicted: Floats, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """[n] the bin of equal width, 0 to `num_bins` - 1, of each prediction [n] in [0, 1]."""
    return np.minimum((predicted * num_bins).astype(np.int64), num_bins - 1)


def calibration_error(predicted: Floats, observed: Floats, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error: mean |predicted - observed| of equal-width bins, weighted by size; NaN if empty."""
    if len(predicted) == 0:
        return float("nan")
    gaps = np.bincount(bin_of(predicted, num_bins), predicted - observed, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(predicted))


class Calibration:
    """Moving scores of a curriculum's predictions."""

    def __init__(self, keep: float = 0.98) -> None:
        """`keep`: weight of the past in each observation; 0.98 looks back over some 50 iterations."""
        self._keep = keep
        self._gaps = np.zeros(NUM_BINS)  # discounted sums of predicted - observed
        self._weight = 0.0  # discounted number of groups
        self._brier = -1.0  # of the last observation; none yet

    def observe(self, predicted: Floats, observed: Floats) -> None:
        """Take in the predicted and observed pass rates [n] of an iteration's groups; empty ones change nothing."""
        if len(predicted) == 0:
            return
        gaps = predicted - observed
        self._brier = float(np.mean(gaps**2))
        self._gaps = self._keep * self._gaps + np.bincount(bin_of(predicted), gaps, minlength=NUM_BINS)
        self._weight = self._keep * self._weight + len(gaps)

    @property
    def error(self) -> float:
        """Expected calibration error over the last iterations; NaN before the first."""
        return float(np.abs(self._gaps).sum() / self._weight) if self._weight else float("nan")

    def metrics(self) -> dict[str, float]:
        """`curriculum/brier` of the last iteration and `curriculum/calibration_error`; nothing before the first."""
        if not self._weight:
            return {}
        return {"curriculum/brier": self._brier, "curriculum/calibration_error": self.error}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""
        return {
            "calibration_gaps": self._gaps.copy(),
            "calibration_weight": self._weight,
            "calibration_brier": self._brier,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._gaps = np.asarray(state["calibration_gaps"], dtype=np.float64).copy()
        self._weight, self._brier = float(state["calibration_weight"]), float(state["calibration_brier"])
