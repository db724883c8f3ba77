"""Advantages of responses from the rewards of their groups.

| estimator | advantage of a response |
|---|---|
| `grpo` | reward less the mean of its group, divided by a standard deviation (arXiv 2402.03300, section 4.1.2) |
| `rloo` | reward less the mean of the group's other rewards (arXiv 2402.14740) |
| `reinforce_plus_plus` | reward, normalised over the learned tokens of the batch (arXiv 2501.03262) |
| `reinforce_plus_plus_baseline` | reward less the mean of its group, then normalised over the batch's learned tokens |

The standard deviation is TRL's: Bessel's correction, `STD_EPSILON` added. GRPO's is over the group or over the whole
batch (arXiv 2508.08221), or not applied (Dr. GRPO, arXiv 2503.20783). Advantages of tokens, for a policy with a critic
(`gae`), are in `rlcs.learner.token_advantages`; a batch made here has none then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.learner.batching import learned_counts, make_batch, with_advantages
from rlcs.types import Batch, Group

STD_EPSILON = 1e-4
"""Added to the standard deviation, as in TRL's GRPOTrainer."""

ScaleRewards = Literal["group", "batch", "none"]
Rewards = Sequence[NDArray[np.floating]]
"""[G] rewards for each group; groups may differ in size."""
Advantages = list[NDArray[np.float32]]
"""[G] advantages for each group."""


def learning_batch(groups: Sequence[Group], config: LearnerConfig) -> Batch:
    """The batch of scored groups, with the advantages and the masks that `config` asks for.

    Raises:
        ValueError: a reward is missing or not finite.
    """
    zeros = np.zeros(sum(len(group.responses) for group in groups))
    batch = make_batch(groups, zeros, mask_truncated=config.mask_truncated_completions)
    rewards = np.concatenate([group.rewards for group in groups]) if groups else zeros
    return assign_advantages(batch, rewards, [len(group.responses) for group in groups], config)


def assign_advantages(
    batch: Batch, rewards: NDArray[np.floating], group_sizes: Sequence[int], config: LearnerConfig
) -> Batch:
    """The batch with the advantages of `rewards` [S], whose groups of `group_sizes` stand side by side.

    Raises:
        ValueError: a reward is not finite, or the rewards or group sizes do not match the batch.
    """
    if len(rewards) != batch.num_sequences or sum(group_sizes) != batch.num_sequences:
        raise ValueError(
            f"{len(rewards)} rewards and groups of {sum(group_sizes)} responses for {batch.num_sequences} sequences"
        )
    if not batch.num_sequences or config.advantage_estimator == "gae":  # the critic gives them
        return batch
    cuts = np.cumsum(group_sizes)[:-1]
    counts = np.split(learned_counts(batch), cuts)
    return with_advantages(batch, np.concatenate(estimate_advantages(np.split(rewards, cuts), config, counts)))


def estimate_advantages(
    rewards: Rewards, config: LearnerConfig, counts: Sequence[NDArray[np.integer]] | None = None
) -> Advantages:
    """The advantage of each response, as `config.advantage_estimator` says (not `gae`, which is of tokens).

    `counts` are the learned tokens of each response ([G] for each group), by which REINFORCE++ weighs the responses of
    the batch; equal weights without them.

    Raises:
        ValueError: a reward is not finite.
    """
    if config.advantage_estimator == "grpo":
        return group_relative(rewards, config.scale_rewards)
    if config.advantage_estimator == "rloo":
        return leave_one_out(rewards, normalize=config.normalize_advantages)
    group_baseline = config.advantage_estimator == "reinforce_plus_plus_baseline"
    return reinforce_plus_plus(rewards, counts, group_baseline=group_baseline)


def group_relative(rewards: Rewards, scale_rewards: ScaleRewards) -> Advantages:
    """GRPO: [G] advantages for each group, from the [G] rewards of each group.

    A group whose rewards are all equal gets exact zeros.

    Raises:
        ValueError: a reward is not finite, or `scale_rewards` is unknown.
    """
    values = _finite(rewards)
    if scale_rewards == "batch":
        spread = _std(np.concatenate(values)) if values else 0.0
        scales = [spread + STD_EPSILON] * len(values)
    elif scale_rewards == "group":
        scales = [_std(group) + STD_EPSILON for group in values]
    elif scale_rewards == "none":
        scales = [1.0] * len(values)
    else:
        raise ValueError(f"scale_rewards is {scale_rewards!r}; it must be group, batch or none")
    return [(_centred(group) / scale).astype(np.float32) for group, scale in zip(values, scales, strict=True)]


def leave_one_out(rewards: Rewards, *, normalize: bool = False) -> Advantages:
    """RLOO: the reward less the mean of the other rewards of its group; 0 in a group of one.

    `normalize`: less the mean of all advantages, divided by their standard deviation (TRL's `normalize_advantages`).

    Raises:
        ValueError: a reward is not finite.
    """
    # r - (sum - r) / (G - 1) = (r - mean) G / (G - 1)
    values = [_centred(group) * (len(group) / max(1, len(group) - 1)) for group in _finite(rewards)]
    if normalize and values:
        flat = np.concatenate(values)
        scale = _std(flat) + STD_EPSILON
        values = [(group - flat.mean()) / scale for group in values]
    return [group.astype(np.float32) for group in values]


def reinforce_plus_plus(
    rewards: Rewards, counts: Sequence[NDArray[np.integer]] | None = None, *, group_baseline: bool = False
) -> Advantages:
    """REINFORCE++: the reward less the mean of the batch, divided by its standard deviation.

    Mean and deviation are over the batch's learned tokens, each with the reward of its response: `counts` says how many
    tokens a response has. `group_baseline` first takes the mean of its group from each reward. A batch whose values are
    all equal gets exact zeros.

    Raises:
        ValueError: a reward is not finite, or `counts` do not match the rewards.
    """
    values = [_centred(group) if group_baseline else group for group in _finite(rewards)]
    if not values:
        return []
    flat = np.concatenate(values)
    weights = np.ones(len(flat)) if counts is None else np.concatenate(counts).astype(np.float64)
    if len(weights) != len(flat):
        raise ValueError(f"{len(weights)} counts for {len(flat)} rewards")
    total = weights.sum()
    if np.ptp(flat) == 0 or total == 0:
        return [np.zeros(len(group), np.float32) for group in values]
    mean = (weights * flat).sum() / total
    scale = np.sqrt((weights * (flat - mean) ** 2).sum() / max(1.0, total - 1)) + STD_EPSILON
    return [((group - mean) / scale).astype(np.float32) for group in values]


def _finite(rewards: Rewards) -> list[NDArray[np.float64]]:
    values = [np.asarray(group, dtype=np.float64) for group in rewards]
    for index, group in enumerate(values):
        if not np.isfinite(group).all():
            raise ValueError(f"group {index} has a reward that is not finite: {group.tolist()}")
    return values


def _centred(group: NDArray[np.float64]) -> NDArray[np.float64]:
    # Rounding of the mean must not give a group without signal a gradient.
    return np.zeros_like(group) if np.ptp(group) == 0 else group - group.mean()


def _std(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
