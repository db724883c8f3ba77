"""Policies on disk: the tiny one made from nothing, and the checks of a folder."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlcs.config import ModelConfig, TinyConfig
from rlcs.errors import DataError
from rlcs.models import ROLE_TOKENS, build_tiny_policy, check_model_folder, context_length, load_tokenizer
from rlcs.response_format import FORMAT_TOKENS, render_response

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = ["What is 12 + 34? the the the the", "Spell the word banana backward"] * 100


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default tiny policy."""
    folder = tmp_path_factory.mktemp("tiny") / "policy"
    build_tiny_policy(folder, TinyConfig(), TEXTS, seed=0)
    return folder


@pytest.fixture(scope="module")
def tokenizer(policy: Path) -> PreTrainedTokenizerBase:
    """Its tokenizer, from its file."""
    return load_tokenizer(str(policy))


@pytest.fixture
def copy(policy: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return shutil.copytree(policy, tmp_path / "copy")


def refusal(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        check_model_folder(ModelConfig(path=str(path)))
    message = str(caught.value)
    assert "\n" not in message and message.startswith("model.path: ")
    return message


# The tiny policy


def test_tiny_policy_has_one_to_five_million_parameters_and_loads_in_transformers(policy: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(policy)
    assert 1_000_000 <= model.num_parameters() <= 5_000_000
    assert model.generation_config.eos_token_id == model.config.eos_token_id
    assert context_length(str(policy)) == TinyConfig().max_position_embeddings


def test_tiny_policy_is_a_function_of_the_seed(policy: Path, tmp_path: Path) -> None:
    import torch

    state = torch.random.get_rng_state()
    for seed in (0, 1):
        build_tiny_policy(tmp_path / str(seed), TinyConfig(), TEXTS, seed=seed)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (policy, tmp_path / "0", tmp_path / "1")]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random state is left alone"


def test_format_and_role_tokens_are_one_token_each(tokenizer: PreTrainedTokenizerBase) -> None:
    for token in (*FORMAT_TOKENS, *ROLE_TOKENS):
        assert len(tokenizer.encode(token)) == 1, token
    ids = tokenizer.encode(render_response("1+1=2", "2"))
    assert len(set(ids) & {tokenizer.encode(token)[0] for token in FORMAT_TOKENS}) == 6
    assert tokenizer.decode(ids) == render_response("1+1=2", "2")


def test_digits_are_single_tokens_and_common_words_are_merged(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(tokenizer.encode("1234567")) == 7
    assert len(tokenizer.encode("the")) == 1


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@example("\u0f73")
def test_any_text_is_encoded_and_decoded_unchanged(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    """But for Unicode's normal form C, which Qwen2's tokenizer puts all text into."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_vocabulary_is_bounded_and_the_model_covers_it(policy: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    size = json.loads((policy / "config.json").read_text())["vocab_size"]
    assert len(tokenizer) <= TinyConfig().vocab_size
    assert size >= len(tokenizer) and size % 64 == 0


def test_chat_template_marks_the_roles_and_ends_answers(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "V"},
    ]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|system|>S<|user|>U<|assistant|>A<|endoftext|><|user|>V<|assistant|>"


# Checks of a folder


def test_whole_folder_and_a_tiny_policy_to_be_made_pass(policy: Path) -> None:
    check_model_folder(ModelConfig(path=str(policy)))
    check_model_folder(ModelConfig(init="tiny"))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json, so it is no model folder"),
        (
            lambda f: (f / "config.json").rename(f / "adapter_config.json"),
            "adapter_config.json is not that of a LoRA adapter",
        ),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json holds no JSON object"),
        (lambda f: (f / "model.safetensors").unlink(), "has no *.safetensors weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 50), "model.safetensors is damaged or cut off"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)
def test_incomplete_folder_says_what_it_lacks(copy: Path, damage: Callable[[Path], object], expected: str) -> None:
    damage(copy)
    message = refusal(copy)
    assert expected in message and str(copy) in message


def test_download_that_was_cut_off_is_found(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "model.safetensors is damaged or cut off" in refusal(copy)


def test_missing_shard_is_named(copy: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 of 2 weight files, first model-00002-of-00002.safetensors" in refusal(copy)


@pytest.mark.parametrize("name", ["/no/such/folder", "./gone", "../gone", "a/b/c"])
def test_path_that_is_no_folder_is_not_asked_of_the_hub(name: str) -> None:
    assert refusal(name) == f"model.path: there is no folder {name}"


@pytest.mark.parametrize("name", ["models/gone", "gone", "no such name!"])
def test_name_that_neither_disk_nor_hub_knows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert f"there is no folder {name}, and no hub model can be had: " in refusal(name)


# Loading a tokenizer


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")],
            "its tokenizer has no vocabulary",
        ),
        (lambda f: (f / "tokenizer.json").unlink(), "its tokenizer has no vocabulary"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "no tokenizer could be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "no tokenizer could be loaded"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "no tokenizer could be loaded"),
        (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template; add chat_template.jinja"),
    ],
)
def test_tokenizer_that_cannot_be_used(copy: Path, damage: Callable[[Path], object], expected: str) -> None:
    damage(copy)
    with pytest.raises(DataError) as caught:
        load_tokenizer(str(copy))
    assert expected in str(caught.value) and str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokenizer_without_an_end_token(copy: Path) -> None:
    settings_file = copy / "tokenizer_config.json"
    content = json.loads(settings_file.read_text())
    content["eos_token"] = None
    settings_file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no end-of-sequence token; set eos_token in tokenizer_config.json"):
        load_tokenizer(str(copy))
