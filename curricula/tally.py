"""Tables of domain x offline tier, and their metrics with short stable names.

Shapes: D domains, L = NUM_TIERS + 1 labels: the offline tiers, then the ungraded prompts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.base import UNGRADED, PromptTable
from rlcs.types import NUM_TIERS

LABELS = NUM_TIERS + 1
_MANY_DOMAINS = 16
"""Above this many domains the metrics leave out what is by domain."""


def labels_of(table: PromptTable) -> NDArray[np.int8]:
    """[N] label of each prompt: its offline tier, or NUM_TIERS if it has none."""
    return np.where(table.tiers == UNGRADED, np.int8(NUM_TIERS), table.tiers)


def count(table: PromptTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """[D, L] how many of `rows` are of each domain and label."""
    tiers = table.tiers[rows].astype(np.int64)
    flat = table.domains[rows].astype(np.int64) * LABELS + np.where(tiers == UNGRADED, NUM_TIERS, tiers)
    counts: NDArray[np.int64] = np.bincount(flat, minlength=table.num_domains * LABELS)
    return counts.reshape(-1, LABELS)


def share_metrics(table: PromptTable, drawn: NDArray[np.int64]) -> dict[str, float]:
    """`curriculum/drawn/tier_K` and `curriculum/drawn/DOMAIN`: shares of the draws counted in `drawn` [D, L]."""
    total = drawn.sum()
    if total == 0:
        return {}
    by_label = {f"curriculum/drawn/{label_name(i)}": float(n / total) for i, n in enumerate(drawn.sum(axis=0))}
    if not drawn[:, NUM_TIERS].any():
        del by_label[f"curriculum/drawn/{label_name(NUM_TIERS)}"]
    if table.num_domains > _MANY_DOMAINS:
        return by_label
    names = zip(table.domain_names, drawn.sum(axis=1), strict=True)
    return by_label | {f"curriculum/drawn/{name}": float(n / total) for name, n in names}


def rate_metrics(table: PromptTable, rates: NDArray[np.float64]) -> dict[str, float]:
    """`curriculum/pass_rate/DOMAIN/tier_K` of `rates` [D, L], where they are not NaN and domains are not many."""
    if table.num_domains > _MANY_DOMAINS:
        return {}
    return {
        f"curriculum/pass_rate/{table.domain_names[domain]}/{label_name(int(label))}": float(rates[domain, label])
        for domain, label in np.argwhere(~np.isnan(rates))
    }


def ability_metrics(
    table: PromptTable, abilities: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> dict[str, float]:
    """`curriculum/ability/DOMAIN` and `curriculum/ability_sd/DOMAIN` of [D] means and [D] variances, in logits.

    Nothing where there are none, or where domains are many.
    """
    if abilities is None or table.num_domains > _MANY_DOMAINS:
        return {}
    metrics: dict[str, float] = {}
    for name, mean, variance in zip(table.domain_names, *abilities, strict=True):
        metrics |= {f"curriculum/ability/{name}": float(mean), f"curriculum/ability_sd/{name}": float(variance**0.5)}
    return metrics


def label_name(label: int) -> str:
    """`tier_0` to `tier_4`, or `ungraded`."""
    return "ungraded" if label == NUM_TIERS else f"tier_{label}"
