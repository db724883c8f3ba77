"""The policy loss, over flat arrays of the learned tokens of any number of sequences.

Shapes: M learned tokens (those that the policy chose), S sequences.

With log-probabilities `logprobs` of the policy that is trained, `old` of the policy before the update, advantage `A`
and ratio `r = exp(logprobs - old)`, of a token or (GSPO, arXiv 2507.18071) its geometric mean over the sequence, the
policy's part of a token's loss is, `sg` meaning without gradient,

| `loss_type` | loss |
|---|---|
| `grpo`, `dapo`, `bnpo`, `dr_grpo`, `luspo` | `-min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A)` |
| `cispo` | `-sg(min(r, epsilon_high)) A logprobs` (arXiv 2506.13585) |
| `sapo` | `-sigmoid(tau (r - 1)) 4 / tau A`, tau by the sign of A (arXiv 2511.20347) |
| `vespo` | `-sg(phi(w)) A logprobs`, `phi(w) = w^k exp(lambda (1 - w))`, w of the sequence (arXiv 2602.10693) |

PPO's clip has two ranges (arXiv 2503.14476); `delta` is the dual clip (arXiv 2505.07291). The loss of a token is

    keep * w * policy part + beta * r * KL

with `w` the importance weight against the engine, `keep` the off-policy mask and an estimate of the KL divergence from
the reference policy (`rlcs.learner.corrections`). The factor `r` makes the gradient of the KL term that of the reverse
KL divergence (DeepSeek-V3.2, arXiv 2512.02556); it can be left out. The loss of a batch is the sum of token losses
times `sequence_weights`, so that any split of the batch into parts adds up to the same gradient.

Names, formulae and defaults are those of TRL's GRPOTrainer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.learner.corrections import (
    importance_weights,
    kl_estimate,
    needed,
    off_policy_mask,
    sequence_mean,
    sequence_sum,
)

if TYPE_CHECKING:
    import torch

LossType = Literal["grpo", "dapo", "bnpo", "dr_grpo", "luspo", "cispo", "sapo", "vespo"]


def sequence_weights(counts: NDArray[np.int64], loss_type: LossType, max_completion_length: int) -> NDArray[np.float32]:
    """[S] the weight of each learned token of a sequence in the loss of the batch, from [S] counts of learned tokens.

    `grpo`, `sapo`: mean over a sequence's tokens, then over sequences (the paper). `dapo`, `bnpo`, `cispo`, `vespo`:
    mean over the batch's tokens. `dr_grpo`: sum over tokens / (S x `max_completion_length`). `luspo`: sum over tokens
    / S. A sequence without learned tokens counts in S.

    Raises:
        ValueError: `loss_type` is unknown.
    """
    num_sequences = max(1, len(counts))
    if loss_type in ("grpo", "sapo"):
        weights = 1.0 / (num_sequences * np.maximum(counts, 1))
    elif loss_type in ("dapo", "bnpo", "cispo", "vespo"):
        weights = np.full(len(counts), 1.0 / max(1, int(counts.sum())))
    elif loss_type == "dr_grpo":
        weights = np.full(len(counts), 1.0 / (num_sequences * max_completion_length))
    elif loss_type == "luspo":
        weights = np.full(len(counts), 1.0 / num_sequences)
    else:
        raise ValueError(f"loss_type is {loss_type!r}, which is not one of those that are known")
    return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """The loss of each learned token, and what it was made of; everything but `loss` is detached."""

    loss: torch.Tensor
    """[M] not yet weighted."""
    log_ratio: torch.Tensor
    """[M] log of the token's ratio to the policy before the update."""
    clipped_low: torch.Tensor
    """[M] bool: the ratio is under its range and the advantage negative."""
    clipped_high: torch.Tensor
    """[M] bool: the ratio is over its range and the advantage positive."""
    importance: torch.Tensor
    """[M] importance weight, 1 where it is off."""
    kl: torch.Tensor | None
    """[M] the KL term without its weight `beta`, None where the loss has none."""
    kept: torch.Tensor | None = None
    """[M] bool: False where the off-policy mask left the token out; None where there is no such mask."""


