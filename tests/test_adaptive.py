"""Adaptive rollouts: what is asked for in two requests, without Ray; a true run is in tests/e2e/test_adaptive.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlcs.adaptive import adaptive_plan, check_predicts, num_prompts, respond_adaptively
from rlcs.config import Config, RolloutConfig
from rlcs.curricula.adaptive import AdaptivePlan
from rlcs.curricula.base import PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.errors import ConfigError
from rlcs.learner.advantages import group_relative
from rlcs.learner.batching import make_batch
from rlcs.rounds import observe, rollout_metrics
from rlcs.types import FinishReason, Group, Prompt, Response, Score


def config(rollout: dict[str, Any], **sections: Any) -> Config:
    return Config.model_validate(
        {"model": {"init": "tiny"}, "data": {"train": "x.jsonl"}, "rollout": rollout, **sections}
    )


class Policy:
    """Answers prompt i right with probability `rates[i]`; keeps what it was asked for."""

    def __init__(self, rates: Sequence[float], seed: int = 0) -> None:
        self.prompts = [Prompt(str(i), [], "") for i in range(len(rates))]
        self.asked: list[dict[str, int]] = []
        self._rates = rates
        self._rng = np.random.default_rng(seed)

    def request(self, prompts: Sequence[Prompt], counts: Sequence[int]) -> list[Group]:
        self.asked.append({prompt.id: count for prompt, count in zip(prompts, counts, strict=True)})
        return [
            Group(prompt, np.arange(3, dtype=np.int32), [self._respond(int(prompt.id), k) for k in range(count)])
            for prompt, count in zip(prompts, counts, strict=True)
        ]

    def _respond(self, index: int, number: int) -> Response:
        tokens = np.asarray([len(self.asked), number], dtype=np.int32)
        right = float(self._rng.random() < self._rates[index])
        return Response(
            tokens, np.zeros(2, np.float32), np.ones(2, np.bool_), "", FinishReason.STOP, 0, Score(right, right == 1)
        )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 4), st.integers(4, 12), st.integers(0, 100))
def test_the_budget_is_kept_in_two_requests(rates: list[float], first: int, most: int, seed: int) -> None:
    policy, n = Policy(rates, seed), len(rates)
    rollout = RolloutConfig(num_generations=8, first_generations=first, max_generations=most)
    groups = respond_adaptively(policy.prompts, (np.zeros(n), np.ones(n)), rollout, 8 * n, policy.request)
    sizes = [len(group.responses) for group in groups]
    assert sum(sizes) == min(8 * n, most * n)
    assert min(sizes) >= first and max(sizes) <= most
    assert policy.asked[0] == {str(i): first for i in range(n)}
    assert [group.prompt for group in groups] == policy.prompts
    for group, size in zip(groups, sizes, strict=True):
        requests = [int(response.token_ids[0]) for response in group.responses]
        assert requests == [1] * first + [2] * (size - first), "those of the first request, then those of the second"
        assert policy.asked[1].get(group.prompt.id, 0) == size - first


def test_what_settled_groups_do_not_need_goes_to_the_others() -> None:
    policy = Policy([0.0, 1.0, 0.5, 0.5])
    means = np.asarray([-4.0, 4.0, 0.0, 0.0])
    rollout = RolloutConfig(num_generations=8, first_generations=4)
    groups = respond_adaptively(policy.prompts, (means, np.full(4, 0.5)), rollout, 32, policy.request)
    sizes = [len(group.responses) for group in groups]
    assert sizes[:2] == [4, 4] and sum(sizes[2:]) == 24


def test_uneven_groups_flow_through_advantages_batch_observation_and_metrics() -> None:
    policy = Policy([0.0, 0.5, 0.4])
    rollout = RolloutConfig(num_generations=8, first_generations=4)
    belief = (np.asarray([-3.0, 0.0, 0.0]), np.full(3, 0.5))
    groups = respond_adaptively(policy.prompts, belief, rollout, 24, policy.request)
    sizes = [len(group.responses) for group in groups]
    assert len(set(sizes)) > 1
    advantages = group_relative([group.rewards for group in groups], "group")
    for group, values in zip(groups, advantages, strict=True):
        rewards = group.rewards
        assert values.sum() == pytest.approx(0, abs=1e-4)
        if not group.is_degenerate:
            assert values == pytest.approx((rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4), abs=1e-5)
    batch = make_batch(groups, advantages)
    assert batch.num_sequences == 24
    flat = np.concatenate(advantages)
    assert batch.advantages[batch.offsets[1:] - 1].tolist() == flat.tolist()
    seen = observe(np.asarray([5, 6, 7]), groups)
    assert seen.counts.tolist() == sizes
    assert seen.pass_rates.tolist() == [pytest.approx(group.rewards.mean()) for group in groups]
    metrics = rollout_metrics(groups, groups[1:], 1.0)
    assert (metrics["rollout/responses"], metrics["rollout/largest_group"]) == (24, max(sizes))
    assert metrics["reward/mean"] == pytest.approx(np.concatenate([group.rewards for group in groups]).mean())


def test_rewards_between_0_and_1_count_in_fractions() -> None:
    policy = Policy([0.0, 0.0])

    def half(prompts: Sequence[Prompt], counts: Sequence[int]) -> list[Group]:
        groups = policy.request(prompts, counts)
        for group in groups:
            for k, response in enumerate(group.responses):
                value = (0.25, 0.75)[k % 2] if group.prompt.id == "1" else 0.0
                response.reward = replace(response.reward or Score(0.0), value=value, correct=None)
        return groups

    rollout = RolloutConfig(num_generations=8, first_generations=2)
    belief = (np.asarray([-4.0, 0.0]), np.ones(2))
    groups = respond_adaptively(policy.prompts, belief, rollout, 16, half)
    assert [len(group.responses) for group in groups] == [2, 14]


def test_fewer_prompts_are_drawn_with_the_same_number_of_responses() -> None:
    table = PromptTable(np.zeros(40, np.int8), np.zeros(40, np.int16), ["sums"])
    off = config({}, train={"batch_size": 10})
    on = config({"first_generations": 4}, train={"batch_size": 10})
    curriculum = load_curriculum("posterior", table, on.curriculum, 0)
    assert num_prompts(off, curriculum, 10) == curriculum.num_prompts(10)
    assert num_prompts(off, curriculum, 7) == curriculum.num_prompts(7)
    assert num_prompts(on, curriculum, 10) == num_prompts(on, curriculum, 7) == 5
    assert adaptive_plan(on.rollout) == AdaptivePlan() and adaptive_plan(off.rollout) is None


@pytest.mark.parametrize("kind", ["uniform", "rlcs"])
def test_a_curriculum_without_predictions_is_refused(kind: str) -> None:
    table = PromptTable(np.zeros(4, np.int8), np.zeros(4, np.int16), ["sums"])
    on = config({"first_generations": 4}, curriculum={"kind": kind})
    with pytest.raises(ConfigError, match=f"needs a curriculum that predicts pass rates, and '{kind}' does not"):
        check_predicts(on, load_curriculum(kind, table, on.curriculum, 0))
    off = config({}, curriculum={"kind": kind})
    check_predicts(off, load_curriculum(kind, table, off.curriculum, 0))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"first_generations": 4, "max_generations": 3},
            r"first_generations \(4\) is more than rollout.max_generations",
        ),
        ({"first_generations": 8, "adaptive_prompts": 1.5}, "nothing is left for a second request"),
        ({"first_generations": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_leave_nothing_to_share_out_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        config({"num_generations": 8, **settings})
