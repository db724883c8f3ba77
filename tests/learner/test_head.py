from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
)

from rlcs.errors import ConfigError
from rlcs.learner import forward
from rlcs.learner.batching import families
from rlcs.learner.forward import check_head, learned_logprobs
from rlcs.learner.head import Logits, chosen_logprobs
from rlcs.learner.model import load_model
from rlcs.types import Batch

LOGITS = [Logits(), Logits(0.7), Logits(1.3, scale=0.25), Logits(0.7, scale=2.0, softcap=3.0)]
SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def plain(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor | None, logits: Logits
) -> tuple[torch.Tensor, torch.Tensor]:
    """The formulas, over the whole table of logits."""
    scores = torch.nn.functional.linear(hidden, weight, bias) * logits.scale
    if logits.softcap is not None:
        scores = logits.softcap * torch.tanh(scores / logits.softcap)
    table = torch.log_softmax(scores / logits.temperature, -1)
    return table.gather(1, targets[:, None])[:, 0], -(table.exp() * table).sum(-1)


def inputs(
    tokens: int, vocabulary: int, width: int, *, biased: bool, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Hidden states, weight and maybe bias, then targets, then the gradient of the log-probabilities."""
    random = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(tokens, width, generator=random, dtype=dtype)]
    leaves += [torch.randn(vocabulary, width, generator=random, dtype=dtype) / width**0.5]
    if biased:
        leaves.append(torch.randn(vocabulary, generator=random, dtype=dtype))
    targets = torch.randint(vocabulary, (tokens,), generator=random)
    return [leaf.requires_grad_() for leaf in leaves], targets, torch.randn(tokens, generator=random, dtype=dtype)


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 40, 1000])
def test_chunks_give_the_values_and_gradients_of_the_whole_table(logits: Logits, biased: bool, chunk: int) -> None:
    leaves, targets, weights = inputs(40, 90, 12, biased=biased)
    bias = leaves[2] if biased else None
    expected, uncertainty = plain(leaves[0], leaves[1], targets, bias, logits)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    found, entropies = chosen_logprobs(leaves[0], leaves[1], targets, bias=bias, logits=logits, chunk=chunk)
    got = torch.autograd.grad((found * weights).sum(), leaves)
    assert entropies is not None and not entropies.requires_grad
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(entropies, uncertainty, atol=2e-6, rtol=1e-6)
    for one, two in zip(got, wanted, strict=True):
        largest = float(two.abs().max())
        torch.testing.assert_close(one, two, atol=1e-6 * max(largest, 1.0), rtol=1e-6)


@pytest.mark.parametrize("logits", LOGITS)
def test_gradients_equal_finite_differences(logits: Logits) -> None:
    leaves, targets, _ = inputs(5, 11, 4, biased=True, dtype=torch.float64)

    def compute(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return chosen_logprobs(hidden, weight, targets, bias=bias, logits=logits, chunk=2, entropy=False)[0]

    assert torch.autograd.gradcheck(compute, leaves, eps=1e-6, atol=1e-7, rtol=1e-6)


@given(st.integers(1, 60), st.integers(1, 50), st.integers(1, 70), st.integers(0, 10_000))
def test_any_shape_and_chunk_gives_log_probabilities(tokens: int, vocabulary: int, chunk: int, seed: int) -> None:
    leaves, targets, _ = inputs(tokens, vocabulary, 3, biased=False, seed=seed, dtype=torch.float64)
    expected, uncertainty = plain(*leaves, targets, None, Logits())
    found, entropies = chosen_logprobs(*leaves, targets, chunk=chunk)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(entropies, uncertainty)
    assert (found <= 1e-12).all()


def test_bfloat16_hidden_states_and_head_lose_no_more_than_their_own_rounding() -> None:
    leaves, targets, weights = inputs(64, 200, 128, biased=False)
    rounded = [leaf.detach().bfloat16().requires_grad_() for leaf in leaves]
    exact = [leaf.detach().float().requires_grad_() for leaf in rounded]
    expected, _ = plain(*exact, targets, None, Logits())
    wanted = torch.autograd.grad((expected * weights).sum(), exact)
    found, _ = chosen_logprobs(*rounded, targets, chunk=10)
    got = torch.autograd.grad((found * weights).sum(), rounded)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-6)
    for one, two in zip(got, wanted, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), two, atol=1e-6, rtol=2**-8)  # rounded once, after the sum


def test_autocast_does_not_round_logits() -> None:
    leaves, targets, _ = inputs(20, 50, 16, biased=False)
    exact, _ = chosen_logprobs(*leaves, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = chosen_logprobs(*leaves, targets)
    assert torch.equal(exact, found)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_head_or_frozen_hidden_states_get_no_gradient(frozen: int) -> None:
    leaves, targets, weights = inputs(10, 20, 4, biased=False)
    leaves[frozen].requires_grad_(False)
    found, _ = chosen_logprobs(*leaves, targets, chunk=3)
    (found * weights).sum().backward()
    assert leaves[frozen].grad is None and leaves[1 - frozen].grad is not None


def test_one_weight_for_embedding_and_head_gets_both_gradients() -> None:
    leaves, targets, weights = inputs(10, 20, 4, biased=False)
    weight = leaves[1]
    ids = torch.arange(10)
    expected = torch.autograd.grad((plain(weight[ids], weight, targets, None, Logits())[0] * weights).sum(), weight)[0]
    found = torch.autograd.grad((chosen_logprobs(weight[ids], weight, targets, chunk=3)[0] * weights).sum(), weight)[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_what_does_not_fit_together_is_refused() -> None:
    leaves, targets, _ = inputs(10, 20, 4, biased=False)
    with pytest.raises(ValueError, match=r"hidden states \[10, 4\], a head of \[20, 4\] and targets \[9\]"):
        chosen_logprobs(*leaves, targets[:9])
    with pytest.raises(ValueError, match="a chunk of 0 tokens"):
        chosen_logprobs(*leaves, targets, chunk=0)


def scaled_models() -> dict[str, PreTrainedModel]:
    """Models that change the logits after their head."""
    torch.manual_seed(0)
    return {
        "cohere": CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.3, pad_token_id=0)),
        "granite": GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=4.0)),
        "gemma2": Gemma2ForCausalLM(
            Gemma2Config(**SHAPE, head_dim=16, final_logit_softcapping=5.0, attn_logit_softcapping=None)
        ),
    }


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", ["cohere", "granite", "gemma2"])
def test_models_that_scale_or_cap_their_logits_get_their_own_logprobs_and_gradients(
    name: str, chunked: bool, tmp_path: Path, make_random_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled_models()[name].save_pretrained(tmp_path)
    batch: Batch = make_random_batch(2, 2)
    if chunked:
        monkeypatch.setattr(forward, "MAX_LOGITS", 5 * SHAPE["vocab_size"])
    ours: Any = load_model(str(tmp_path), layout="packed", device=torch.device("cpu"))
    logprobs, _, index, _ = learned_logprobs(
        ours, batch, families(batch, np.arange(batch.num_sequences)), temperature=0.7
    )
    logprobs.sum().backward()
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = torch.zeros(len(batch.token_ids))
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        ids = torch.from_numpy(batch.token_ids[start:end])[None]
        table = torch.log_softmax(theirs(ids).logits[0, :-1] / 0.7, -1)
        expected[start + 1 : end] = table.gather(1, ids[0, 1:, None])[:, 0]
    expected[torch.from_numpy(index)].sum().backward()
    torch.testing.assert_close(logprobs, expected[torch.from_numpy(index)], atol=2e-5, rtol=1e-5)
    for (key, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        largest = float(two.grad.abs().max())
        torch.testing.assert_close(one.grad, two.grad, atol=1e-4 * largest, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


def test_a_head_with_a_hook_or_of_another_class_is_computed_by_its_own_forward(
    policy_folder: Path, make_random_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MAX_LOGITS", 5000)
    batch: Batch = make_random_batch()
    model: Any = load_model(str(policy_folder), layout="packed", device=torch.device("cpu"))
    parts = families(batch, np.arange(batch.num_sequences))
    before = learned_logprobs(model, batch, parts, temperature=1.0)[0]
    calls = []
    model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    after = learned_logprobs(model, batch, parts, temperature=1.0)[0]
    assert len(calls) > 1
    torch.testing.assert_close(before, after, atol=2e-6, rtol=1e-6)


def test_a_model_that_does_something_unknown_to_its_logits_is_refused(policy_folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(policy_folder)
    check_head(model, "fine")
    original = model.forward

    def doubled(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        output.logits = output.logits * 2
        return output

    model.forward = doubled
    with pytest.raises(ConfigError, match="model odd: its log-probabilities are not those of its last hidden states"):
        check_head(model, "odd")


def test_capped_attention_is_refused(tmp_path: Path) -> None:
    Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=16)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="attn_logit_softcapping"):
        load_model(str(tmp_path), layout="padded", device=torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("logits", LOGITS)
def test_bfloat16_products_on_a_gpu_stay_near_float32(logits: Logits) -> None:
    leaves, targets, weights = inputs(300, 500, 64, biased=True)
    device = [leaf.detach().cuda().requires_grad_() for leaf in leaves]
    expected, _ = plain(leaves[0], leaves[1], targets, leaves[2], logits)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found, _ = chosen_logprobs(*device[:2], targets.cuda(), bias=device[2], logits=logits, chunk=100)
    assert found.dtype == torch.float32
    got = torch.autograd.grad((found * weights.cuda()).sum(), device)
    torch.testing.assert_close(found.cpu(), expected, atol=0.05, rtol=0.02)
    for one, two in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.cpu(), two, atol=0.02 * float(two.abs().max()), rtol=0.05)
