from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rlcs.config import LearnerConfig
from rlcs.learner.losses import TokenLoss, policy_loss, sequence_weights

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=10).map(lambda counts: np.array(counts, np.int64))
SEEDS = st.integers(0, 2**32 - 1)
GSPO = {"importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.15}
KL = {"beta": 0.1, "use_bias_correction_kl": False}
DIFFERENTIABLE: dict[str, dict[str, Any]] = {
    "ppo": {},
    "dual_clip": {"delta": 1.5},
    "gspo": GSPO,
    "luspo": {**GSPO, "loss_type": "luspo"},
    "sapo": {"loss_type": "sapo"},
    "sapo_sequence": {"loss_type": "sapo", "importance_sampling_level": "sequence"},
    "k2": {**KL, "kl_estimator": "k2"},
    "k3": KL,
    "k1_corrected": {"beta": 0.1, "kl_estimator": "k1"},
    "k3_corrected": {"beta": 0.1},
    "k3_corrected_gspo": {**GSPO, "beta": 0.1},
    "sequence_mask": {"importance_sampling_mode": "sequence_mask"},
    "off_policy": {"off_policy_mask_threshold": 0.05},
}
WEIGHTED: dict[str, dict[str, Any]] = {
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.2},
    "vespo": {"loss_type": "vespo"},
}
EVERY = DIFFERENTIABLE | WEIGHTED
KINDS = st.sampled_from(sorted(EVERY))


class Case:
    """Random float64 inputs of `policy_loss` for sequences of 1 to 5 tokens, one advantage each."""

    def __init__(self, seed: int, on_policy: bool = False, longest: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.counts = torch.tensor(rng.integers(1, longest + 1, rng.integers(1, 6)))
        size = int(self.counts.sum())
        near = [torch.tensor(rng.normal(-2, 0.3, size)) for _ in range(4)]
        self.logprobs = near[0].requires_grad_()
        self.advantages = torch.tensor(rng.normal(size=len(self.counts))).repeat_interleave(self.counts)
        self.fixed = {
            "old_logprobs": near[0].detach().clone() if on_policy else near[1],
            "sampled_logprobs": near[2],
            "reference_logprobs": near[3],
        }

    def loss(self, config: LearnerConfig, tokens: torch.Tensor | None = None, counts: Any = None) -> TokenLoss:
        """Of all tokens, or of those with the indices `tokens`, sequences of `counts`."""
        at = slice(None) if tokens is None else tokens
        fixed = {name: value[at] for name, value in self.fixed.items()}
        counts = self.counts if counts is None else counts
        return policy_loss(self.logprobs[at], self.advantages[at], config, counts=counts, **fixed)

    def mean_over_sequence(self, values: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.mean().expand(len(part)) for part in values.split(self.counts.tolist())])

    def sum_over_sequence(self, values: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.sum().expand(len(part)) for part in values.split(self.counts.tolist())])


@pytest.mark.parametrize("kind", DIFFERENTIABLE)
@given(seed=SEEDS, on_policy=st.booleans())
@settings(max_examples=15)
def test_gradient_equals_finite_differences(kind: str, seed: int, on_policy: bool) -> None:
    config, case = LearnerConfig(**DIFFERENTIABLE[kind]), Case(seed, on_policy)
    difference = case.logprobs.detach() - case.fixed["old_logprobs"]
    if config.importance_sampling_level == "sequence":
        difference = case.mean_over_sequence(difference)
    # The clip has kinks, where a difference is no derivative; so do its neighbours in a sequence.
    kinks = torch.tensor([1 - config.epsilon, 1 + config.epsilon_high, config.delta or 1e9], dtype=torch.float64)
    smooth = ((difference.exp()[:, None] - kinks).abs() > 1e-3).all(1)
    gap = case.mean_over_sequence(case.fixed["sampled_logprobs"] - case.logprobs.detach())
    smooth &= (gap - (config.off_policy_mask_threshold or 1e9)).abs() > 1e-3

    case.loss(config).loss.sum().backward()
    step = 1e-6
    for index in np.flatnonzero(smooth.numpy()):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                case.logprobs[index] += sign * step
                ends.append(float(case.loss(config).loss.sum()))
                case.logprobs[index] -= sign * step
        assert float(case.logprobs.grad[index]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)


