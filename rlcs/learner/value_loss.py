"""The loss of the critic, over flat arrays of learned tokens, and what is logged of it.

With the value `V` of a token, `V_old` before the update and the return `R` (PPO2; TRL's PPOTrainer and verl alike):

    loss = max((V - R)^2, (clip(V, V_old - cliprange_value, V_old + cliprange_value) - R)^2) / 2

and the loss of a minibatch is its mean over learned tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlcs.learner.distributed import Ranks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class ValueLoss:
    """The loss of each of M learned tokens."""

    loss: torch.Tensor
    """[M] not yet averaged."""
    clipped: torch.Tensor
    """[M] bool: the clipped value is further from the return than the value, so the token has no gradient."""


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, cliprange_value: float | None
) -> ValueLoss:
    """See the module; tensors are [M], and only `values` has a gradient. No clip where `cliprange_value` is None."""
    import torch

    plain = (values - returns).square()
    if cliprange_value is None:
        return ValueLoss(plain / 2, torch.zeros_like(values, dtype=torch.bool))
    near = torch.clamp(values, old_values - cliprange_value, old_values + cliprange_value)
    clipped = (near - returns).square()
    return ValueLoss(torch.maximum(plain, clipped) / 2, (clipped > plain).detach())


def explained_variance(values: NDArray[np.floating], returns: NDArray[np.floating]) -> float:
    """1 - Var(returns - values) / Var(returns): 1 is perfect, 0 no better than a constant; 0 where all returns are equal."""
    spread = np.asarray(returns, np.float64).var() if len(returns) else 0.0
    if spread == 0:
        return 0.0
    return float(1 - (np.asarray(returns, np.float64) - values).var() / spread)


class ValueMetrics:
    """Sums over the learned tokens of an update's steps; reads nothing back from the device until `means`."""

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None

    def add(self, part: ValueLoss) -> None:
        """Add the tokens of a micro-batch."""
        import torch

        loss = part.loss.detach()
        sums = torch.stack([loss.new_tensor(float(len(loss))), loss.sum(), part.clipped.sum().to(loss)]).double()
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Mean loss and share of clipped tokens over all ranks, which must all call this; empty without tokens."""
        count, loss, clipped = ranks.sum(np.zeros(3) if self._sums is None else self._sums.cpu().numpy()).tolist()
        return {"value_loss": loss / count, "value_clip": clipped / count} if count else {}
