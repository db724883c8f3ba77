from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcs.learner.corrections import importance_weights, kl_estimate, sequence_mean, sequence_sum

VALUES = st.lists(st.floats(-5, 0), min_size=2, max_size=20)
LOGS = torch.tensor([0.25, 1.0, 4.0, 2.0, 0.75], dtype=torch.float64).log()
"""Of ratios in sequences of two, two and one token; products 0.25, 8 and 0.75."""
COUNTS = torch.tensor([2, 2, 1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [0.5, 1, 3, 2, 0.75]),
        ("token_mask", [0, 1, 0, 2, 0.75]),
        ("sequence_truncate", [0.5, 0.5, 3, 3, 0.75]),
        ("sequence_mask", [0, 0, 0, 0, 0.75]),
    ],
)
def test_importance_weights_out_of_bounds_are_truncated_or_masked(mode: str, expected: list[float]) -> None:
    weights = importance_weights(LOGS, torch.zeros(5), 3.0, clip_min=0.5, mode=mode, counts=COUNTS)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_without_bounds_importance_weights_are_the_ratios(mode: str) -> None:
    weights = importance_weights(LOGS, torch.zeros(5), None, mode=mode, counts=COUNTS)
    ratios = torch.tensor([0.25, 1, 4, 2, 0.75] if "token" in mode else [0.25, 0.25, 8, 8, 0.75], dtype=torch.float64)
    torch.testing.assert_close(weights, ratios)


def test_importance_weights_are_truncated_and_one_without_an_engine_logprob() -> None:
    old = torch.tensor([-1.0, -1.0, -1.0])
    sampled = torch.tensor([-1.0 - np.log(3), -1.0 + np.log(2), float("nan")], dtype=torch.float32)
    torch.testing.assert_close(importance_weights(old, sampled, 2.0), torch.tensor([2.0, 0.5, 1.0]))


@given(VALUES, st.integers(0, 100))
def test_sums_and_means_are_those_of_each_sequence(values: list[float], seed: int) -> None:
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, len(values)), 1))
    parts = np.split(np.asarray(values), cuts)
    counts = torch.tensor([len(part) for part in parts])
    flat = torch.tensor(values, dtype=torch.float64)
    sums = np.concatenate([np.full(len(part), part.sum()) for part in parts])
    means = np.concatenate([np.full(len(part), part.mean()) for part in parts])
    np.testing.assert_allclose(sequence_sum(flat, counts), sums)
    np.testing.assert_allclose(sequence_mean(flat, counts), means)


@given(VALUES)
def test_k2_and_k3_are_never_negative_and_all_are_zero_for_equal_policies(values: list[float]) -> None:
    logprobs = torch.tensor(values, dtype=torch.float64)
    for estimator in ("k2", "k3"):
        assert (kl_estimate(logprobs, logprobs.flip(0), estimator) >= -1e-12).all()  # rounding
    for estimator in ("k1", "k2", "k3"):
        assert not kl_estimate(logprobs, logprobs, estimator).any()


def test_k1_and_k3_average_to_the_divergence_and_so_do_their_gradients() -> None:
    logits = torch.tensor([0.1, -0.3, 0.7], dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.tensor([0.2, 0.4, -0.5], dtype=torch.float64), 0)
    logprobs = torch.log_softmax(logits, 0)
    exact = (logprobs.exp() * (logprobs - reference)).sum()
    (gradient,) = torch.autograd.grad(exact, logits, retain_graph=True)
    chances, ratio = logprobs.detach().exp(), torch.exp(logprobs - logprobs.detach())
    for estimator in ("k1", "k3"):
        estimates = kl_estimate(logprobs, reference, estimator)
        torch.testing.assert_close((chances * estimates).sum(), exact)
        # With the ratio as a factor, as the loss has it.
        (own,) = torch.autograd.grad((chances * ratio * estimates).sum(), logits, retain_graph=True)
        torch.testing.assert_close(own, gradient)
    (k2,) = torch.autograd.grad((chances * kl_estimate(logprobs, reference, "k2")).sum(), logits, retain_graph=True)
    torch.testing.assert_close(k2, gradient)  # without the factor
    (k1,) = torch.autograd.grad((chances * kl_estimate(logprobs, reference, "k1")).sum(), logits)
    torch.testing.assert_close(k1, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
