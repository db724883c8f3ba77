"""The learning rate over iterations."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate(
    peak: float, iteration: int, *, warmup_steps: int = 0, total_steps: int = 0, schedule: Schedule = "constant"
) -> float:
    """The learning rate of iteration `iteration` (from 0): a linear warm-up to `peak`, then constant or falling.

    `linear` and `cosine` fall from `peak` towards 0 at `total_steps`; without `total_steps` they stay constant.
    """
    if iteration < warmup_steps:
        return peak * (iteration + 1) / warmup_steps
    if schedule == "constant" or total_steps <= warmup_steps:
        return peak
    progress = min(1.0, (iteration - warmup_steps) / (total_steps - warmup_steps))
    return peak * (1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2)
