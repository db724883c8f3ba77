"""Adaptive responses: a few of each group first, the rest where they teach most, at a fixed number in all.

GRPO learns from a group by its sum of squares S = k (n - k) / n, k right of n responses. The next response adds
(n / (n + 1)) (r - k / n)^2, and its expectation under the belief about the pass rate p, updated by what was seen, is

    gain(n, k, p) = (n / (n + 1)) (p - 2 p k / n + (k / n)^2).

The budget goes to the largest gains, planned a response at a time with k at its expectation as a group grows; the plan
needs one further request to the engines. A group that is settled, all right or all wrong with p near that, gets
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.quadrature import Floats, update


@dataclass(frozen=True, slots=True)
class AdaptivePlan:
    """How a batch of B prompts x G responses is generated in two requests, B x G responses in all."""

    prompts: float = 0.5
    """Prompts drawn, as a share of B."""
    first: float = 0.5
    """Responses of the first request to each prompt, as a share of G."""
    most: float = 3.0
    """Largest group, as a multiple of G."""


def allocate_responses(
    means: Floats, variances: Floats, right: NDArray[np.int64] | Floats, first: int, budget: int, most: int
) -> NDArray[np.int64]:
    """[n] further responses of each group, at most `most` each, `budget` in all.

    Args:
        means, variances: [n] belief about the logit of each prompt's pass rate before the first responses.
        right: [n] right ones among the first responses; fractions for rewards between 0 and 1.
        first: responses that each group has.
        budget: further responses to give out; what does not fit into `most` a group stays unspent.
        most: bound a group.

    Raises:
        ValueError: a negative budget, or right > first.
    """
    if budget < 0:
        raise ValueError(f"allocate_responses: the budget is negative ({budget}); draw fewer prompts")
    if (right > first).any() or (right < 0).any():
        raise ValueError(f"allocate_responses: a group has more right responses than its {first} responses")
    p = update(means, variances, right.astype(np.float64), np.full(len(right), first))[2]  # [n]
    sizes = first + np.arange(most)  # [m] responses so far when the next is planned
    planned = (right[:, None] + p[:, None] * np.arange(most)) / sizes  # [n, m] expected share of right ones
    gains = sizes / (sizes + 1) * (p[:, None] - 2 * planned * p[:, None] + planned**2)
    # A plan takes a group's responses in order: none is worth more than the one before it.
    worth = np.minimum.accumulate(gains, axis=1)
    order = np.argsort(-worth, axis=None, kind="stable")[:budget]
    extra: NDArray[np.int64] = np.bincount(order // most, minlength=len(right))
    return extra
