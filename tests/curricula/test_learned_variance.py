"""Variances learned from what is seen."""

from __future__ import annotations

import numpy as np
import pytest

from rlcs.curricula.learned_variance import LearnedVariance
from rlcs.curricula.quadrature import Floats, sigmoid
from rlcs.errors import CheckpointError

VALUES = np.asarray([0.0, 0.1, 0.3, 1.0, 3.0])


def feed(learned: LearnedVariance, truth: Floats, steps: int, *, count: int = 8, seed: int = 0) -> None:
    """Groups of prompts whose logits are N(0.5, 0.2 + truth[domain])."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        domains = rng.integers(len(truth), size=60)
        means = np.full(60, 0.5)
        rates = sigmoid(rng.normal(means, np.sqrt(0.2 + truth[domains])))
        right = rng.binomial(count, rates).astype(np.float64)
        learned.observe(domains, means, np.add.outer(np.full(60, 0.2), VALUES), right, np.full(60, count), np.zeros(60))


def test_without_observations_it_is_the_first_value() -> None:
    assert LearnedVariance(VALUES, 2).mean.tolist() == [0, 0]
    learned = LearnedVariance(VALUES, 2)
    feed(learned, np.zeros(1), steps=5)
    assert learned.mean[1] == 0, "a domain without groups"


def test_each_domain_finds_its_own() -> None:
    truth = np.asarray([0.0, 1.0, 3.0])
    learned = LearnedVariance(VALUES, 3)
    feed(learned, truth, steps=60)
    np.testing.assert_allclose(learned.mean, truth, rtol=0.35, atol=0.1)


def test_it_changes_its_mind() -> None:
    learned = LearnedVariance(VALUES, 1)
    feed(learned, np.asarray([0.0]), steps=150)
    assert learned.mean[0] < 0.1
    feed(learned, np.asarray([3.0]), steps=150)
    assert learned.mean[0] > 1


def test_groups_of_one_response_say_nothing_of_a_spread() -> None:
    learned = LearnedVariance(VALUES, 1)
    feed(learned, np.asarray([3.0]), steps=40, count=1)
    assert np.isfinite(learned.mean[0]) and 0 <= learned.mean[0] <= 3


def test_state_round_trip() -> None:
    learned, other = LearnedVariance(VALUES, 2), LearnedVariance(VALUES, 2)
    feed(learned, np.asarray([0.0, 3.0]), steps=10)
    other.load_state_dict("change", learned.state_dict("change"))
    np.testing.assert_array_equal(other.mean, learned.mean)
    with pytest.raises(CheckpointError, match="lacks 'width_scores'"):
        other.load_state_dict("width", learned.state_dict("change"))