def policy_loss(
    logprobs: torch.Tensor,
    advantages: torch.Tensor,
    config: LearnerConfig,
    *,
    old_logprobs: torch.Tensor | None = None,
    sampled_logprobs: torch.Tensor | None = None,
    reference_logprobs: torch.Tensor | None = None,
    counts: torch.Tensor | None = None,
) -> TokenLoss:
    """The loss of each of M learned tokens; tensors are [M], but `counts` [S], the tokens of each sequence.

    `old_logprobs` None: those of this very pass, so that the ratio is exactly 1 and its gradient that of the
    log-probability. `sampled_logprobs` None: no importance sampling. `reference_logprobs` is needed where `config.beta`
    > 0 and the KL penalty is in the loss; `counts` where anything belongs to a whole sequence.

    Raises:
        ValueError: `reference_logprobs` or `counts` are needed and not given.
    """
    import torch

    old = logprobs.detach() if old_logprobs is None else old_logprobs
    log_ratio = logprobs - old
    if config.importance_sampling_level == "sequence":
        ratio = torch.exp(sequence_mean(log_ratio, needed(counts, "importance_sampling_level sequence")))
    else:
        ratio = torch.exp(log_ratio)

    importance = torch.ones_like(old)
    corrected = sampled_logprobs is not None and config.importance_sampling_correction
    if sampled_logprobs is not None and corrected:
        importance = importance_weights(
            old,
            sampled_logprobs,
            config.importance_sampling_cap,
            clip_min=config.importance_sampling_clip_min,
            mode=config.importance_sampling_mode,
            counts=counts,
        )

    if config.loss_type == "cispo":
        loss = -torch.clamp(ratio, max=config.epsilon_high).detach() * advantages * logprobs
    elif config.loss_type == "sapo":
        loss = -_soft_gate(ratio, advantages, config) * advantages
    elif config.loss_type == "vespo":
        ours = importance if corrected else None
        loss = -_gamma_weights(log_ratio, advantages, ours, needed(counts, "loss_type vespo"), config)
        loss = loss * advantages * logprobs
    else:
        clipped = torch.clamp(ratio, 1 - config.epsilon, 1 + config.epsilon_high)
        bounded = ratio if config.delta is None else torch.clamp(ratio, max=config.delta)
        loss = -torch.minimum(bounded * advantages, clipped * advantages)

    kept = None
    if config.off_policy_mask_threshold is not None:
        sampled = old if sampled_logprobs is None else sampled_logprobs
        tokens = needed(counts, "off_policy_mask_threshold")
        kept = off_policy_mask(logprobs, sampled, advantages, tokens, config.off_policy_mask_threshold)
        loss = loss * kept
    if corrected and config.loss_type != "vespo":  # which has them in its own weights
        loss = loss * importance

    kl = None
    if config.beta and config.kl_placement == "loss":
        if reference_logprobs is None:
            raise ValueError("beta > 0 needs reference_logprobs")
        kl = kl_estimate(logprobs, reference_logprobs, config.kl_estimator)
        if config.use_bias_correction_kl:
            kl = kl * ratio
        loss = loss + config.beta * kl

    low, high = _clipped(ratio.detach(), advantages, config)
    return TokenLoss(loss, log_ratio.detach(), low, high, importance, None if kl is None else kl.detach(), kept)


def _soft_gate(ratio: torch.Tensor, advantages: torch.Tensor, config: LearnerConfig) -> torch.Tensor:
    """SAPO's gate [M]: its slope is 1 at a ratio of 1 and falls on both sides."""
    import torch

    temperatures = torch.where(advantages > 0, config.sapo_temperature_pos, config.sapo_temperature_neg)
    return torch.sigmoid(temperatures * (ratio - 1)) * 4 / temperatures


def _gamma_weights(
    log_ratio: torch.Tensor,
    advantages: torch.Tensor,
    importance: torch.Tensor | None,
    counts: torch.Tensor,
    config: LearnerConfig,
) -> torch.Tensor:
    """VESPO's weights `phi(w)` [M], detached, w the product of the sequence's ratios and importance weights.

    The bounds of the logarithms are TRL's.
    """
    import torch

    lowest, highest = math.log(1e-8), 20.0
    with torch.no_grad():
        log_w = sequence_sum(log_ratio.clamp(-20.0, highest), counts)
        if importance is not None:
            log_w = log_w + sequence_sum(torch.log(importance).clamp(lowest, highest), counts)
        log_w = log_w.clamp(lowest, highest)
        positive = advantages >= 0
        k = torch.where(positive, config.vespo_k_pos, config.vespo_k_neg)
        decay = torch.where(positive, config.vespo_lambda_pos, config.vespo_lambda_neg).clamp(min=1e-4)
        log_phi = decay + k * log_w - decay * torch.exp(log_w)
        return torch.exp(log_phi).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _clipped(ratio: torch.Tensor, advantages: torch.Tensor, config: LearnerConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the ratio leaves its range on the side that cuts the gradient (cispo: that is capped): low and high [M]."""
    import torch

    nowhere = torch.zeros_like(ratio, dtype=torch.bool)
    if config.loss_type in ("sapo", "vespo"):
        return nowhere, nowhere
    if config.loss_type == "cispo":
        return nowhere, (ratio > config.epsilon_high) & (advantages > 0)
    return (ratio < 1 - config.epsilon) & (advantages < 0), (ratio > 1 + config.epsilon_high) & (advantages > 0)
