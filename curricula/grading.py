"""Offline difficulty: the pass rates of several models and a person's label make one tier a prompt.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5): pass@k by several models or earlier checkpoints, merged with human
labels, gives tiers from very easy to very hard.

- **Models** count alike: a prompt's pass rate is the mean of theirs.
- **Difficulty** is a number u in [0, 1]. With `edges`, u is 1 - the pass rate. Without, it is the prompt's place among all
  of them, (harder than it counts nothing, easier 1, equal 1/2) / N, so that equal pass rates are never parted. A prompt
  that was never solved has u = 1 and one that always was u = 0, however many such there are: of a dataset that is
  too hard, most prompts are very hard, and not a fifth.
- **Tiers** are cut out of u: at 1/5, 2/5, 3/5, 4/5, or at the edges. What stands on a cut belongs to the easier tier.
  If all pass rates are equal, u is 1/2 everywhere (0 or 1 if that rate is 1 or 0) and there is one tier.
- **A label** is the middle of its tier on that scale. A weight w moves u there: (1 - w) u + w m. The merged tier is thus
  never outside of the two; at w = 1 it is the label. Prompts without a label keep the models' tier.

Shapes: M models, N prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlcs.errors import ConfigError, DataError
from rlcs.types import NUM_TIERS

UNLABELLED = -1
"""The label of a prompt without one."""

_DIGITS = 12
"""Means of the same rates in another order differ in the last digits, and are ties all the same."""


@dataclass(frozen=True, slots=True)
class TierRule:
    """How difficulty becomes tiers.

    Raises:
        ConfigError: the edges are no `NUM_TIERS - 1` distinct pass rates above 0, or the weight is not in [0, 1].
    """

    edges: tuple[float, ...] | None = None
    """Least pass rate of each tier but the last, easy to hard; None: equal shares of the prompts."""
    label_weight: float = 0.3
    """w, the weight of a human label against the models."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_weight <= 1:
            raise ConfigError(f"the weight of the labels must be in 0 to 1, but is {self.label_weight:g}")
        if self.edges is None:
            return
        shown = ",".join(f"{edge:g}" for edge in self.edges)
        if len(self.edges) != NUM_TIERS - 1:
            raise ConfigError(
                f"{NUM_TIERS} tiers have {NUM_TIERS - 1} edges, but {len(self.edges)} are given ({shown}), "
                "e.g. 0.8,0.6,0.4,0.2"
            )
        if not all(0 < edge <= 1 for edge in self.edges):
            raise ConfigError(f"an edge is a pass rate above 0 and at most 1: {shown}")
        if any(harder >= easier for easier, harder in zip(self.edges, self.edges[1:], strict=False)):
            raise ConfigError(f"the edges must fall from easy to hard, e.g. 0.8,0.6,0.4,0.2, but are {shown}")

    @property
    def cuts(self) -> NDArray[np.float64]:
        """[NUM_TIERS - 1] the cuts of difficulty, rising."""
        if self.edges is None:
            return np.arange(1, NUM_TIERS, dtype=np.float64) / NUM_TIERS
        cuts: NDArray[np.float64] = np.round(1 - np.asarray(self.edges, dtype=np.float64), _DIGITS)
        return cuts

    @property
    def middles(self) -> NDArray[np.float64]:
        """[NUM_TIERS] the difficulty in the middle of each tier."""
        middles: NDArray[np.float64] = (np.append(0.0, self.cuts) + np.append(self.cuts, 1.0)) / 2
        return middles


def merge_models(pass_rates: ArrayLike) -> NDArray[np.float64]:
    """[N] the mean over models of pass rates [M, N].

    Raises:
        DataError: there is no model or no prompt, or a pass rate is not in [0, 1]; names the model and prompt.
    """
    rates = np.asarray(pass_rates, dtype=np.float64)
    if rates.ndim != 2 or 0 in rates.shape:
        raise DataError(f"grading needs the pass rates of one model and one prompt at least, [M, N], not {rates.shape}")
    bad = ~((rates >= 0) & (rates <= 1))
    if bad.any():
        model, row = (int(index) for index in np.argwhere(bad)[0])
        raise DataError(f"model {model}, prompt {row}: the pass rate {rates[model, row]:g} is not in 0 to 1")
    merged: NDArray[np.float64] = np.round(rates.mean(axis=0), _DIGITS)
    return np.clip(merged, 0.0, 1.0)


def assign_tiers(
    pass_rates: ArrayLike, labels: Sequence[int] | NDArray[Any] | None = None, rule: TierRule | None = None
) -> NDArray[np.int8]:
    """[N] tiers, 0 (very easy) to `NUM_TIERS - 1` (very hard), of merged pass rates [N] and labels [N].

    A label is a tier, or `UNLABELLED`. With the same label, a higher pass rate never gives a harder tier; with the same
    pass rate, a harder label never gives an easier one.

    Raises:
        DataError: a pass rate or label is out of range, or there are not as many labels as prompts.
    """
    rule = rule or TierRule()
    rates = merge_models(np.asarray(pass_rates, dtype=np.float64)[None])
    difficulty = difficulty_of(rates, rule)
    tiers = _cut(difficulty, rule)
    if labels is None:
        return tiers
    labels = _checked_labels(labels, len(rates))
    known = labels != UNLABELLED
    middles = rule.middles[labels[known]]
    merged = _cut((1 - rule.label_weight) * difficulty[known] + rule.label_weight * middles, rule)
    # Between the two by convexity; rounding must not make an exception.
    low, high = np.minimum(tiers[known], labels[known]), np.maximum(tiers[known], labels[known])
    tiers[known] = np.clip(merged, low, high)
    return tiers


def difficulty_of(pass_rates: NDArray[np.float64], rule: TierRule) -> NDArray[np.float64]:
    """[N] difficulty in [0, 1] of merged pass rates [N], on the scale of the rule's cuts."""
    if rule.edges is not None:
        return np.asarray(np.round(1 - pass_rates, _DIGITS))
    _, group, counts = np.unique(-pass_rates, return_inverse=True, return_counts=True)
    easier = np.cumsum(counts) - counts
    places = (easier + counts / 2) / len(pass_rates)
    difficulty = places[group]
    difficulty[pass_rates == 0] = 1.0
    difficulty[pass_rates == 1] = 0.0
    return np.asarray(difficulty, dtype=np.float64)


def reported_ks(num_samples: int) -> list[int]:
    """The k of the reported pass@k: powers of two up to `num_samples`, and that number itself."""
    return sorted({*(2**power for power in range(num_samples.bit_length())), num_samples})


def _cut(difficulty: NDArray[np.float64], rule: TierRule) -> NDArray[np.int8]:
    return np.searchsorted(rule.cuts, np.round(difficulty, _DIGITS), side="left").astype(np.int8)


def _checked_labels(labels: Sequence[int] | NDArray[Any], num_prompts: int) -> NDArray[np.int8]:
    values = np.asarray(labels)
    if values.shape != (num_prompts,):
        raise DataError(f"grading: {len(values)} labels for {num_prompts} prompts; give one a prompt")
    bad = ~((values >= UNLABELLED) & (values < NUM_TIERS) & (values == np.floor(values)))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"prompt {row}: label {values[row]} is not in 0 to {NUM_TIERS - 1} ({UNLABELLED}: no label)")
    return values.astype(np.int8)
