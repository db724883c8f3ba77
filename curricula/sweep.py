"""A round through all prompts of each domain, in a random order that is kept, so that none waits for ever.

A draw that gives s prompts an iteration to a domain of N_d prompts rolls out each of them at least once in N_d / s
iterations, whatever the sampler thinks of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Sweep:
    """Fixed random orders of the domains' prompts, and how far the round has come."""

    def __init__(self, domains: NDArray[np.integer[Any]], num_domains: int, seed: int) -> None:
        """`domains` [N] of the rows; the seed decides the orders."""
        self._domains = domains
        self.sizes = np.bincount(domains, minlength=num_domains).astype(np.int64)  # [D]
        self._start = np.cumsum(self.sizes) - self.sizes
        self._shuffle(seed)
        self._next = np.zeros(num_domains, dtype=np.int64)  # [D] place in the domain's order

    def _shuffle(self, seed: int) -> None:
        self._seed = seed
        order = np.random.default_rng(seed).permutation(len(self._domains)).astype(np.int32)
        self._order = order[np.argsort(self._domains[order], kind="stable")]  # [N] domain by domain

    def take(self, counts: NDArray[np.int64], taken: Rows) -> Rows:
        """The next `counts` [D] rows of each domain that are not among `taken`, which count as visited.

        A domain gives fewer if all of its rows are taken.
        """
        number_taken = np.bincount(self._domains[taken], minlength=len(self.sizes))
        parts = [np.empty(0, dtype=np.int64)]
        for domain in np.flatnonzero(counts):
            size, at = int(self.sizes[domain]), int(self._next[domain])
            reach = min(size, int(counts[domain] + number_taken[domain]))
            places = (at + np.arange(reach)) % size
            rows = self._order[self._start[domain] + places].astype(np.int64)
            is_free = np.flatnonzero(~np.isin(rows, taken))[: counts[domain]]
            parts.append(rows[is_free])
            passed = int(is_free[-1]) + 1 if len(is_free) else reach
            self._next[domain] = (at + passed) % size
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, Any]:
        """Array and seed that `load_state_dict` takes."""
        return {"sweep_next": self._next.copy(), "sweep_seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        if int(state["sweep_seed"]) != self._seed:
            self._shuffle(int(state["sweep_seed"]))
        self._next = np.asarray(state["sweep_next"], dtype=np.int64).copy()
