from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import LearnerConfig
from rlcs.learner.advantages import learning_batch
from rlcs.learner.batching import learned_counts
from rlcs.learner.token_advantages import token_advantages, token_rewards, whiten
from rlcs.types import Batch, FinishReason, Group, Score


def random_batch(seed: int, lengths: list[int]) -> Batch:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum([2 + length for length in lengths])]).astype(np.int64)
    mask = rng.random(offsets[-1]) < 0.8
    for start in offsets[:-1]:
        mask[start : start + 2] = False
    zeros = np.zeros(offsets[-1], np.float32)
    return Batch(np.zeros(offsets[-1], np.int64), offsets, mask, zeros, zeros)


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
    st.floats(0.5, 1),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 1000),
)
def test_advantages_and_returns_equal_those_of_padded_rows(
    lengths: list[int], gamma: float, lam: float, penalised: bool, seed: int
) -> None:
    """Rows of learned tokens padded on the right, as TRL and verl have them: rewards at their ends, GAE, masked_whiten."""
    batch = random_batch(seed, lengths)
    rng = np.random.default_rng(seed + 1)
    rewards, values = rng.normal(size=len(lengths)), rng.normal(size=len(batch.token_ids)).astype(np.float32)
    penalties = rng.normal(size=len(values)) if penalised else None
    config = LearnerConfig(advantage_estimator="gae", gamma=gamma, lam=lam)
    found, targets = token_advantages(batch, rewards, values, config, penalties)

    counts = learned_counts(batch)
    width = max(1, int(counts.max()))
    mask = torch.arange(width)[None] < torch.from_numpy(counts)[:, None]

    def padded(flat: np.ndarray) -> torch.Tensor:
        rows = torch.zeros(mask.shape, dtype=torch.float64)
        rows[mask] = torch.from_numpy(flat[batch.loss_mask].astype(np.float64))
        return rows

    reward_rows, value_rows = -padded(penalties) if penalties is not None else padded(values * 0), padded(values)
    for row, count in enumerate(counts):
        if count:
            reward_rows[row, count - 1] += rewards[row]
    advantages, carry = torch.zeros_like(value_rows), torch.zeros(len(counts), dtype=torch.float64)
    for step in reversed(range(width)):
        following = value_rows[:, step + 1] if step + 1 < width else torch.zeros(len(counts))
        carry = reward_rows[:, step] + gamma * following - value_rows[:, step] + gamma * lam * carry
        carry = carry * mask[:, step]
        advantages[:, step] = carry
    returns = advantages + value_rows
    np.testing.assert_allclose(targets.returns[batch.loss_mask], returns[mask], atol=1e-5)
    inside = advantages[mask]
    if len(inside) > 1 and float(inside.std()) > 1e-3:
        inside = (inside - inside.mean()) * torch.rsqrt(inside.var() + 1e-8)
        np.testing.assert_allclose(found.advantages[batch.loss_mask], inside, atol=1e-4)
    for array in (found.advantages, targets.returns, targets.values):
        assert not array[~batch.loss_mask].any()


def test_the_reward_stands_at_the_last_token_that_the_policy_chose() -> None:
    batch = random_batch(0, [4, 4, 4])
    batch.loss_mask[:] = False
    batch.loss_mask[[2, 3, 4, 8, 10]] = True  # of the second the last but one is chosen; nothing of the third
    assert np.flatnonzero(token_rewards(batch, np.array([1.0, 2.0, 3.0]))).tolist() == [4, 10]
    assert token_rewards(batch, np.array([1.0, 2.0, 3.0]))[[4, 10]].tolist() == [1, 2]


def test_without_discount_each_token_is_worth_the_reward_less_its_value() -> None:
    batch = random_batch(3, [5, 7])
    values = np.random.default_rng(0).normal(size=len(batch.token_ids)).astype(np.float32)
    config = LearnerConfig(advantage_estimator="gae", lam=1.0, whiten_advantages=False)
    found, targets = token_advantages(batch, np.array([1.0, 0.0]), values, config)
    reward = np.repeat([1.0, 0.0], batch.lengths)
    np.testing.assert_allclose(found.advantages, np.where(batch.loss_mask, reward - values, 0), atol=1e-6)
    np.testing.assert_allclose(targets.returns, np.where(batch.loss_mask, reward, 0), atol=1e-6)


def test_masked_truncated_responses_take_no_part_and_others_end_with_their_reward(
    make_groups: Callable[..., list[Group]],
) -> None:
    groups = make_groups(2, 3)
    for index, response in enumerate(response for group in groups for response in group.responses):
        response.reward = Score(float(index))
        response.finish_reason = FinishReason.LENGTH if index in (1, 5) else FinishReason.STOP
    rewards = np.arange(6.0)
    for masked in (True, False):
        config = LearnerConfig(
            advantage_estimator="gae", mask_truncated_completions=masked, lam=1.0, whiten_advantages=False
        )
        batch = learning_batch(groups, config)
        assert not batch.advantages.any()  # the critic gives them
        _, targets = token_advantages(batch, rewards, np.zeros(len(batch.token_ids), np.float32), config)
        expected = np.where(batch.loss_mask, np.repeat(rewards, batch.lengths), 0)
        assert (targets.returns == expected).all()
        assert (learned_counts(batch)[[1, 5]] == 0).all() == masked


def test_whitening_equal_or_single_values_gives_zeros() -> None:
    assert whiten(np.full(4, 0.1, np.float32), np.ones(4, np.bool_)).tolist() == [0] * 4
    assert whiten(np.array([1.0, 2.0], np.float32), np.array([True, False])).tolist() == [0, 0]


def test_rewards_that_are_missing_or_not_finite_are_refused() -> None:
    batch = random_batch(0, [3, 3])
    with pytest.raises(ValueError, match="1 rewards for 2 sequences"):
        token_rewards(batch, np.ones(1))
    with pytest.raises(ValueError, match="reward of sequence 1 is not finite: nan"):
        token_rewards(batch, np.array([0.0, np.nan]))
