"""How many draws each cell gets: shares of n, bounded by what a cell holds, rounded without bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill(n: float, weights: NDArray[np.float64], capacity: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K] shares of `n` in proportion to `weights` [K], none above its `capacity` [K].

    What a full cell cannot take goes to the others in proportion to their weights; cells of weight 0 get something only
    when all others are full. The shares sum to min(n, capacity.sum()).
    """
    shares = np.zeros(len(weights))
    n = min(float(n), float(capacity.sum()))
    weights = np.where(capacity > 0, weights, 0.0)
    for _ in range(len(weights) + 1):  # each round fills a cell or ends
        left = n - shares.sum()
        room = capacity - shares
        is_open = room > 1e-12
        if left <= 1e-9 or not is_open.any():
            break
        active = np.where(is_open, weights, 0.0)
        if active.sum() <= 0:
            active = np.where(is_open, room, 0.0)
        active /= active.max()  # tiny weights would lose their digits in the product
        shares = np.minimum(shares + left * active / active.sum(), capacity)
    return shares


def fill_domains(
    n: float, domain_mix: NDArray[np.float64], shares: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[D x K] expected draws of each cell: n shared over domains by `domain_mix` [D], then within each by `shares` [D, K].

    No cell gets more than its size, `sizes` [D, K]; a domain with too few prompts leaves the rest to the others.
    """
    by_domain = fill(n, domain_mix, sizes.sum(axis=1))
    return np.concatenate([fill(*domain) for domain in zip(by_domain, shares, sizes, strict=True)])


def with_floor(weights: NDArray[np.float64], sizes: NDArray[np.float64], exploration: float) -> NDArray[np.float64]:
    """`weights` [D, K], each row summing to 1, with a share `exploration` spread evenly over cells that have prompts."""
    floor = (sizes > 0) / (sizes > 0).sum(axis=1, keepdims=True)
    return np.asarray((1 - exploration) * weights + exploration * floor)


def round_shares(shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """[K] whole counts by systematic sampling: the mean of each is its share, and each is within 1 of it.

    So is the sum of any run of neighbouring cells, which keeps domains to their mix if a domain's cells are neighbours.
    A share that is whole to 1e-6 is kept as it is, so no count exceeds a whole capacity that the shares respect.
    `shares.sum()` must be whole to 1e-6; the counts sum to it.
    """
    whole = np.floor(shares + 1e-6)
    part = np.where(shares - whole < 1e-6, 0.0, shares - whole)
    total = round(float(shares.sum()) - float(whole.sum()))
    edges = np.concatenate([[0.0], np.cumsum(part)])
    edges[edges >= edges[-1]] = total  # exact at the end, where trailing cells of no part share the edge
    return whole.astype(np.int64) + np.diff(np.floor(edges + rng.random()).astype(np.int64))


def batches(n: int, num_rows: int) -> list[int]:
    """A draw of n out of N rows in parts of distinct rows: all N, as often as they fit, then the rest."""
    return [num_rows] * (n // num_rows) + ([n % num_rows] if n % num_rows else [])
