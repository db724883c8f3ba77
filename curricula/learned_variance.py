"""Variances of beliefs that are learned: one number a domain, by how likely each of a few values makes what is seen.

Two variances depend on the policy and cannot be set once for all:
- how much a prompt's logit changes from one of its rollouts to the next beside what time does, as it is learned from: in
  the simulator's learners hardly, in a small policy that learns its prompts by heart by a logit or two;
- how far apart prompts with the same label are, as a multiple of what first rollouts taught: far, where a policy of
  little entropy answers each prompt always rightly or never.

Each value c is scored by the logarithms of the probabilities of the groups seen, P(k of n right | c), the past discounted
by `_KEEP` at each iteration; the number is the mean of the values under these scores, with a prior that favours the first.

Shapes: D domains, C values, n groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.quadrature import Floats, Ints, expect
from rlcs.errors import CheckpointError

_KEEP = 0.99
_PRIOR = 1.0
"""By how much the logarithm of the prior falls from one value to the next."""


class LearnedVariance:
    """A number for each domain."""

    def __init__(self, values: Floats, num_domains: int) -> None:
        """`values` [C], rising; the first is the number without observations that speak against it."""
        self._values = values
        self._scores = np.zeros((num_domains, len(values)))

    @property
    def mean(self) -> Floats:
        """[D]"""
        logs = self._scores - _PRIOR * np.arange(len(self._values))
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        weights[self._scores.max(axis=1) == self._scores.min(axis=1)] = np.eye(1, len(self._values))[0]  # none seen yet
        return np.asarray((weights * self._values).sum(axis=1) / weights.sum(axis=1))

    def observe(
        self, domains: NDArray[np.int64], means: Floats, variances: Floats, right: Floats, counts: Ints, floor: Floats
    ) -> None:
        """Take in groups.

        Args:
            domains: [n]
            means: [n] of the logits of the pass rates, before the groups were seen.
            variances: [n, C] the same with each value.
            right: [n] right responses; fractions for rewards between 0 and 1.
            counts: [n] responses.
            floor: [n] chance of a reward by luck.
        """
        right, counts, floor = right[:, None], counts[:, None], floor[:, None]

        def likelihood(s: Floats) -> Floats:
            p = np.clip(floor + (1 - floor) * s, 1e-9, 1 - 1e-9)
            return np.asarray(np.exp(right * np.log(p) + (counts - right) * np.log1p(-p)))

        logs = [np.log(np.maximum(expect(likelihood, means, v), 1e-300)) for v in variances.T]
        seen = [np.bincount(domains, x, minlength=len(self._scores)) for x in logs]
        self._scores = _KEEP * self._scores + np.stack(seen, axis=1)
        self._scores -= self._scores.max(axis=1, keepdims=True)

    def state_dict(self, name: str) -> dict[str, Any]:
        """An array that `load_state_dict` takes."""
        return {f"{name}_scores": self._scores.copy()}

    def load_state_dict(self, name: str, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises CheckpointError if it has none of this number."""
        if f"{name}_scores" not in state:
            raise CheckpointError(
                f"the saved curriculum lacks '{name}_scores': it is of another version; start the run anew"
            )
        self._scores = np.asarray(state[f"{name}_scores"], dtype=np.float64).reshape(self._scores.shape).copy()
