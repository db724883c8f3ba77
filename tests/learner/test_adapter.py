"""LoRA on the learner: what is trained, sent and saved, and what the reference is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rlcs.adapter_merging import BaseWeights, MergedWeights
from rlcs.adapters import CONFIG_FILE, is_packed_adapter, read_adapter, unpack_adapter
from rlcs.config import LearnerConfig, ModelConfig
from rlcs.config_lora import LoRAConfig
from rlcs.errors import CheckpointError, ConfigError, DataError
from rlcs.learner.learner import Learner
from rlcs.memory import adapter_parameters
from rlcs.model_shape import shape_of
from rlcs.types import Batch
from rlcs.weights import to_arrays

MakeBatch = Callable[..., Batch]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "attention only": {"target_modules": ["q_proj", "v_proj"]},
}


def make_learner(folder: Path, *, lora: dict[str, Any] | None = None, dtype: Any = "float32", **config: Any) -> Learner:
    settings = {"threads": 1, "learning_rate": 1e-2, **config}
    model = ModelConfig(path=str(folder), lora=LoRAConfig(**{"r": 4, "lora_alpha": 8, **(lora or {})}))
    return Learner(str(folder), LearnerConfig(**settings), dtype=dtype, seed=1, max_completion_length=32, model=model)


def frozen(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.named_parameters() if not p.requires_grad}


@pytest.fixture
def untied_folder(policy_folder: Path, tmp_path: Path) -> Path:
    """The policy with a head of its own."""
    folder = tmp_path / "untied"
    model = AutoModelForCausalLM.from_pretrained(policy_folder)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach() * 1.5)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(policy_folder / file, folder / file)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_the_adapter_is_trained(
    policy_folder: Path, make_random_batch: MakeBatch, kind: str, checkpointing: bool
) -> None:
    learner = make_learner(policy_folder, lora=KINDS[kind], gradient_checkpointing=checkpointing)
    base, batch = frozen(learner), make_random_batch()
    before = learner.logprobs(batch)
    metrics = learner.update(batch)
    assert metrics["learner/grad_norm"] > 0 and metrics["learner/optimizer_steps"] == 1
    trained = [name for name, p in learner.model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert sum(p.numel() for group in learner.optimizer.param_groups for p in group["params"]) == sum(
        p.numel() for p in learner.model.parameters() if p.requires_grad
    )
    assert all(torch.equal(value, base[name]) for name, value in frozen(learner).items())
    assert np.abs(learner.logprobs(batch) - before).max() > 1e-3


def test_gradient_checkpointing_and_layout_change_no_gradient(
    policy_folder: Path, make_random_batch: MakeBatch
) -> None:
    batch = make_random_batch(forced=True)
    results = []
    for settings in ({}, {"gradient_checkpointing": True}, {"layout": "padded"}, {"tokens_per_micro_batch": 60}):
        learner = make_learner(policy_folder, **settings)
        learner.update(batch)
        learner.update(batch)
        results.append(learner.logprobs(batch))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-4)


def test_a_new_adapter_changes_nothing(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    whole = Learner(str(policy_folder), LearnerConfig(threads=1))
    np.testing.assert_allclose(make_learner(policy_folder).logprobs(batch), whole.logprobs(batch), atol=1e-6)


@pytest.mark.parametrize("placement", ["loss", "reward"])
def test_the_reference_is_the_base_without_a_second_copy(
    policy_folder: Path, make_random_batch: MakeBatch, placement: str
) -> None:
    batch = make_random_batch()
    whole = Learner(str(policy_folder), LearnerConfig(threads=1))
    expected = whole.logprobs(batch)
    learner = make_learner(policy_folder, beta=0.5, kl_placement=placement)
    rewards = np.random.default_rng(0).normal(size=batch.num_sequences)
    for _ in range(3):
        metrics = learner.update(batch, group_sizes=[4, 4, 4], rewards=rewards)
        np.testing.assert_allclose(learner.reference_logprobs(batch), expected, atol=1e-6)
    name = "learner/kl_reference"
    assert metrics[name] > 0
    parameters = sum(p.numel() for p in learner.model.parameters() if not p.requires_grad)
    assert parameters == sum(p.numel() for p in whole.model.parameters())
    assert learner._reference is None


def test_weights_are_the_adapter_with_its_configuration(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    learner = make_learner(policy_folder, lora={"target_modules": ["q_proj", "v_proj"]})
    learner.update(make_random_batch())
    sent = to_arrays(learner.weights())
    assert is_packed_adapter(sent)
    config, arrays = unpack_adapter(sent)
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (4, 8, ["q_proj", "v_proj"])
    assert len(arrays) == 2 * 2 * 2  # layers, modules, A and B
    assert all(name.startswith("base_model.model.") and "lora_" in name for name in arrays)
    assert sum(value.size for value in arrays.values()) == sum(
        p.numel() for p in learner.model.parameters() if p.requires_grad
    )


@pytest.mark.parametrize("kind", [*KINDS, "head", "head saved"])
def test_merged_weights_give_the_policys_logprobs(untied_folder: Path, make_random_batch: MakeBatch, kind: str) -> None:
    heads: dict[str, dict[str, Any]] = {
        "head": {"target_modules": ["lm_head", "up_proj"]},
        "head saved": {"modules_to_save": ["lm_head"]},
    }
    learner = make_learner(untied_folder, lora=KINDS.get(kind) or heads.get(kind))
    batch = make_random_batch()
    for _ in range(2):
        learner.update(batch)
    config, tensors = unpack_adapter({name: value.numpy() for name, value in learner.weights().items()})
    merged = MergedWeights(
        config, {n: torch.from_numpy(v) for n, v in tensors.items()}, BaseWeights(str(untied_folder))
    )
    whole = Learner(str(untied_folder), LearnerConfig(threads=1))
    loaded = dict(merged.touched_blocks())
    missing = whole.model.load_state_dict(loaded, strict=False)
    assert not missing.unexpected_keys
    # A block is whole: its attention's or MLP's layers are all there, with their biases.
    assert {"model.layers.0.self_attn.k_proj.bias", "model.layers.0.mlp.gate_proj.weight"} & loaded.keys()
    np.testing.assert_allclose(whole.logprobs(batch), learner.logprobs(batch), atol=3e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_policy_is_an_adapter_folder_that_peft_loads(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path, dtype: Any
) -> None:
    learner = make_learner(policy_folder, dtype=dtype)
    batch = make_random_batch()
    learner.update(batch)
    learner.save_policy(tmp_path / "policy")
    config, tensors = read_adapter(tmp_path / "policy")
    assert config["base_model_name_or_path"] == str(policy_folder)
    assert {value.dtype for value in tensors.values()} == {getattr(torch, dtype)}
    assert (tmp_path / "policy" / "tokenizer.json").is_file()
    base = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "policy")
    as_it_is = AutoModelForCausalLM.from_pretrained(tmp_path / "policy", dtype=torch.float32)  # transformers alone
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, as_it_is(ids).logits)
        if dtype == "float32":
            mine = learner.model.lm_head(
                learner.model.model(ids, position_ids=torch.arange(27)[None], packed=_one(27))[0]
            )
            torch.testing.assert_close(mine, loaded(ids).logits, atol=1e-4, rtol=1e-4)


def _one(length: int) -> Any:
    """The layout of one packed sequence."""
    from rlcs.learner.batching import make_batch, padded_micro_batches
    from rlcs.learner.packing import pack
    from rlcs.types import FinishReason, Group, Prompt, Response

    response = Response(
        np.arange(1, length).astype(np.int32), np.zeros(length - 1, np.float32), np.ones(length - 1, bool), "",
        FinishReason.STOP, 0,
    )  # fmt: skip
    batch = make_batch([Group(Prompt("0", [], ""), np.zeros(1, np.int32), [response])], np.ones(1))
    return pack(batch, padded_micro_batches(batch, np.arange(1), 1000)[0], torch.device("cpu"))


def test_state_resumes_bit_by_bit_and_holds_the_adapter_only(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path
) -> None:
    lora = {"lora_dropout": 0.2, "modules_to_save": []}
    learner = make_learner(policy_folder, lora=lora)
    learner.update(make_random_batch(seed=1))
    learner.save_state(tmp_path / "state")
    size = (tmp_path / "state" / "weights.safetensors").stat().st_size
    assert size < 0.5 * (policy_folder / "model.safetensors").stat().st_size
    learner.update(make_random_batch(seed=2))
    resumed = make_learner(policy_folder, lora=lora)
    torch.rand(7)  # whatever else was drawn
    resumed.load_state(tmp_path / "state")
    resumed.update(make_random_batch(seed=2))
    for name, value in learner.weights().items():
        assert torch.equal(value, resumed.weights()[name]), name
    with pytest.raises(CheckpointError, match="of another model"):
        make_learner(policy_folder, lora={"r": 2}).load_state(tmp_path / "state")


def test_dropout_is_where_gradients_are_and_nowhere_else(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    plain, dropping = make_learner(policy_folder), make_learner(policy_folder, lora={"lora_dropout": 0.5})
    for learner in (plain, dropping):
        learner.update(batch)
        learner.update(batch)
    assert np.abs(plain.logprobs(batch) - dropping.logprobs(batch)).max() > 1e-3
    np.testing.assert_array_equal(dropping.logprobs(batch), dropping.logprobs(batch))


def test_training_goes_on_from_an_adapter_which_is_then_the_reference(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path
) -> None:
    batch = make_random_batch()
    first = make_learner(policy_folder)
    first.update(batch)
    first.save_policy(tmp_path / "adapter")
    expected = first.logprobs(batch)
    # Its own configuration counts; `model.lora` need not be given.
    learner = Learner(str(tmp_path / "adapter"), LearnerConfig(threads=1, learning_rate=1e-2, beta=0.1))
    np.testing.assert_allclose(learner.logprobs(batch), expected, atol=1e-6)
    for _ in range(2):
        assert learner.update(batch)["learner/grad_norm"] > 0
        np.testing.assert_allclose(learner.reference_logprobs(batch), expected, atol=1e-6)
    assert np.abs(learner.logprobs(batch) - expected).max() > 1e-3
    learner.save_policy(tmp_path / "second")
    assert read_adapter(tmp_path / "second")[0]["base_model_name_or_path"] == str(policy_folder)
    learner.save_state(tmp_path / "state")
    again = Learner(str(tmp_path / "adapter"), LearnerConfig(threads=1, learning_rate=1e-2, beta=0.1))
    again.load_state(tmp_path / "state")
    np.testing.assert_array_equal(again.logprobs(batch), learner.logprobs(batch))
    np.testing.assert_allclose(again.reference_logprobs(batch), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target_modules": ["nothing"]}, "does not fit the model"),
        ({"modules_to_save": ["nothing"]}, "no layer named nothing"),
        ({"modules_to_save": ["lm_head"]}, "tie_word_embeddings"),
        ({"target_modules": ["lm_head", "q_proj"]}, "tie_word_embeddings"),
        ({"target_modules": ["embed_tokens"]}, "tie_word_embeddings"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    policy_folder: Path, lora: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_learner(policy_folder, lora=lora)


def test_an_adapter_of_another_kind_or_without_a_base_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    for content, message in (
        ({"peft_type": "IA3", "r": 1}, "not that of a LoRA adapter"),
        ({"peft_type": "LORA", "r": 1}, "no base_model_name_or_path"),
    ):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            Learner(str(tmp_path), LearnerConfig(threads=1))


def test_a_base_of_4_bits_is_trained_through_its_adapter(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    model = ModelConfig(path=str(policy_folder), lora=LoRAConfig(r=4), load_in_4bit=True)
    config = LearnerConfig(threads=1, learning_rate=1e-2, beta=0.1, gradient_checkpointing=True)
    learner = Learner(str(policy_folder), config, dtype="bfloat16", model=model)
    batch = make_random_batch()
    before = learner.logprobs(batch)
    for _ in range(2):
        assert learner.update(batch)["learner/grad_norm"] > 0
    np.testing.assert_array_equal(learner.reference_logprobs(batch), before)
    assert np.abs(learner.logprobs(batch) - before).max() > 1e-3
    learner.save_policy(tmp_path / "policy")
    assert read_adapter(tmp_path / "policy")[0]["base_model_name_or_path"] == str(policy_folder)


@pytest.mark.parametrize("target", ["all-linear", ["q_proj", "v_proj"], ["down_proj"]])
def test_estimates_of_memory_count_what_is_trained(policy_folder: Path, tmp_path: Path, target: Any) -> None:
    learner = make_learner(policy_folder, lora={"target_modules": target})
    trained = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    model = ModelConfig(path=str(policy_folder), lora=LoRAConfig(r=4, target_modules=target))
    assert adapter_parameters(model, shape_of(model)) == trained
    learner.save_policy(tmp_path / "adapter")
    model = ModelConfig(path=str(tmp_path / "adapter"))
    assert adapter_parameters(model, shape_of(model)) == trained
    assert adapter_parameters(ModelConfig(path=str(policy_folder)), shape_of(model)) is None
