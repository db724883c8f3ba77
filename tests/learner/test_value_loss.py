from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcs.learner.distributed import Ranks
from rlcs.learner.value_loss import ValueMetrics, explained_variance, value_loss


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (values * mask).sum() / mask.sum()


@given(st.integers(1, 40), st.one_of(st.none(), st.floats(0.01, 2)), st.integers(0, 1000))
def test_loss_and_gradient_equal_the_plain_formula(size: int, cliprange: float | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, old, returns = (torch.from_numpy(rng.normal(size=size)) for _ in range(3))
    values.requires_grad_(True)
    part = value_loss(values, old, returns, cliprange)
    part.loss.sum().backward()
    for v, o, r, loss, clipped, gradient in zip(
        values.tolist(), old.tolist(), returns.tolist(), part.loss.tolist(), part.clipped, values.grad, strict=True
    ):
        near = v if cliprange is None else min(max(v, o - cliprange), o + cliprange)
        assert loss == pytest.approx(0.5 * max((v - r) ** 2, (near - r) ** 2))
        assert bool(clipped) == ((near - r) ** 2 > (v - r) ** 2)
        assert float(gradient) == pytest.approx(0 if clipped else v - r)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 1000))
def test_mean_over_tokens_equals_trls_and_verls_masked_mean(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    values, old, returns = (torch.from_numpy(rng.normal(size=mask.shape)) for _ in range(3))
    ours, theirs = values[mask].requires_grad_(True), values.clone().requires_grad_(True)
    part = value_loss(ours, old[mask], returns[mask], 0.2)
    loss = part.loss.sum() / len(ours)
    loss.backward()
    near = torch.clamp(theirs, old - 0.2, old + 0.2)
    plain, clipped = torch.square(theirs - returns), torch.square(near - returns)
    expected = 0.5 * masked_mean(torch.max(plain, clipped), mask)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad[mask])
    metrics = ValueMetrics()
    metrics.add(part)
    means = metrics.means(Ranks())
    assert means["value_loss"] == pytest.approx(expected.item())
    assert means["value_clip"] == pytest.approx(masked_mean((clipped > plain).double(), mask).item())


def test_metrics_over_several_parts_weigh_every_token_alike() -> None:
    values, zeros = torch.arange(10.0), torch.zeros(10)
    whole, parts = ValueMetrics(), ValueMetrics()
    whole.add(value_loss(values, zeros, zeros + 3, 1.0))
    for part in (slice(0, 3), slice(3, 10)):
        parts.add(value_loss(values[part], zeros[part], zeros[part] + 3, 1.0))
    assert whole.means(Ranks()) == parts.means(Ranks())
    assert ValueMetrics().means(Ranks()) == {}


def test_explained_variance() -> None:
    returns = np.array([0.0, 1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(np.full(4, 7.0), returns) == 0
    assert explained_variance(-returns, returns) == -3
    assert explained_variance(returns, np.ones(4)) == 0
    assert explained_variance(np.zeros(0), np.zeros(0)) == 0