@given(SEEDS)
@settings(max_examples=30)
def test_gradient_of_cispo_is_the_capped_ratio_times_the_advantage(seed: int) -> None:
    case = Case(seed)
    result = case.loss(LearnerConfig(**WEIGHTED["cispo"], importance_sampling_correction=False))
    result.loss.sum().backward()
    ratio = (case.logprobs.detach() - case.fixed["old_logprobs"]).exp()
    torch.testing.assert_close(case.logprobs.grad, -ratio.clamp(max=1.2) * case.advantages)
    assert torch.equal(result.clipped_high, (ratio > 1.2) & (case.advantages > 0))


@given(SEEDS)
@settings(max_examples=30)
def test_gradient_of_vespo_is_the_gamma_weight_of_the_sequence_times_the_advantage(seed: int) -> None:
    case = Case(seed)
    config = LearnerConfig(**WEIGHTED["vespo"], importance_sampling_cap=None)
    case.loss(config).loss.sum().backward()
    # The policy before the update cancels out of the product of both ratios.
    w = case.sum_over_sequence(case.logprobs.detach() - case.fixed["sampled_logprobs"]).exp()
    positive = case.advantages >= 0
    phi = torch.where(positive, w**2 * torch.exp(3 - 3 * w), w**3 * torch.exp(2 - 2 * w))
    torch.testing.assert_close(case.logprobs.grad, -phi * case.advantages)


@given(SEEDS, KINDS, st.booleans())
@settings(max_examples=60)
def test_sequences_may_be_split_and_reordered(seed: int, kind: str, on_policy: bool) -> None:
    config, case = LearnerConfig(**EVERY[kind]), Case(seed, on_policy)
    whole = case.loss(config)
    order = np.random.default_rng(seed).permutation(len(case.counts))
    spans = torch.arange(len(case.advantages)).split(case.counts.tolist())
    shuffled = case.loss(config, torch.cat([spans[s] for s in order]), case.counts[order])
    torch.testing.assert_close(shuffled.loss, torch.cat([whole.loss[spans[s]] for s in order]))
    for span, count in zip(spans, case.counts, strict=True):
        torch.testing.assert_close(case.loss(config, span, count[None]).loss, whole.loss[span])


@given(SEEDS, KINDS, st.floats(0.01, 100))
@settings(max_examples=60)
def test_the_policys_part_scales_with_the_advantages(seed: int, kind: str, scale: float) -> None:
    config, case = LearnerConfig(**{**EVERY[kind], "beta": 0.0}), Case(seed)
    before = case.loss(config).loss.detach()
    case.advantages = case.advantages * scale
    torch.testing.assert_close(case.loss(config).loss.detach(), before * scale)


@given(SEEDS, st.sampled_from(["ppo", "dual_clip", "gspo", "sapo", "sapo_sequence"]))
def test_on_policy_every_ratio_loss_has_the_policy_gradient(seed: int, kind: str) -> None:
    case = Case(seed, on_policy=True)
    case.loss(LearnerConfig(**DIFFERENTIABLE[kind], importance_sampling_correction=False)).loss.sum().backward()
    torch.testing.assert_close(case.logprobs.grad, -case.advantages)


@given(SEEDS)
def test_sequences_of_one_token_make_no_difference_between_levels(seed: int) -> None:
    case = Case(seed, longest=1)
    one, other = (case.loss(LearnerConfig(importance_sampling_level=level)).loss for level in ("token", "sequence"))
    assert torch.equal(one, other)


def test_without_old_logprobs_the_ratio_is_one_and_the_gradient_is_the_advantage() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.0])
    result = policy_loss(logprobs, advantages, LearnerConfig())
    result.loss.sum().backward()
    assert torch.equal(result.log_ratio, torch.zeros(3))
    assert logprobs.grad is not None and torch.equal(logprobs.grad, -advantages)


def test_clip_is_counted_only_where_it_cuts_the_gradient() -> None:
    ratios = torch.tensor([0.5, 0.5, 1.5, 1.5, 1.0])
    logprobs = ratios.log().requires_grad_()
    advantages = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0])
    result = policy_loss(logprobs, advantages, LearnerConfig(), old_logprobs=torch.zeros(5))
    result.loss.sum().backward()
    assert result.clipped_low.tolist() == [True, False, False, False, False]
    assert result.clipped_high.tolist() == [False, False, True, False, False]
    assert logprobs.grad is not None
    assert (logprobs.grad == 0).tolist() == [True, False, True, False, False]


