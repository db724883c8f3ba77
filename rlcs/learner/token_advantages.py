"""Advantages of tokens for a policy with a critic: rewards of tokens, GAE over them, whitening.

The reward of a response stands at its last learned token; a KL penalty in the reward is subtracted at each token. GAE
(`rlcs.learner.gae`) runs over the learned tokens of a response and ends with it: also a response that was cut off is
worth its reward and nothing more, as in TRL and verl, since the reward was given for it as it stands. Tokens that the
policy did not choose (forced ones) have no value, no reward and no advantage; the recursion passes over them. A
response of which nothing is learned takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.learner.gae import gae
from rlcs.types import Batch

WHITEN_EPSILON = 1e-8
"""Added to the variance, as in TRL's and verl's masked_whiten."""


@dataclass(frozen=True, slots=True)
class ValueTargets:
    """What the critic learns from; arrays over tokens, 0 where `loss_mask` is False."""

    values: NDArray[np.float32]
    """[N] values before the update."""
    returns: NDArray[np.float32]
    """[N]"""


def token_advantages(
    batch: Batch,
    rewards: NDArray[np.floating],
    values: NDArray[np.float32],
    config: LearnerConfig,
    penalties: NDArray[np.floating] | None = None,
) -> tuple[Batch, ValueTargets]:
    """The batch with GAE's advantages, from rewards [S], values [N] and penalties [N]; and the critic's targets.

    Raises:
        ValueError: a reward is not finite, or the arrays do not match the batch.
    """
    rewarded = token_rewards(batch, rewards, penalties)
    mask = batch.loss_mask
    advantages, returns = gae(rewarded, values, batch.offsets, gamma=config.gamma, lam=config.lam, mask=mask)
    if config.whiten_advantages:
        advantages = whiten(advantages, mask)
    return replace(batch, advantages=advantages), ValueTargets(np.where(mask, values, np.float32(0)), returns)


def token_rewards(
    batch: Batch, rewards: NDArray[np.floating], penalties: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """[N] rewards of tokens: those of responses [S] at their last learned token, less `penalties` [N] of learned tokens.

    Raises:
        ValueError: a reward is not finite, or there is not one a sequence.
    """
    if len(rewards) != batch.num_sequences:
        raise ValueError(f"{len(rewards)} rewards for {batch.num_sequences} sequences")
    if not np.isfinite(rewards).all():
        bad = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise ValueError(f"the reward of sequence {bad} is not finite: {rewards[bad]}")
    result = np.zeros(len(batch.token_ids), np.float64)
    if penalties is not None:
        result[batch.loss_mask] -= penalties[batch.loss_mask]
    learned = np.flatnonzero(batch.loss_mask)
    owners = np.searchsorted(batch.offsets, learned, side="right") - 1
    lasts = np.diff(owners, append=-1) != 0
    result[learned[lasts]] += np.asarray(rewards, np.float64)[owners[lasts]]
    return result


def whiten(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`values` [N] less their mean, over their standard deviation, both over `mask` [N]; 0 elsewhere.

    The variance is the unbiased one, as in TRL's and verl's masked_whiten. A single value, and values that are all
    equal, become exact zeros.
    """
    result = np.zeros(len(values), np.float32)
    inside = values[mask].astype(np.float64)
    if len(inside) > 1 and np.ptp(inside) > 0:
        result[mask] = (inside - inside.mean()) / np.sqrt(inside.var(ddof=1) + WHITEN_EPSILON)
    return result
