"""Dynamic sampling expansion: how many more prompts to roll out than the update needs.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5): `ratio = 1 / (1 - EMA(not_valid))`, where not_valid is the share of
groups of the last iteration whose responses all got the same reward. The number of rollouts is known before the
iteration, unlike with draw-and-discard.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Expansion:
    """The moving average of the not-valid share and the oversampling factor that follows from it."""

    def __init__(self, *, ema: float, maximum: float) -> None:
        """`ema`: weight of the past; `maximum`: upper bound of the ratio (1 switches expansion off)."""
        self._ema = ema
        self._maximum = maximum
        self.not_valid: float | None = None
        """Moving average of the not-valid share; None before the first observation."""

    @property
    def ratio(self) -> float:
        """The oversampling factor by the moving average, in [1, maximum]."""
        return self._ratio(self.not_valid or 0.0)

    def _ratio(self, not_valid: float) -> float:
        return min(self._maximum, 1 / max(1 - not_valid, 1e-9))

    def num_prompts(self, batch_size: int, num_rows: int, *, not_valid: float | None = None) -> int:
        """Prompts to draw for `batch_size` groups: at most as many as there are, unless the batch itself is larger.

        `not_valid`: a prediction for the coming draw, to take instead of the moving average.
        """
        wanted = math.ceil(batch_size * (self.ratio if not_valid is None else self._ratio(not_valid)) - 1e-9)
        return max(batch_size, min(wanted, num_rows))

    def observe(self, degenerate: NDArray[np.bool_]) -> None:
        """Take in the degenerate marks [n] of an iteration; an empty one changes nothing."""
        if len(degenerate) == 0:
            return
        share = float(degenerate.mean())
        self.not_valid = share if self.not_valid is None else self._ema * self.not_valid + (1 - self._ema) * share

    def state_dict(self) -> dict[str, Any]:
        """The moving average; -1 stands for none yet."""
        return {"not_valid": -1.0 if self.not_valid is None else self.not_valid}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        value = float(state["not_valid"])
        self.not_valid = None if value < 0 else value