def test_dual_clip_bounds_the_loss_of_a_bad_token_only() -> None:
    logprobs = torch.tensor([5.0, 5.0]).log()
    advantages = torch.tensor([-1.0, 1.0])
    loss = policy_loss(logprobs, advantages, LearnerConfig(delta=2.0), old_logprobs=torch.zeros(2)).loss
    torch.testing.assert_close(loss, torch.tensor([2.0, -1.28]))


def test_off_policy_mask_drops_bad_sequences_that_drifted_and_keeps_the_rest() -> None:
    advantages = torch.tensor([-1.0, -1.0, 1.0, -1.0])
    sampled = torch.tensor([0.5, 0.9, 2.0, 0.3])  # over logprobs of 0: means 0.7, 2.0 and 0.3
    config = LearnerConfig(off_policy_mask_threshold=0.5, importance_sampling_correction=False)
    counts = torch.tensor([2, 1, 1])
    result = policy_loss(torch.zeros(4), advantages, config, sampled_logprobs=sampled, counts=counts)
    assert result.kept is not None and result.kept.tolist() == [False, False, True, True]
    assert result.loss.tolist() == [0, 0, -1, 1]


def test_beta_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="needs reference_logprobs"):
        policy_loss(torch.zeros(1), torch.zeros(1), LearnerConfig(beta=0.1))


@pytest.mark.parametrize("kind", ["gspo", "vespo", "off_policy", "sequence_mask"])
def test_what_belongs_to_a_sequence_is_refused_without_counts(kind: str) -> None:
    zeros = torch.zeros(1)
    with pytest.raises(ValueError, match="needs counts"):
        policy_loss(zeros, zeros, LearnerConfig(**EVERY[kind]), sampled_logprobs=zeros)


@given(COUNTS)
def test_weights_average_as_named(counts: np.ndarray) -> None:
    per_sequence, per_token = np.count_nonzero(counts) / len(counts), float(counts.sum() > 0)
    totals = {
        **dict.fromkeys(("grpo", "sapo"), per_sequence),
        **dict.fromkeys(("dapo", "bnpo", "cispo", "vespo"), per_token),
        "dr_grpo": counts.sum() / (len(counts) * 64),
        "luspo": counts.mean(),
    }
    for loss_type, total in totals.items():
        assert (sequence_weights(counts, loss_type, 64) * counts).sum() == pytest.approx(total, rel=1e-5)


def test_an_unknown_loss_type_is_refused() -> None:
    with pytest.raises(ValueError, match="loss_type is 'ppo'"):
        sequence_weights(np.array([1]), "ppo", 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "cispo"}, "epsilon_high itself .0.28., which cuts those of 1"),
        ({"loss_type": "luspo"}, "needs learner.importance_sampling_level: sequence"),
        ({"loss_type": "vespo", "importance_sampling_level": "sequence"}, "leave .* at token"),
        ({"loss_type": "vespo", "importance_sampling_mode": "sequence_mask"}, "not sequence_mask"),
        ({"loss_type": "sapo", "delta": 3.0}, "delta has no effect with learner.loss_type sapo"),
        ({"delta": 1.2}, r"delta \(1.2\) must be more than 1 \+ learner.epsilon_high \(1.28\)"),
        ({"importance_sampling_clip_min": 2.0}, r"clip_min \(2\) must be less than learner.importance_sampling_cap"),
        ({"beta": 0.1, "kl_estimator": "k1", "use_bias_correction_kl": False}, "gradient of mean 0"),
        ({"beta": 0.1, "kl_estimator": "k2"}, "set learner.use_bias_correction_kl to false"),
        ({"delta": math.inf}, "finite"),
        ({"off_policy_mask_threshold": 0.0}, "greater than 0"),
        ({"critic_warmup": 3}, "critic_warmup belongs to PPO and has no effect with learner.advantage_estimator grpo"),
        ({"advantage_estimator": "rloo", "cliprange_value": None}, "set that to gae, or leave cliprange_value out"),
        (
            {"advantage_estimator": "gae", "importance_sampling_level": "sequence"},
            "level sequence wants one a response",
        ),
        ({"advantage_estimator": "gae", "loss_type": "vespo"}, "loss_type vespo wants one a response"),
        ({"advantage_estimator": "gae", "critic": "shared", "critic_path": "x"}, "or set learner.critic to own"),
        ({"advantage_estimator": "gae", "vf_coef": 0.5}, "vf_coef weighs the value loss on a shared trunk"),
        ({"advantage_estimator": "gae", "lam": 1.5}, "less than or equal to 1"),
        ({"advantage_estimator": "gae", "gamma": -0.1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LearnerConfig(**settings)
