"""What corrects the loss of a token: ratios of whole sequences, importance weights, off-policy masks, KL estimates.

All are over flat arrays [M] of learned tokens. Where something belongs to a whole sequence, its tokens stand side by
side and `counts` [S] says how many each sequence has. A sequence is never divided between micro-batches, so these are
exact however a batch is split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

ImportanceMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
KLEstimator = Literal["k1", "k2", "k3"]


def sequence_sum(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """[M] for each token, the sum of `values` [M] over its sequence; `counts` must add up to M."""
    import torch

    return _each_token(torch.segment_reduce(values, "sum", lengths=counts), counts, len(values))


def sequence_mean(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """[M] for each token, the mean of `values` [M] over its sequence."""
    return sequence_sum(values, counts) / _each_token(counts, counts, len(values))


def importance_weights(
    old_logprobs: torch.Tensor,
    sampled_logprobs: torch.Tensor,
    cap: float | None,
    *,
    clip_min: float | None = None,
    mode: ImportanceMode = "token_truncate",
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """[M] `exp(old - sampled)`, detached: TRL's `vllm_importance_sampling_mode`.

    Of each token, or (`sequence_*`) of the product over its sequence; outside `clip_min` and `cap` set to the bound
    (`*_truncate`) or to 0 (`*_mask`). A token without a log-probability of the engine (NaN) has the ratio 1.

    Raises:
        ValueError: a `sequence_*` mode without `counts`.
    """
    import torch

    with torch.no_grad():
        difference = torch.nan_to_num(old_logprobs - sampled_logprobs, nan=0.0)
        if mode.startswith("sequence"):
            difference = sequence_sum(difference, needed(counts, f"importance sampling mode {mode}"))
        weights = torch.exp(difference)
        if mode.endswith("truncate"):
            return weights if cap is None and clip_min is None else weights.clamp(min=clip_min, max=cap)
        if clip_min is not None:
            weights = weights.masked_fill(weights < clip_min, 0.0)
        return weights if cap is None else weights.masked_fill(weights > cap, 0.0)


def off_policy_mask(
    logprobs: torch.Tensor,
    sampled_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    counts: torch.Tensor,
    threshold: float,
) -> torch.Tensor:
    """[M] bool: False where the advantage is negative and the mean of `sampled - logprobs` over the sequence is over
    `threshold` (DeepSeek-V3.2, arXiv 2512.02556, equation 9); TRL's `off_policy_mask_threshold`.
    """
    import torch

    with torch.no_grad():
        divergence = torch.nan_to_num(sampled_logprobs - logprobs, nan=0.0)
        return (advantages >= 0) | (sequence_mean(divergence, counts) <= threshold)


def kl_estimate(
    logprobs: torch.Tensor, reference_logprobs: torch.Tensor, estimator: KLEstimator = "k3"
) -> torch.Tensor:
    """[M] an estimate of KL(policy || reference) at each token (Schulman 2020, "Approximating KL divergence").

    `k1`: `logprobs - reference`, unbiased, of either sign. `k2`: half its square, biased, never negative. `k3`:
    `exp(reference - logprobs) - (reference - logprobs) - 1`, unbiased and never negative.
    """
    import torch

    difference = reference_logprobs - logprobs
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference.square() / 2
    return torch.exp(difference) - difference - 1


def needed(counts: torch.Tensor | None, what: str) -> torch.Tensor:
    """`counts`, or a ValueError that says what needs them."""
    if counts is None:
        raise ValueError(f"{what} needs counts, the learned tokens of each sequence")
    return counts


def _each_token(values: torch.Tensor, counts: torch.Tensor, size: int) -> torch.Tensor:
    """[M] the value [S] of each token's sequence."""
    return values.repeat_interleave(counts, output_size=size)
