from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlcs.config import LearnerConfig
from rlcs.learner.advantages import (
    STD_EPSILON,
    assign_advantages,
    estimate_advantages,
    group_relative,
    learning_batch,
    leave_one_out,
    reinforce_plus_plus,
)
from rlcs.learner.batching import learned_counts, make_batch
from rlcs.types import FinishReason, Group, Score

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


def trl_rloo_advantages(rewards: np.ndarray, normalize: bool) -> np.ndarray:
    """The lines of TRL's RLOOTrainer._generate_and_score_completions, for one reward function."""
    from trl.trainer.utils import nanstd

    flat, size = torch.tensor(rewards, dtype=torch.float32).reshape(-1), rewards.shape[1]
    grouped = flat.view(-1, size)
    advantages = flat - ((grouped.sum(dim=1, keepdim=True) - grouped) / (size - 1)).view(-1)
    if normalize:
        advantages = (advantages - torch.nanmean(advantages)) / (nanstd(advantages) + 1e-4)
    return advantages.numpy()


@given(GROUPS, st.booleans())
def test_leave_one_out_equals_trl(rewards: np.ndarray, normalize: bool) -> None:
    ours = np.concatenate(leave_one_out(list(rewards), normalize=normalize))
    # Dividing by a spread near zero magnifies the rounding of TRL's float32.
    atol = 2e-2 if normalize else 1e-6
    np.testing.assert_allclose(ours, trl_rloo_advantages(rewards, normalize), atol=atol)


def test_leave_one_out_subtracts_the_mean_of_the_others_and_is_zero_for_one() -> None:
    advantages = leave_one_out([np.array([1.0, 0.0, 0.5]), np.array([0.7])])
    np.testing.assert_allclose(advantages[0], [0.75, -0.75, 0.0], atol=1e-7)
    assert advantages[1].tolist() == [0]


@given(GROUPS)
def test_leave_one_out_is_a_multiple_of_grpo_without_scale(rewards: np.ndarray) -> None:
    size = rewards.shape[1]
    for one, other in zip(leave_one_out(list(rewards)), group_relative(list(rewards), "none"), strict=True):
        np.testing.assert_allclose(one, other * size / (size - 1), atol=1e-6)


@given(GROUPS, st.booleans(), st.integers(0, 100))
def test_reinforce_plus_plus_is_normalised_over_learned_tokens(
    rewards: np.ndarray, group_baseline: bool, seed: int
) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, rewards.shape)
    ours = reinforce_plus_plus(list(rewards), list(counts), group_baseline=group_baseline)
    values = rewards - rewards.mean(1, keepdims=True) if group_baseline else rewards
    # Every token with the reward of its response, as a loop over tokens has it.
    tokens = np.repeat(values.reshape(-1), counts.reshape(-1))
    if np.ptp(values) > 1e-6 and len(tokens) > 1:
        expected = (values.reshape(-1) - tokens.mean()) / (tokens.std(ddof=1) + STD_EPSILON)
        np.testing.assert_allclose(np.concatenate(ours), expected, rtol=1e-4, atol=1e-4)


@given(GROUPS, st.booleans(), st.floats(0.1, 10), st.floats(-1, 1))
def test_reinforce_plus_plus_is_blind_to_a_shift_and_nearly_to_a_scale(
    rewards: np.ndarray, group_baseline: bool, scale: float, shift: float
) -> None:
    if np.ptp(rewards) < 0.1:
        return
    one = np.concatenate(reinforce_plus_plus(list(rewards), group_baseline=group_baseline))
    other = np.concatenate(reinforce_plus_plus(list(rewards * scale + shift), group_baseline=group_baseline))
    np.testing.assert_allclose(one, other, atol=0.3, rtol=0.1)  # STD_EPSILON is no scale
    assert (np.sign(one[np.abs(one) > 1e-3]) == np.sign(other[np.abs(one) > 1e-3])).all()


def test_reinforce_plus_plus_of_zero_one_rewards() -> None:
    rewards = [np.array([1.0, 0.0]), np.array([1.0, 1.0])]
    plain = np.concatenate(reinforce_plus_plus(rewards))
    np.testing.assert_allclose(plain, [0.5, -1.5, 0.5, 0.5], atol=1e-3)
    with_baseline = np.concatenate(reinforce_plus_plus(rewards, group_baseline=True))
    np.testing.assert_allclose(with_baseline, np.array([0.5, -0.5, 0, 0]) / np.sqrt(0.5 / 3), atol=1e-3)


@given(REWARDS, st.integers(1, 8), st.booleans())
def test_equal_rewards_give_exact_zeros_whatever_the_estimator(reward: float, size: int, flag: bool) -> None:
    rewards = [np.full(size, reward)] * 2
    assert not np.any(leave_one_out(rewards, normalize=flag))
    assert not np.any(reinforce_plus_plus(rewards, group_baseline=flag))


@given(
    GROUPS, st.sampled_from(["grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline"]), st.integers(0, 9)
)
def test_no_estimator_looks_at_the_order_of_responses(rewards: np.ndarray, estimator: str, seed: int) -> None:
    config = LearnerConfig(advantage_estimator=estimator)
    order = np.random.default_rng(seed).permutation(rewards.shape[1])
    for one, other in zip(
        estimate_advantages(list(rewards), config), estimate_advantages(list(rewards[:, order]), config), strict=True
    ):
        np.testing.assert_allclose(one[order], other, atol=1e-3)


def test_counts_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="3 counts for 2 rewards"):
        reinforce_plus_plus([np.array([0.0, 1.0])], [np.array([1, 2, 3])])


def scored(groups: list[Group]) -> list[Group]:
    rng = np.random.default_rng(3)
    for group in groups:
        for response in group.responses:
            response.reward = Score(float(rng.integers(0, 2)))
    return groups


def test_learning_batch_by_default_is_make_batch_of_grpo(make_groups: Callable[..., list[Group]]) -> None:
    groups = scored(make_groups(3, 4, forced=True))
    ours = learning_batch(groups, LearnerConfig())
    theirs = make_batch(groups, group_relative([group.rewards for group in groups], "group"))
    for name in ("token_ids", "offsets", "loss_mask", "logprobs", "advantages"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert np.array_equal(one, other) and one.dtype == other.dtype


def test_truncated_responses_are_masked_but_stay_in_the_baseline(make_groups: Callable[..., list[Group]]) -> None:
    groups = scored(make_groups(2, 4))
    groups[0].responses[2].finish_reason = FinishReason.LENGTH
    plain, masked = (learning_batch(groups, LearnerConfig(mask_truncated_completions=m)) for m in (False, True))
    assert learned_counts(masked)[2] == 0
    kept = masked.loss_mask
    assert plain.loss_mask.sum() - kept.sum() == len(groups[0].responses[2].token_ids)
    assert np.array_equal(plain.advantages[kept], masked.advantages[kept]) and not masked.advantages[~kept].any()


def test_rewards_that_do_not_match_the_batch_are_refused(make_groups: Callable[..., list[Group]]) -> None:
    batch = make_batch(make_groups(1, 4), np.zeros(4))
    with pytest.raises(ValueError, match="4 rewards and groups of 3 responses for 4 sequences"):
        assign_advantages(batch, np.zeros(4), [3], LearnerConfig())
