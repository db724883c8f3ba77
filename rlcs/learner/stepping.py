"""The optimizer step of an accumulated gradient: clipped, or skipped and counted where it is not finite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcs.errors import RLCSError
from rlcs.learner.sharding import whole

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Counters:
    """What a learner or a critic counts; saved with its state."""

    updates: int = 0
    """Updates made; the learning rate and the order of minibatches follow from it."""
    skipped: int = 0
    """Optimizer steps skipped because their gradient was not finite."""
    skipped_in_a_row: int = 0
    """... since the last that was not."""


def step_or_skip(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[torch.nn.Parameter],
    counters: Counters,
    *,
    max_grad_norm: float,
    max_skipped_steps: int,
    advice: str,
) -> float:
    """Step on the gradients of `parameters`, already summed over ranks, and clear them; returns their norm unclipped.

    Parameters without a gradient stay as they are; without any gradient nothing happens, and the norm is 0.

    Raises:
        RLCSError: `max_skipped_steps` steps in a row were skipped; the message ends with `advice`.
    """
    import torch

    learned = [parameter for parameter in parameters if parameter.grad is not None]
    if not learned:
        return 0.0
    norm = whole(torch.nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None]))
    size = float(norm)
    if np.isfinite(size):
        torch.nn.utils.clip_grads_with_norm_(learned, max_grad_norm, norm)
        optimizer.step()
        counters.skipped_in_a_row = 0
    else:
        counters.skipped += 1
        counters.skipped_in_a_row += 1
    optimizer.zero_grad(set_to_none=True)
    if counters.skipped_in_a_row >= max_skipped_steps:
        raise RLCSError(
            f"learner: the gradients of {counters.skipped_in_a_row} steps in a row were not finite; {advice}"
        )
    return size


def adamw(
    parameters: Iterable[torch.nn.Parameter], learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """AdamW over those of the parameters that are trained."""
    import torch

    return torch.optim.AdamW(decay_groups(parameters, weight_decay), lr=learning_rate, betas=betas, fused=True)


def decay_groups(parameters: Iterable[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: norms and biases are not decayed, as in TRL and transformers."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
