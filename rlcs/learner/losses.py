"""The policy loss, over flat arrays of the learned tokens of any number of sequences.

Shapes: M learned tokens (those that the policy chose), S sequences.

With log-probabilities `logprobs` of the policy that is trained, `old` of the policy before the update and `sampled` as
the engine reported them, ratio `r = exp(logprobs - old)` and advantage `A`, the loss of a token is (PPO's clip with two
ranges, arXiv 2503.14476)

    w * -min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) + beta * r * KL

with `w = min(exp(old - sampled), cap)`, truncated importance sampling against the engine, and the k3 estimate of the KL
divergence from the reference policy, `exp(reference - logprobs) - (reference - logprobs) - 1`. The factor `r` makes the
gradient of the KL term that of the reverse KL divergence (DeepSeek-V3.2, arXiv 2512.02556); it can be left out. The
loss of a batch is the sum of token losses times `sequence_weights`, so that any split of the batch into parts adds up
to the same gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

LossType = Literal["grpo", "dapo", "dr_grpo"]


def sequence_weights(counts: NDArray[np.int64], loss_type: LossType, max_completion_length: int) -> NDArray[np.float32]:
    """[S] the weight of each learned token of a sequence in the loss of the batch, from [S] counts of learned tokens.

    `grpo`: mean over a sequence's tokens, then over sequences (the paper). `dapo`: mean over the batch's tokens.
    `dr_grpo`: sum over tokens / (S x `max_completion_length`). A sequence without learned tokens counts in S.

    Raises:
        ValueError: `loss_type` is unknown.
    """
    num_sequences = max(1, len(counts))
    if loss_type == "grpo":
        weights = 1.0 / (num_sequences * np.maximum(counts, 1))
    elif loss_type == "dapo":
        weights = np.full(len(counts), 1.0 / max(1, int(counts.sum())))
    elif loss_type == "dr_grpo":
        weights = np.full(len(counts), 1.0 / (num_sequences * max_completion_length))
    else:
        raise ValueError(f"loss_type is {loss_type!r}; it must be grpo, dapo or dr_grpo")
    return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """The loss of each learned token, and what it was made of; everything but `loss` is detached."""

    loss: torch.Tensor
    """[M] not yet weighted."""
    log_ratio: torch.Tensor
    """[M] log of the ratio to the policy before the update."""
    clipped_low: torch.Tensor
    """[M] bool: the ratio is under its range and the advantage negative."""
    clipped_high: torch.Tensor
    """[M] bool: the ratio is over its range and the advantage positive."""
    importance: torch.Tensor
    """[M] truncated importance weight, 1 where it is off."""
    kl: torch.Tensor | None
    """[M] the KL term without its weight `beta`, None where `beta` is 0."""


def policy_loss(
    logprobs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    old_logprobs: torch.Tensor | None = None,
    sampled_logprobs: torch.Tensor | None = None,
    reference_logprobs: torch.Tensor | None = None,
    epsilon: float = 0.2,
    epsilon_high: float = 0.28,
    beta: float = 0.0,
    use_bias_correction_kl: bool = True,
    importance_sampling_cap: float = 2.0,
) -> TokenLoss:
    """The loss of each of M learned tokens; all arguments are [M].

    `old_logprobs` None: those of this very pass, so that the ratio is exactly 1 and its gradient that of the
    log-probability. `sampled_logprobs` None: no importance sampling. `reference_logprobs` is needed where `beta` > 0.

    Raises:
        ValueError: `beta` > 0 without `reference_logprobs`.
    """
    import torch

    old = logprobs.detach() if old_logprobs is None else old_logprobs
    log_ratio = logprobs - old
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + epsilon_high)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)

    importance = torch.ones_like(old)
    if sampled_logprobs is not None:
        importance = importance_weights(old, sampled_logprobs, importance_sampling_cap)
        loss = loss * importance

    kl = None
    if beta:
        if reference_logprobs is None:
            raise ValueError("beta > 0 needs reference_logprobs")
        kl = kl_k3(logprobs, reference_logprobs)
        if use_bias_correction_kl:
            kl = kl * ratio
        loss = loss + beta * kl

    with torch.no_grad():
        low = (ratio < 1 - epsilon) & (advantages < 0)
        high = (ratio > 1 + epsilon_high) & (advantages > 0)
    return TokenLoss(loss, log_ratio.detach(), low, high, importance, None if kl is None else kl.detach())


def kl_k3(logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """[M] the k3 estimate of KL(policy || reference): unbiased, never negative (Schulman 2020)."""
    import torch

    difference = reference_logprobs - logprobs
    return torch.exp(difference) - difference - 1


def importance_weights(old_logprobs: torch.Tensor, sampled_logprobs: torch.Tensor, cap: float) -> torch.Tensor:
    """[M] `min(exp(old - sampled), cap)`, detached; 1 where the engine gave no log-probability (NaN)."""
    import torch

    with torch.no_grad():
        difference = torch.nan_to_num(old_logprobs - sampled_logprobs, nan=0.0)
        return torch.exp(difference).clamp(max=cap)
