from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlcs.learner.advantages import STD_EPSILON, group_relative

REWARDS = st.floats(0, 1, width=32)
SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 8))
GROUPS = SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=REWARDS))
SCALES = st.sampled_from(["group", "batch", "none"])


def trl_advantages(rewards: np.ndarray, scale_rewards: str) -> np.ndarray:
    """The lines of TRL's GRPOTrainer._generate_and_score_completions, for one reward function."""
    from trl.trainer.utils import nanstd

    flat, size = torch.tensor(rewards, dtype=torch.float32).reshape(-1), rewards.shape[1]
    centred = flat - flat.view(-1, size).mean(1).repeat_interleave(size)
    if scale_rewards == "none":
        return centred.numpy()
    std = nanstd(flat) if scale_rewards == "batch" else nanstd(flat.view(-1, size), dim=1).repeat_interleave(size)
    return (centred / (std + 1e-4)).numpy()


@given(GROUPS, SCALES)
def test_equals_trl(rewards: np.ndarray, scale_rewards: str) -> None:
    ours = np.concatenate(group_relative(list(rewards), scale_rewards))
    # Dividing by a spread near zero magnifies the rounding of TRL's float32.
    atol = 1e-6 if scale_rewards == "none" else 2e-3
    np.testing.assert_allclose(ours, trl_advantages(rewards, scale_rewards), atol=atol)


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_equals_trl_closely_on_zero_one_rewards(scale_rewards: str) -> None:
    rewards = np.random.default_rng(0).integers(0, 2, (16, 8)).astype(float)
    ours = np.concatenate(group_relative(list(rewards), scale_rewards))
    np.testing.assert_allclose(ours, trl_advantages(rewards, scale_rewards), atol=1e-5)


@given(GROUPS, SCALES)
def test_each_group_sums_to_zero(rewards: np.ndarray, scale_rewards: str) -> None:
    for advantages in group_relative(list(rewards), scale_rewards):
        assert abs(float(advantages.sum(dtype=np.float64))) < 1e-3


@given(GROUPS, SCALES)
def test_keeps_the_order_of_rewards(rewards: np.ndarray, scale_rewards: str) -> None:
    for group, advantages in zip(rewards, group_relative(list(rewards), scale_rewards), strict=True):
        order = np.argsort(group, kind="stable")
        assert (np.diff(advantages[order]) >= 0).all()


@given(GROUPS, SCALES, st.floats(-1, 1))
def test_is_blind_to_a_shift_of_all_rewards(rewards: np.ndarray, scale_rewards: str, shift: float) -> None:
    ours = group_relative(list(rewards), scale_rewards)
    shifted = group_relative(list(rewards + shift), scale_rewards)
    np.testing.assert_allclose(np.concatenate(ours), np.concatenate(shifted), atol=1e-5)


@given(REWARDS, st.integers(1, 8), SCALES)
def test_equal_rewards_give_exact_zeros(reward: float, size: int, scale_rewards: str) -> None:
    assert not group_relative([np.full(size, reward)], scale_rewards)[0].any()


def test_group_scale_gives_unit_variance() -> None:
    (advantages,) = group_relative([np.array([0.0, 1.0, 1.0, 0.0])], "group")
    assert advantages.std(ddof=1) == pytest.approx(1, abs=10 * STD_EPSILON)


def test_groups_may_differ_in_size() -> None:
    assert [len(a) for a in group_relative([np.array([0.0, 1.0]), np.array([1.0])], "batch")] == [2, 1]


def test_a_reward_that_is_not_finite_is_refused_with_its_group() -> None:
    with pytest.raises(ValueError, match="group 1 .*nan"):
        group_relative([np.array([0.0, 1.0]), np.array([0.0, np.nan])], "group")


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="must be group, batch or none"):
        group_relative([np.array([0.0, 1.0])], "rows")  # type: ignore[arg-type]
