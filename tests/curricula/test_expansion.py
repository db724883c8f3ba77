"""Oversampling by the not-valid share."""

from __future__ import annotations

import numpy as np
import pytest

from rlcs.curricula.expansion import Expansion


def marks(degenerate: int, valid: int) -> np.ndarray:
    return np.asarray([True] * degenerate + [False] * valid)


def test_no_expansion_before_the_first_observation() -> None:
    assert Expansion(ema=0.7, maximum=4).num_prompts(32, 1000) == 32


def test_ratio_is_the_papers_formula_of_the_moving_average() -> None:
    expansion = Expansion(ema=0.5, maximum=4)
    expansion.observe(marks(5, 5))
    assert expansion.ratio == pytest.approx(2)
    expansion.observe(marks(0, 10))
    assert expansion.ratio == pytest.approx(1 / (1 - 0.25))
    assert expansion.num_prompts(30, 1000) == 40


def test_ratio_is_bounded_when_no_group_is_valid() -> None:
    expansion = Expansion(ema=0.0, maximum=3)
    expansion.observe(marks(8, 0))
    assert expansion.ratio == 3


def test_an_empty_iteration_changes_nothing() -> None:
    expansion = Expansion(ema=0.5, maximum=4)
    expansion.observe(marks(5, 5))
    expansion.observe(marks(0, 0))
    assert expansion.not_valid == 0.5


def test_never_asks_for_more_prompts_than_there_are() -> None:
    expansion = Expansion(ema=0.0, maximum=4)
    expansion.observe(marks(9, 1))
    assert expansion.num_prompts(32, 50) == 50
    assert expansion.num_prompts(32, 20) == 32


def test_state_round_trip() -> None:
    expansion, other = Expansion(ema=0.5, maximum=4), Expansion(ema=0.5, maximum=4)
    other.load_state_dict(expansion.state_dict())
    assert other.not_valid is None
    expansion.observe(marks(1, 3))
    other.load_state_dict(expansion.state_dict())
    assert other.not_valid == expansion.not_valid
