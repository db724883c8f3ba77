"""Losses that look at whole sequences, and the KL penalty in the reward, in the learner's own update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcs.config import LearnerConfig
from rlcs.learner.advantages import assign_advantages
from rlcs.learner.batching import learned_sums
from rlcs.learner.learner import Learner
from rlcs.learner.metrics import TokenMetrics
from rlcs.types import Batch

MakeBatch = Callable[..., Batch]
OF_SEQUENCES: dict[str, dict[str, Any]] = {
    "gspo": {"importance_sampling_level": "sequence", "epsilon": 0.02, "epsilon_high": 0.03},
    "luspo": {"importance_sampling_level": "sequence", "loss_type": "luspo"},
    "vespo": {"loss_type": "vespo"},
    "sequence_mask": {"importance_sampling_mode": "sequence_mask"},
    "off_policy": {"off_policy_mask_threshold": 0.01},
}


def make_learner(folder: Path, **config: Any) -> Learner:
    settings = {"threads": 1, "learning_rate": 1e-3, "tokens_per_micro_batch": 100_000, **config}
    return Learner(str(folder), LearnerConfig(**settings), seed=1, max_completion_length=32)


@pytest.mark.parametrize("kind", OF_SEQUENCES)
def test_micro_batches_and_layout_change_nothing(policy_folder: Path, make_random_batch: MakeBatch, kind: str) -> None:
    batch = make_random_batch(forced=True)
    current = make_learner(policy_folder).logprobs(batch)
    rng = np.random.default_rng(0)
    old, batch.logprobs = (
        (current + rng.normal(0, 0.2, len(current))).astype(np.float32) * batch.loss_mask for _ in range(2)
    )

    def run(**settings: Any) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
        learner, metrics = make_learner(policy_folder, **OF_SEQUENCES[kind], **settings), TokenMetrics()
        loss = learner._accumulate(batch, np.arange(batch.num_sequences), old, None, metrics)
        return loss, {name: p.grad.clone() for name, p in learner.model.named_parameters()}, metrics.means()

    loss, gradient, metrics = run()
    for settings in ({"tokens_per_micro_batch": 40}, {"tokens_per_micro_batch": 150}, {"layout": "padded"}):
        other_loss, other_gradient, other_metrics = run(**settings)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        assert other_metrics == pytest.approx(metrics, abs=1e-4)
        for name, value in gradient.items():
            torch.testing.assert_close(other_gradient[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus"])
@pytest.mark.parametrize("kl_estimator", ["k1", "k3"])
def test_kl_in_the_reward_is_subtracted_before_the_baseline(
    policy_folder: Path, make_random_batch: MakeBatch, estimator: str, kl_estimator: str
) -> None:
    batch = make_random_batch(3, 4)
    sizes, rewards = [4, 4, 4], np.random.default_rng(0).integers(0, 2, 12).astype(np.float64)
    settings = {"advantage_estimator": estimator, "importance_sampling_correction": False}
    penalty = {"beta": 0.05, "kl_placement": "reward", "kl_estimator": kl_estimator}
    learner, plain = make_learner(policy_folder, **settings, **penalty), make_learner(policy_folder, **settings)
    initial = plain.logprobs(batch)
    first = learner.update(batch, group_sizes=sizes, rewards=rewards)
    assert first["learner/kl_reference"] == 0  # the policy is still the reference
    plain.update(assign_advantages(batch, rewards, sizes, plain.config), group_sizes=sizes)

    change = plain.logprobs(batch) - initial
    estimates = change if kl_estimator == "k1" else np.exp(-change) + change - 1
    lowered = rewards - 0.05 * learned_sums(batch, estimates)
    assert np.abs(lowered - rewards).max() > 1e-3
    second = learner.update(batch, group_sizes=sizes, rewards=rewards)
    expected = plain.update(assign_advantages(batch, lowered, sizes, plain.config), group_sizes=sizes)
    assert second["learner/loss"] == pytest.approx(expected["learner/loss"], abs=1e-5)
    assert second["learner/kl_reference"] == pytest.approx(estimates[batch.loss_mask].mean(), abs=1e-5)
    for name, value in plain.weights().items():
        torch.testing.assert_close(learner.weights()[name], value, atol=1e-5, rtol=1e-4)


def test_kl_in_the_reward_is_refused_without_rewards(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    learner = make_learner(policy_folder, beta=0.1, kl_placement="reward")
    with pytest.raises(ValueError, match="needs the rewards and the sizes of the groups"):
        learner.update(make_random_batch(), group_sizes=[4, 4, 4])


def test_every_loss_trains_over_several_minibatches(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    for settings in (*OF_SEQUENCES.values(), {"loss_type": "sapo"}, {"loss_type": "cispo", "epsilon_high": 5.0}):
        learner = make_learner(policy_folder, num_iterations=2, num_minibatches=3, **settings)
        batch.logprobs[:] = learner.logprobs(batch)
        metrics = learner.update(batch, group_sizes=[4, 4, 4])
        assert metrics["learner/optimizer_steps"] == 6 and np.isfinite(metrics["learner/loss"])
        change = (learner.logprobs(batch) - batch.logprobs) * batch.advantages
        assert change.sum() > 0, settings
