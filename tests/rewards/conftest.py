"""Fixtures of the reward tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlcs.rewards.math import Math, MathMatcher


@pytest.fixture(scope="session")
def math_reward() -> Iterator[Math]:
    """One reward for all tests, so that sympy is imported once."""
    reward = Math()
    reward.setup()
    yield reward
    reward.close()


@pytest.fixture(scope="session")
def matcher() -> Iterator[MathMatcher]:
    """The matcher alone."""
    matcher = MathMatcher()
    yield matcher
    matcher.close()
