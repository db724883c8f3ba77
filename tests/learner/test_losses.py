from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.learner.losses import importance_weights, kl_k3, policy_loss, sequence_weights

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=10).map(lambda counts: np.array(counts, np.int64))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans())
@settings(max_examples=50)
def test_gradient_equals_finite_differences(seed: int, beta: float, corrected: bool, on_policy: bool) -> None:
    rng = np.random.default_rng(seed)

    def normal(scale: float) -> torch.Tensor:
        return torch.tensor(rng.normal(-2, scale, 12), dtype=torch.float64)

    logprobs = normal(0.3).requires_grad_()
    fixed = {"advantages": normal(1.0) + 2, "sampled_logprobs": normal(0.3), "reference_logprobs": normal(0.3)}
    old = logprobs.detach().clone() if on_policy else normal(0.3)
    ratio = torch.exp(logprobs.detach() - old)
    # The clip has kinks, where a difference is no derivative.
    kinks = torch.tensor([0.8, 1.28], dtype=torch.float64)
    smooth = ((ratio[:, None] - kinks).abs() > 1e-3).all(1)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return policy_loss(values, old_logprobs=old, beta=beta, use_bias_correction_kl=corrected, **fixed).loss

    loss(logprobs).sum().backward()
    assert logprobs.grad is not None
    step = 1e-6
    with torch.no_grad():
        differences = (loss(logprobs + step) - loss(logprobs - step)) / (2 * step)
    torch.testing.assert_close(logprobs.grad[smooth], differences[smooth], atol=1e-6, rtol=1e-6)


def test_without_old_logprobs_the_ratio_is_one_and_the_gradient_is_the_advantage() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.0])
    result = policy_loss(logprobs, advantages)
    result.loss.sum().backward()
    assert torch.equal(result.log_ratio, torch.zeros(3))
    assert logprobs.grad is not None and torch.equal(logprobs.grad, -advantages)


def test_clip_is_counted_only_where_it_cuts_the_gradient() -> None:
    ratios = torch.tensor([0.5, 0.5, 1.5, 1.5, 1.0])
    logprobs = ratios.log().requires_grad_()
    advantages = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0])
    result = policy_loss(logprobs, advantages, old_logprobs=torch.zeros(5))
    result.loss.sum().backward()
    assert result.clipped_low.tolist() == [True, False, False, False, False]
    assert result.clipped_high.tolist() == [False, False, True, False, False]
    assert logprobs.grad is not None
    assert (logprobs.grad == 0).tolist() == [True, False, True, False, False]


def test_importance_weights_are_truncated_and_one_without_an_engine_logprob() -> None:
    old = torch.tensor([-1.0, -1.0, -1.0])
    sampled = torch.tensor([-1.0 - np.log(3), -1.0 + np.log(2), float("nan")], dtype=torch.float32)
    torch.testing.assert_close(importance_weights(old, sampled, 2.0), torch.tensor([2.0, 0.5, 1.0]))


@given(st.lists(st.floats(-5, 0), min_size=2, max_size=20))
def test_k3_is_never_negative_and_zero_for_equal_policies(values: list[float]) -> None:
    logprobs = torch.tensor(values, dtype=torch.float64)
    assert (kl_k3(logprobs, logprobs.flip(0)) >= -1e-12).all()  # rounding
    assert not kl_k3(logprobs, logprobs).any()


def test_beta_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="needs reference_logprobs"):
        policy_loss(torch.zeros(1), torch.zeros(1), beta=0.1)


@given(COUNTS)
def test_weights_average_as_named(counts: np.ndarray) -> None:
    weights = {kind: sequence_weights(counts, kind, 64) for kind in ("grpo", "dapo", "dr_grpo")}
    learned = np.count_nonzero(counts)
    assert (weights["grpo"] * counts).sum() == pytest.approx(learned / len(counts), rel=1e-5)
    assert (weights["dapo"] * counts).sum() == pytest.approx(float(counts.sum() > 0), rel=1e-5)
    assert (weights["dr_grpo"] * counts).sum() == pytest.approx(counts.sum() / (len(counts) * 64), rel=1e-5)


def test_an_unknown_loss_type_is_refused() -> None:
    with pytest.raises(ValueError, match="must be grpo, dapo or dr_grpo"):
        sequence_weights(np.array([1]), "ppo", 8)  # type: ignore[arg-type]
