"""Sums over the learned tokens of an update, and the figures made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlcs.learner.distributed import Ranks

if TYPE_CHECKING:
    import torch

    from rlcs.learner.losses import TokenLoss


NUM_SUMS = 10
"""Sums that are collected, the number of tokens first."""


class TokenMetrics:
    """Collects what the tokens of an update's micro-batches say; reads nothing back from the device until `means`."""

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None
        self._largest_gap: torch.Tensor | None = None
        self._masked = False

    def add(
        self,
        token_loss: TokenLoss,
        logprobs: torch.Tensor,
        sampled_logprobs: torch.Tensor,
        entropies: torch.Tensor,
    ) -> None:
        """Add M learned tokens: losses, log-probabilities, the engine's, entropies; all [M] without gradient."""
        import torch

        self._masked = self._masked or token_loss.kept is not None
        log_ratio = token_loss.log_ratio
        ratio = log_ratio.exp()
        # The policy before the update against the engine; NaN where the engine gave none.
        gap = torch.nan_to_num(logprobs - log_ratio - sampled_logprobs, nan=0.0).abs()
        zero = torch.zeros((), device=logprobs.device)
        sums = torch.stack(
            [
                zero + len(logprobs),
                token_loss.clipped_low.sum(),
                token_loss.clipped_high.sum(),
                (ratio - 1 - log_ratio).sum(),
                entropies.sum(),
                ratio.sum(),
                gap.sum(),
                token_loss.importance.sum(),
                zero if token_loss.kl is None else token_loss.kl.sum(),
                zero if token_loss.kept is None else (~token_loss.kept).sum(),
            ]
        ).double()
        self._sums = sums if self._sums is None else self._sums + sums
        largest = gap.max()
        self._largest_gap = largest if self._largest_gap is None else torch.maximum(self._largest_gap, largest)

    def gather(self, ranks: Ranks) -> None:
        """Add what the other ranks have collected; all of them must call it."""
        import torch

        if ranks.size == 1:
            return
        sums = np.zeros(NUM_SUMS) if self._sums is None else self._sums.cpu().numpy()
        largest = -1.0 if self._largest_gap is None else float(self._largest_gap)
        tops = ranks.max(np.array([largest, float(self._masked)]))
        sums = ranks.sum(sums)
        self._masked = bool(tops[1])
        if sums[0]:
            self._sums, self._largest_gap = torch.from_numpy(sums), torch.tensor(tops[0])

    def means(self) -> dict[str, float]:
        """Means over the tokens, named without a prefix; empty if there were none."""
        if self._sums is None or self._largest_gap is None:
            return {}
        count, low, high, kl, entropy, ratio, gap, importance, reference, off = self._sums.tolist()
        return {
            "clip_low": low / count,
            "clip_high": high / count,
            "approx_kl": kl / count,
            "entropy": entropy / count,
            "ratio_mean": ratio / count,
            "logprob_gap_mean": gap / count,
            "logprob_gap_max": float(self._largest_gap),
            "importance_weight_mean": importance / count,
            "kl_reference": reference / count,
            **({"off_policy_masked": off / count} if self._masked else {}),
        }
