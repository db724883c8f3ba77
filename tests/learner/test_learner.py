from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlcs.config import LearnerConfig
from rlcs.errors import CheckpointError, DataError, RLCSError
from rlcs.learner.batching import families
from rlcs.learner.forward import learned_logprobs
from rlcs.learner.learner import Learner
from rlcs.learner.metrics import TokenMetrics
from rlcs.types import Batch

MakeBatch = Callable[..., Batch]
EVERYTHING = 100_000
"""A token budget that one micro-batch fits into."""


def make_learner(folder: Path, *, dtype: Any = "float32", temperature: float = 1.0, **config: Any) -> Learner:
    settings = {"threads": 1, "learning_rate": 1e-3, "tokens_per_micro_batch": EVERYTHING, **config}
    return Learner(
        str(folder), LearnerConfig(**settings), dtype=dtype, seed=1, max_completion_length=32, temperature=temperature
    )


def copied_weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.weights().items()}


def gradients(learner: Learner, batch: Batch) -> dict[str, torch.Tensor]:
    learner._accumulate(batch, np.arange(batch.num_sequences), None, None, TokenMetrics())
    return {name: p.grad.clone() for name, p in learner.model.named_parameters()}


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], atol: float = 1e-5) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=atol, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_the_models_own_forward(
    policy_folder: Path, make_random_batch: MakeBatch, layout: str, temperature: float
) -> None:
    batch = make_random_batch(forced=True)
    logprobs = make_learner(policy_folder, layout=layout, temperature=temperature).logprobs(batch)
    model = AutoModelForCausalLM.from_pretrained(policy_folder)
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        ids = torch.from_numpy(batch.token_ids[start:end])[None]
        with torch.no_grad():
            scores = torch.log_softmax(model(ids).logits[0, :-1] / temperature, -1)
        expected = torch.zeros(end - start)
        expected[1:] = scores.gather(1, ids[0, 1:, None])[:, 0]
        expected *= torch.from_numpy(batch.loss_mask[start:end])
        np.testing.assert_allclose(logprobs[start:end], expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("forced", [False, True])
def test_packed_gradient_equals_padded(policy_folder: Path, make_random_batch: MakeBatch, forced: bool) -> None:
    batch = make_random_batch(forced=forced)
    packed, padded = (make_learner(policy_folder, layout=layout) for layout in ("packed", "padded"))
    assert_close(gradients(packed, batch), gradients(padded, batch))


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_many_micro_batches_equal_one(policy_folder: Path, make_random_batch: MakeBatch, loss_type: str) -> None:
    batch = make_random_batch()
    whole = gradients(make_learner(policy_folder, loss_type=loss_type), batch)
    for budget in (40, 150):
        parts = make_learner(policy_folder, loss_type=loss_type, tokens_per_micro_batch=budget)
        assert len(parts._passes.micro_batches(parts.model, batch, np.arange(batch.num_sequences))) > 1
        assert_close(whole, gradients(parts, batch))


def test_gradient_checkpointing_and_chunked_head_change_nothing(
    policy_folder: Path, make_random_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_random_batch()
    plain = gradients(make_learner(policy_folder), batch)
    monkeypatch.setattr("rlcs.learner.forward.MAX_LOGITS", 5000)
    assert_close(plain, gradients(make_learner(policy_folder, gradient_checkpointing=True), batch))


def test_grouped_query_and_sliding_window_attention_can_be_packed(tmp_path: Path, make_random_batch: MakeBatch) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
        initializer_range=0.2,
    )
    assert "sliding_attention" in shape.layer_types
    Qwen2ForCausalLM(shape).save_pretrained(tmp_path)
    batch = make_random_batch()
    packed, padded = (make_learner(tmp_path, layout=layout) for layout in ("packed", "padded"))
    np.testing.assert_allclose(packed.logprobs(batch), padded.logprobs(batch), atol=2e-5)
    assert_close(gradients(packed, batch), gradients(padded, batch))


def test_entropy_is_that_of_the_sampling_distribution(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch(1, 1)
    learner = make_learner(policy_folder, temperature=0.5)
    _, entropies, index, _ = learned_logprobs(learner.model, batch, families(batch, np.arange(1)), temperature=0.5)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(policy_folder)(torch.from_numpy(batch.token_ids)[None]).logits[0]
    expected = torch.distributions.Categorical(logits=logits / 0.5).entropy()[index - 1]
    assert entropies is not None
    torch.testing.assert_close(entropies, expected, atol=1e-4, rtol=1e-4)


def test_update_raises_the_probability_of_good_responses(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    learner = make_learner(policy_folder, importance_sampling_correction=False)
    before = learner.logprobs(batch)
    for _ in range(5):
        metrics = learner.update(batch)
    change = (learner.logprobs(batch) - before) * batch.advantages
    assert change.sum() > 0
    assert metrics["learner/optimizer_steps"] == 1 and metrics["learner/ratio_mean"] == 1


def test_first_steps_logprob_gap_is_that_to_the_engine(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    learner = make_learner(policy_folder, num_minibatches=2, num_iterations=2)
    gap = np.abs(learner.logprobs(batch) - batch.logprobs)[batch.loss_mask]
    metrics = learner.update(batch, num_groups=3)
    assert metrics["learner/logprob_gap_mean"] == pytest.approx(gap.mean(), rel=1e-4)
    assert metrics["learner/logprob_gap_max"] == pytest.approx(gap.max(), rel=1e-4)
    assert metrics["learner/optimizer_steps"] == 4
    assert metrics["learner/ratio_mean"] != 1


def test_same_seed_gives_the_same_weights(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    one, two = (make_learner(policy_folder, num_minibatches=3) for _ in range(2))
    for learner in (one, two):
        learner.update(batch, num_groups=3)
    assert all(torch.equal(a, b) for a, b in zip(one.weights().values(), two.weights().values(), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_state_goes_on_bit_by_bit(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path, dtype: str
) -> None:
    settings = {"dtype": dtype, "num_minibatches": 2, "beta": 0.1, "warmup_steps": 3}
    one = make_learner(policy_folder, **settings)
    one.update(make_random_batch(seed=1), num_groups=3)
    one.save_state(tmp_path)
    two = make_learner(policy_folder, **settings)
    two.load_state(tmp_path)
    assert two.updates == 1
    results = [learner.update(make_random_batch(seed=2), num_groups=3) for learner in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(one.weights().values(), two.weights().values(), strict=True))
    for result in results:
        result.pop("learner/seconds"), result.pop("learner/tokens_per_second")
    assert results[0] == results[1]
    assert results[0]["learner/learning_rate"] == pytest.approx(2e-3 / 3)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    lowered = two.update(make_random_batch(seed=3), num_groups=3, rate_factor=0.25)
    assert lowered["learner/learning_rate"] == pytest.approx(0.25 * 1e-3)


def test_state_that_is_missing_damaged_or_of_another_model_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    learner = make_learner(policy_folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        learner.load_state(tmp_path / "nowhere")
    learner.save_state(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"1234")
    with pytest.raises(CheckpointError, match="cannot be read"):
        learner.load_state(tmp_path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="of another model"):
        learner.load_state(tmp_path)


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(
    policy_folder: Path, make_random_batch: MakeBatch
) -> None:
    batch = make_random_batch()
    poisoned = make_random_batch()
    poisoned.advantages[np.flatnonzero(poisoned.loss_mask)[0]] = np.nan
    learner = make_learner(policy_folder, max_skipped_steps=2)
    before = copied_weights(learner)
    assert learner.update(poisoned)["learner/skipped_steps"] == 1
    assert all(torch.equal(before[name], value) for name, value in learner.weights().items())
    metrics = learner.update(batch)
    assert metrics["learner/skipped_steps"] == 1 and np.isfinite(metrics["learner/grad_norm"])
    assert any(not torch.equal(before[name], value) for name, value in learner.weights().items())
    learner.update(poisoned)
    with pytest.raises(RLCSError, match="2 steps in a row"):
        learner.update(poisoned)


def test_a_batch_without_learned_tokens_changes_nothing(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    batch.loss_mask[:] = False
    learner = make_learner(policy_folder)
    before = copied_weights(learner)
    assert learner.update(batch)["learner/learned_tokens"] == 0
    assert all(torch.equal(before[name], value) for name, value in learner.weights().items())


def test_weights_have_the_names_of_the_folder_with_tied_ones_once(policy_folder: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(policy_folder / "model.safetensors")
    weights = make_learner(policy_folder).weights()
    assert weights.keys() == saved.keys() and "lm_head.weight" not in weights
    assert all(torch.equal(weights[name], saved[name]) for name in saved)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_policy_is_a_hugging_face_folder(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path, dtype: str
) -> None:
    from transformers import AutoTokenizer

    learner = make_learner(policy_folder, dtype=dtype)
    learner.update(make_random_batch())
    learner.save_policy(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == getattr(torch, dtype)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in learner.weights().items())
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template


def test_bfloat16_stays_near_float32(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    exact, rounded = (make_learner(policy_folder, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert np.abs(exact.logprobs(batch) - rounded.logprobs(batch)).max() < 1.0
    assert all(value.dtype == torch.bfloat16 for value in rounded.weights().values())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot load it"):
        make_learner(tmp_path)
