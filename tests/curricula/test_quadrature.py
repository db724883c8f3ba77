"""Gaussian beliefs about a logit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.curricula.quadrature import expect, sigmoid, update


def one(value: float) -> np.ndarray:
    return np.asarray([value])


@given(st.floats(-800, 800))
def test_sigmoid_is_in_the_unit_interval_and_symmetric(x: float) -> None:
    p = sigmoid(one(x))[0]
    assert 0 <= p <= 1
    assert p + sigmoid(one(-x))[0] == pytest.approx(1)


@settings(max_examples=30)
@given(st.floats(-4, 4), st.floats(0.01, 4))
def test_expectations_agree_with_a_fine_sum(mean: float, variance: float) -> None:
    z = np.linspace(-8, 8, 4001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    p = sigmoid(mean + np.sqrt(variance) * z)
    assert expect(lambda p: p, one(mean), one(variance))[0] == pytest.approx(weights @ p, abs=2e-3)
    assert expect(lambda p: p * (1 - p), one(mean), one(variance))[0] == pytest.approx(
        weights @ (p * (1 - p)), abs=3e-3
    )


@settings(max_examples=40)
@given(st.floats(-4, 4), st.floats(0.05, 9), st.integers(0, 8), st.sampled_from([0.0, 0.25]))
def test_updates_agree_with_a_fine_sum(mean: float, variance: float, right: int, floor: float) -> None:
    z = np.linspace(-8, 8, 8001)
    x = mean + np.sqrt(variance) * z
    p = floor + (1 - floor) * sigmoid(x)
    weights = np.exp(-(z**2) / 2) * p**right * (1 - p) ** (8 - right)
    weights /= weights.sum()
    got_mean, got_variance, got_rate = update(one(mean), one(variance), one(float(right)), np.asarray([8]), floor)
    expected = weights @ x
    assert got_mean[0] == pytest.approx(expected, abs=0.05)
    assert got_variance[0] == pytest.approx(weights @ (x - expected) ** 2, rel=0.1, abs=0.02)
    assert got_rate[0] == pytest.approx(weights @ sigmoid(x), abs=0.01)


def test_an_update_moves_towards_what_was_seen_and_narrows() -> None:
    means, variances, _ = update(np.zeros(3), np.full(3, 2.0), np.asarray([0.0, 4.0, 8.0]), np.full(3, 8))
    assert means[0] < -1 and abs(means[1]) < 1e-9 and means[2] > 1
    assert (variances < 2).all()
    assert means[0] == pytest.approx(-means[2])
