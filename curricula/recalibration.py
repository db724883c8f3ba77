"""What groups turned out to teach, against what was expected of them: factors that correct the expectation.

Beliefs can have the right pass rates and still promise too much. Where a policy answers each prompt always alike, half
of a domain's prompts are always right and half always wrong: a prompt not rolled out yet has a pass rate of 0.5 as far
as anyone knows, but hardly ever a group that is not all alike. In a small policy trained on three tasks 46 % of groups
were expected to be useful and 11 % were; a prompt with some right and some wrong responses kept its promise, those not
seen yet did not. So expectations are compared with outcomes by *bucket*: the label of prompts that were not rolled out
yet; of the others how much is expected, and whether they are more likely right or wrong (what is always right turns out
less sure than what is always wrong); each by domain.

    factor[d, b] = (observed + k domain[d]) / (expected + k),    domain[d] = (observed_d + k all) / (expected_d + k)

with sums over the last groups of the bucket, the domain, and all domains. Without observations every factor is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.tally import LABELS
from rlcs.errors import CheckpointError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EDGES = np.asarray([0.1, 0.25, 0.45, 0.65, 0.85])
NUM_BUCKETS = LABELS + 2 * (len(_EDGES) + 1)
_WEIGHT = 4.0
"""k: the expected sum at which a bucket's own groups weigh as much as its domain's."""
_MEMORY = 200.0
"""Groups of a bucket after which older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """What kind of prompts [n] expectations are about."""

    domains: Ints
    labels: Ints
    """Of a prompt that was not rolled out before; -1 for others."""
    is_likely: NDArray[np.bool_]
    """Whether a right response is likelier than a wrong one, luck aside."""

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Kinds:
        return Kinds(self.domains[chosen], self.labels[chosen], self.is_likely[chosen])


class Recalibration:
    """Factors by domain and bucket."""

    def __init__(self, num_domains: int) -> None:
        """All factors 1."""
        self._observed = np.zeros((num_domains, NUM_BUCKETS))
        self._expected = np.zeros((num_domains, NUM_BUCKETS))

    def observe(self, kinds: Kinds, expected: Floats, observed: Floats) -> None:
        """Take in groups [n]: what was expected of each, at most 1, and what it turned out to be."""
        flat = kinds.domains * NUM_BUCKETS + self._bucket(kinds, expected)
        size, shape = self._observed.size, self._observed.shape
        keep = (1 - 1 / _MEMORY) ** np.bincount(flat, minlength=size).reshape(shape)
        self._observed = keep * self._observed + np.bincount(flat, observed, minlength=size).reshape(shape)
        self._expected = keep * self._expected + np.bincount(flat, expected, minlength=size).reshape(shape)

    def correct(self, kinds: Kinds, expected: Floats) -> Floats:
        """[n] expectations as they turned out to be meant, at most 1."""
        return np.minimum(expected * self.factors[kinds.domains, self._bucket(kinds, expected)], 1.0)

    @property
    def factors(self) -> Floats:
        """[D, buckets] by what an expectation is multiplied: labels first, then the others by expectation and side."""
        return np.asarray((self._observed + _WEIGHT * self.domain_factors[:, None]) / (self._expected + _WEIGHT))

    @property
    def domain_factors(self) -> Floats:
        """[D] the same for all groups of a domain."""
        overall = (self._observed.sum() + _WEIGHT) / (self._expected.sum() + _WEIGHT)
        return np.asarray((self._observed.sum(axis=1) + _WEIGHT * overall) / (self._expected.sum(axis=1) + _WEIGHT))

    @staticmethod
    def _bucket(kinds: Kinds, expected: Floats) -> Ints:
        seen = LABELS + 2 * np.searchsorted(_EDGES, expected) + kinds.is_likely
        return np.where(kinds.labels >= 0, kinds.labels, seen)

    def state_dict(self, name: str) -> dict[str, Any]:
        """Arrays that `load_state_dict` takes, under names that begin with `name`."""
        return {f"{name}_observed": self._observed.copy(), f"{name}_expected": self._expected.copy()}

    def load_state_dict(self, name: str, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises CheckpointError if it has no such factors, or others."""
        arrays = [np.asarray(state.get(f"{name}_{which}", 0.0), dtype=np.float64) for which in ("observed", "expected")]
        if any(array.size != self._observed.size for array in arrays):
            raise CheckpointError(
                f"the saved curriculum's '{name}_observed' is of another version: start the run anew under another name"
            )
        self._observed, self._expected = (array.reshape(self._observed.shape).copy() for array in arrays)
