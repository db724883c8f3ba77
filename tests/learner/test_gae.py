from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.learner.gae import gae


def naive(
    rewards: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    gamma: float,
    lam: float,
    mask: np.ndarray,
    bootstrap: np.ndarray,
) -> np.ndarray:
    result = np.zeros(len(values))
    for sequence, (start, end) in enumerate(itertools.pairwise(offsets)):
        carry, following = 0.0, bootstrap[sequence]
        for index in reversed(range(start, end)):
            if mask[index]:
                carry = rewards[index] + gamma * following - values[index] + gamma * lam * carry
                following = values[index]
                result[index] = carry
    return result


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_equals_a_naive_loop(lengths: list[int], gamma: float, lam: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    size = int(offsets[-1])
    mask = rng.random(size) < 0.8
    rewards, values = rng.normal(size=size) * mask, rng.normal(size=size)
    bootstrap = rng.normal(size=len(lengths))
    advantages, returns = gae(rewards, values, offsets, gamma=gamma, lam=lam, mask=mask, bootstrap=bootstrap)
    expected = naive(rewards, values, offsets, gamma, lam, mask, bootstrap)
    np.testing.assert_allclose(advantages, expected, atol=1e-5)
    np.testing.assert_allclose(returns, np.where(mask, expected + values, 0), atol=1e-5)


def test_known_values() -> None:
    advantages, returns = gae(np.array([0.0, 1.0]), np.array([0.5, 0.25]), np.array([0, 2]), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [0.5 * 0.25 - 0.5 + 0.25 * 0.75, 0.75]
    assert returns.tolist() == [advantages[0] + 0.5, 1.0]


@given(st.integers(0, 100))
def test_lam_one_gives_the_return_less_the_value_and_lam_zero_the_one_step_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, values, offsets = rng.normal(size=9), rng.normal(size=9), np.array([0, 4, 9])
    advantages, returns = gae(rewards, values, offsets, lam=1.0)
    to_go = np.concatenate([np.cumsum(part[::-1])[::-1] for part in (rewards[:4], rewards[4:])])
    np.testing.assert_allclose(advantages, to_go - values, atol=1e-5)
    np.testing.assert_allclose(returns, to_go, atol=1e-5)
    following = np.append(values[1:], 0)
    following[3] = 0
    np.testing.assert_allclose(gae(rewards, values, offsets, lam=0.0)[0], rewards + following - values, atol=1e-5)


def test_bad_input_is_refused() -> None:
    ones, offsets = np.ones(3), np.array([0, 3])
    with pytest.raises(ValueError, match="outside the mask"):
        gae(ones, ones, offsets, mask=np.array([True, True, False]))
    with pytest.raises(ValueError, match="do not match"):
        gae(ones, np.ones(4), offsets)
    with pytest.raises(ValueError, match="2 bootstrap values for 1 sequences"):
        gae(ones, ones, offsets, bootstrap=np.ones(2))
    with pytest.raises(ValueError, match=r"gamma \(1.5\)"):
        gae(ones, ones, offsets, gamma=1.5)
