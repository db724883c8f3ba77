"""Gaussian beliefs about a logit: expectations, and what a few responses change.

A pass rate is `floor + (1 - floor) sigmoid(x)`, x ~ N(m, v), with `floor` the chance of a reward by luck. Expectations
are Gauss-Hermite sums with 9 nodes; updates are moment-matched on a grid of 49 points over +-6 standard deviations,
which stays right where a Newton step does not: all right or all wrong under a wide prior.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_GRID = np.linspace(-6, 6, 49)
_LOG_PRIOR = -(_GRID**2) / 2


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def expect(function: Callable[[Floats], Floats], means: Floats, variances: Floats) -> Floats:
    """[n] E[function(sigmoid(x))] for x ~ N(means, variances), both [n]; `function` maps [n, 9] to [n, 9]."""
    logits = means[:, None] + np.sqrt(variances)[:, None] * _NODES
    return np.asarray(function(sigmoid(logits)) @ _WEIGHTS)


def update(
    means: Floats, variances: Floats, right: Floats, counts: Ints, floor: Floats | float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """Belief after `right` of `counts` responses: [n] mean and [n] variance of the logit, and [n] E[sigmoid(logit)].

    Args:
        means, variances: [n] belief before.
        right: [n] right responses; fractions for rewards between 0 and 1.
        floor: [n] or one, chance of a reward by luck.
    """
    deviations = np.sqrt(variances)
    logits = means[:, None] + deviations[:, None] * _GRID  # [n, 49]
    floor = np.broadcast_to(np.asarray(floor, dtype=np.float64), means.shape)[:, None]
    p = np.clip(floor + (1 - floor) * sigmoid(logits), 1e-9, 1 - 1e-9)
    logs = _LOG_PRIOR + right[:, None] * np.log(p) + (counts - right)[:, None] * np.log1p(-p)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    shift = weights @ _GRID
    spread = weights @ _GRID**2 - shift**2
    return means + deviations * shift, variances * spread, (weights * sigmoid(logits)).sum(axis=1)
