"""Tables and simulated policies for the tests of curricula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, Observation, PromptTable

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

Policy = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@pytest.fixture
def config() -> CurriculumConfig:
    """The defaults."""
    return CurriculumConfig()


@pytest.fixture
def make_table() -> Callable[..., PromptTable]:
    """See `_make_table`."""
    return _make_table


@pytest.fixture
def observation_of() -> Callable[..., Observation]:
    """See `_observation_of`."""
    return _observation_of


@pytest.fixture
def run() -> Callable[..., list[NDArray[np.int64]]]:
    """See `_run`."""
    return _run


def _make_table(per_cell: int = 40, domains: int = 3, *, graded: bool = True) -> PromptTable:
    """`per_cell` prompts in each domain x tier."""
    tiers = np.tile(np.repeat(np.arange(5), per_cell), domains)
    names = [f"domain_{d}" for d in range(domains)]
    return PromptTable(
        (tiers if graded else np.full_like(tiers, -1)).astype(np.int8),
        np.repeat(np.arange(domains), 5 * per_cell).astype(np.int16),
        names,
    )


def _observation_of(
    rows: NDArray[np.int64], pass_rates: NDArray[np.float64], rng: np.random.Generator, group_size: int = 8
) -> Observation:
    """What a policy with these true pass rates [n] shows in one group each."""
    right = rng.binomial(group_size, pass_rates)
    return Observation(rows, right / group_size, (right == 0) | (right == group_size), group_size)


def _run(
    curriculum: Curriculum, policy: Policy, steps: int, batch_size: int = 32, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Draw and observe; the rows of each draw."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(steps):
        rows = curriculum.draw(curriculum.num_prompts(batch_size))
        curriculum.observe(_observation_of(rows, policy(rows), rng))
        drawn.append(rows)
    return drawn
