"""Adapter folders outside of a run: merging them, and refusing what cannot be used."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlcs.adapter_merging import scaling
from rlcs.adapters import base_model, is_adapter_folder
from rlcs.config import Config, ModelConfig
from rlcs.config_lora import LoRAConfig
from rlcs.errors import ConfigError, DataError
from rlcs.merge import merge
from rlcs.models import check_model_folder, context_length, load_tokenizer
from rlcs.preflight import check_adapter
from tests.conftest import RunCLI


def make_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter of random weights, made by peft itself."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft = get_peft_model(
        model, LoraConfig(**{"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings})
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    peft.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tiny_policy: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_policy, tmp_path / "run" / "policy-sft")


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.arange(5, 40)[None]).logits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 3}},
    ],
)
def test_a_merged_folder_is_the_model_with_its_adapter(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", **settings)
    assert merge(adapter, tmp_path / "merged") == adapter
    with_adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    with torch.no_grad():
        expected = with_adapter(torch.arange(5, 40)[None]).logits
    found = logits(tmp_path / "merged")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - logits(base)).abs().max() > 0.01
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(AutoTokenizer.from_pretrained(base))
    assert not list(tmp_path.glob(".merged*"))


def test_scaling_is_pefts() -> None:
    config = {"r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 3}}
    assert scaling(config, "model.layers.0.self_attn.k_proj") == 2
    assert scaling(config, "model.layers.0.self_attn.q_proj") == 4
    assert scaling(config, "model.layers.1.mlp.up_proj") == 0.75
    assert scaling({**config, "use_rslora": True}, "model.layers.0.self_attn.k_proj") == 4


def test_the_base_is_found_again_where_a_run_was_moved(base: Path, tmp_path: Path) -> None:
    policy = make_adapter(base, tmp_path / "run" / "checkpoints" / "step-000001" / "policy")
    assert base_model(str(policy)) == str(base)
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "checkpoints" / "step-000001" / "policy"
    assert base_model(str(moved)) == str(tmp_path / "moved" / "policy-sft")
    assert context_length(str(moved)) == 256
    assert load_tokenizer(str(moved)).encode("one two")
    check_model_folder(ModelConfig(path=str(moved)))


def test_what_cannot_be_merged_is_said_in_one_line(run_cli: RunCLI, base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    for arguments, message in (
        ((tmp_path / "nothing", "-o", tmp_path / "out"), "there is no such folder"),
        ((base, "-o", tmp_path / "out"), "is a whole model already"),
        ((tmp_path, "-o", tmp_path / "out"), "is no adapter folder"),
        ((adapter, "-o", base), "exists already"),
    ):
        result = run_cli("merge", *arguments)
        assert result.code == 2 and result.stderr.count("\n") == 1 and message in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_model_is_not_merged(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")})
    )
    with pytest.raises(DataError, match="cannot be read"):
        merge(adapter, tmp_path / "out")


@pytest.mark.parametrize(
    ("lora", "message"),
    [(None, None), ({"lora_dropout": 0.1}, None), ({"r": 4}, None), ({"r": 8}, "has r 4, but model.lora.r is 8")],
)
def test_settings_that_contradict_a_starting_adapter_are_refused(
    base: Path, tmp_path: Path, lora: dict[str, Any] | None, message: str | None
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    assert is_adapter_folder(adapter) and not is_adapter_folder(base)
    config = ModelConfig(path=str(adapter), lora=None if lora is None else LoRAConfig(**lora))
    if message is None:
        check_model_folder(config)
    else:
        with pytest.raises(DataError, match=message):
            check_model_folder(config)
    (adapter / "adapter_model.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(DataError, match="missing or damaged"):
        check_model_folder(ModelConfig(path=str(adapter)))


@pytest.mark.parametrize(
    ("model", "sft", "message"),
    [
        ({"lora": {}}, {"use_peft": True}, None),
        ({}, {"use_peft": True}, "model.lora, which is not set"),
        ({"path": "ADAPTER"}, {"use_peft": False}, "is an adapter"),
        ({"path": "ADAPTER"}, {}, None),
        ({"path": "ADAPTER"}, {"use_peft": True}, None),
    ],
)
def test_a_cold_start_trains_what_it_can(
    base: Path, tmp_path: Path, model: dict[str, Any], sft: dict[str, Any], message: str | None
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    path = str(adapter) if model.get("path") else str(base)
    config = Config.model_validate(
        {"model": {**model, "path": path}, "data": {"train": "x.jsonl"}, "sft": {"enabled": True, **sft}}
    )
    if message is None:
        check_adapter(config)
    else:
        with pytest.raises(ConfigError, match=message):
            check_adapter(config)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"load_in_4bit": True}, "needs model.lora"),
        ({"load_in_4bit": True, "lora": {"use_dora": True}}, "plain adapters"),
        ({"load_in_4bit": True, "lora": {"engine_mode": "merged"}}, "plain adapters"),
        ({"lora": {"use_dora": True, "engine_mode": "adapter"}}, "no kernel"),
        ({"lora": {"modules_to_save": ["lm_head"], "engine_mode": "adapter"}}, "no kernel"),
        ({"lora": {"target_modules": []}}, "target_modules is empty"),
        ({"lora": {"r": 0}}, "greater than or equal to 1"),
        ({"lora": {"lora_dropout": 1}}, "less than 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({"path": "x", **model})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs engines on GPUs"),
        ({"rollout": {"gpus_per_engine": 1}, "learner": {"num_ranks": 2}}, "cannot be sharded"),
        ({"rollout": {"gpus_per_engine": 1}, "sft": {"enabled": True, "use_peft": False}}, "trains all weights"),
    ],
)
def test_a_base_of_4_bits_is_refused_where_it_cannot_be(settings: dict[str, Any], message: str) -> None:
    model = {"path": "x", "lora": {}, "load_in_4bit": True}
    with pytest.raises(ValueError, match=message):
        Config.model_validate({"model": model, "data": {"train": "x.jsonl"}, **settings})


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_base_of_4_bits_without_bitsandbytes_is_refused_in_one_line(
    run_cli: RunCLI, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(
        f"output_dir: {tmp_path}/runs\nmodel: {{path: {base}, lora: {{r: 4}}, load_in_4bit: true}}\n"
        "data: {train: examples/sums.jsonl, columns: {prompt: question, answer: result, domain: topic}}\n"
        "rollout: {gpus_per_engine: 1, max_prompt_length: 64, max_completion_length: 64}\ncluster: {num_gpus: 2}\n"
    )
    result = run_cli("train", tmp_path / "run.yaml")
    assert result.code == 2 and result.stderr.count("\n") == 1 and "pip install bitsandbytes" in result.stderr
    assert not (tmp_path / "runs").exists()
