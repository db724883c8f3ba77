"""Advantages of responses from the rewards of their groups.

GRPO (arXiv 2402.03300, section 4.1.2): the reward less the mean of its group, divided by a standard deviation. The
standard deviation is TRL's: Bessel's correction, `STD_EPSILON` added, over the group or over the whole batch
(arXiv 2508.08221), or not applied (Dr. GRPO, arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

STD_EPSILON = 1e-4
"""Added to the standard deviation, as in TRL's GRPOTrainer."""

ScaleRewards = Literal["group", "batch", "none"]


def group_relative(rewards: Sequence[NDArray[np.floating]], scale_rewards: ScaleRewards) -> list[NDArray[np.float32]]:
    """The advantage of each response: [G] for each group, from the [G] rewards of each group.

    Groups may differ in size. A group whose rewards are all equal gets exact zeros.

    Raises:
        ValueError: a reward is not finite, or `scale_rewards` is unknown.
    """
    values = [np.asarray(group, dtype=np.float64) for group in rewards]
    for index, group in enumerate(values):
        if not np.isfinite(group).all():
            raise ValueError(f"group {index} has a reward that is not finite: {group.tolist()}")
    if scale_rewards == "batch":
        spread = _std(np.concatenate(values)) if values else 0.0
        scales = [spread + STD_EPSILON] * len(values)
    elif scale_rewards == "group":
        scales = [_std(group) + STD_EPSILON for group in values]
    elif scale_rewards == "none":
        scales = [1.0] * len(values)
    else:
        raise ValueError(f"scale_rewards is {scale_rewards!r}; it must be group, batch or none")
    advantages = []
    for group, scale in zip(values, scales, strict=True):
        # Rounding of the mean must not give a group without signal a gradient.
        centred = np.zeros_like(group) if np.ptp(group) == 0 else group - group.mean()
        advantages.append((centred / scale).astype(np.float32))
    return advantages


def _std(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
