"""Checks before a run starts: its folder, the model, the data files, the cluster, the length of prompts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rlcs.config import Config, TinyConfig
from rlcs.errors import ConfigError, DataError, RLCSError
from rlcs.models import build_tiny_policy, load_tokenizer
from rlcs.preflight import check_before_start, check_prompt_lengths
from rlcs.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy with a context of 64 tokens."""
    folder = tmp_path_factory.mktemp("policy")
    shape = TinyConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_position_embeddings=64)
    build_tiny_policy(folder, shape, ["what is 1 + 1?"], seed=0)
    return folder


@pytest.fixture(scope="module")
def tokenizer(policy: Path) -> PreTrainedTokenizerBase:
    """Its tokenizer."""
    return load_tokenizer(str(policy))


def make(tmp_path: Path, **sections: Any) -> Config:
    """A configuration that could start on one CPU, with some of its sections given."""
    tree = {
        "output_dir": tmp_path / "runs",
        "model": {"init": "tiny"},
        "data": {"env": "reasoning_gym", "tasks": [{"task": "chain_sum"}]},
        **sections,
    }
    return Config(**tree)


def check(config: Config, num_cpus: float = 1, num_gpus: float = 0) -> None:
    check_before_start(config, num_cpus=num_cpus, num_gpus=num_gpus)


def refusal(config: Config, kind: type[RLCSError] = ConfigError, *, num_cpus: float = 1, num_gpus: float = 0) -> str:
    with pytest.raises(kind) as caught:
        check(config, num_cpus, num_gpus)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_run_that_could_start_passes_and_writes_nothing(tmp_path: Path) -> None:
    check(make(tmp_path))
    assert not list(tmp_path.iterdir())


# The run's folder


def test_run_folder_that_exists_says_what_to_do(tmp_path: Path) -> None:
    config = make(tmp_path, name="mine")
    config.run_dir.mkdir(parents=True)
    check(config)  # an empty folder is nobody's run
    (config.run_dir / "config.yaml").touch()
    message = refusal(config)
    assert f"the run folder {config.run_dir} exists already" in message
    assert "name=..." in message and f"`rlcs train --resume {config.run_dir}`" in message


def test_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refusal(make(tmp_path, output_dir=tmp_path, name="file"))
    assert "cannot be made" in refusal(make(tmp_path, output_dir=tmp_path / "file" / "sub"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_run_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "no right to write" in refusal(make(tmp_path))


# The model


def test_whole_model_folder_passes(tmp_path: Path, policy: Path) -> None:
    rollout = {"max_prompt_length": 32, "max_completion_length": 32}
    check(make(tmp_path, model={"path": str(policy)}, rollout=rollout))


def test_missing_model_folder(tmp_path: Path) -> None:
    message = refusal(make(tmp_path, model={"path": str(tmp_path / "gone")}), DataError)
    assert message == f"model.path: there is no folder {tmp_path / 'gone'}"


def test_critic_path_that_is_no_model_folder(tmp_path: Path, policy: Path) -> None:
    def with_critic(path: Path) -> Config:
        return make(tmp_path, learner={"advantage_estimator": "gae", "critic_path": str(path)})

    check(with_critic(policy))
    assert "learner.critic_path: there is no folder" in refusal(with_critic(tmp_path / "nowhere"), DataError)
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(with_critic(tmp_path / "empty"), DataError)


def test_prompt_and_response_longer_than_the_models_context(tmp_path: Path, policy: Path) -> None:
    rollout = {"max_prompt_length": 40, "max_completion_length": 32}
    message = refusal(make(tmp_path, model={"path": str(policy)}, rollout=rollout))
    assert "rollout.max_prompt_length + rollout.max_completion_length (72) is more than the context" in message
    assert "(64)" in message


def test_context_of_a_vision_language_model_is_that_of_its_text(tmp_path: Path, policy: Path) -> None:
    folder = tmp_path / "vlm"
    folder.mkdir()
    for file in policy.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 10}}))
    assert "(10)" in refusal(make(tmp_path, model={"path": str(folder)}))


# Data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"train": "gone.jsonl"}, "data.train: there is no file gone.jsonl"),
        ({"train": "some/hub-name", "eval": "./gone.parquet"}, "data.eval: there is no file ./gone.parquet"),
    ],
)
def test_missing_data_file(tmp_path: Path, data: dict[str, str], expected: str) -> None:
    assert refusal(make(tmp_path, data=data), DataError) == expected


def test_missing_solutions_matter_only_to_a_cold_start(tmp_path: Path) -> None:
    check(make(tmp_path, sft={"solutions": "gone.csv"}))
    message = refusal(make(tmp_path, sft={"solutions": "gone.csv", "enabled": True}), DataError)
    assert message == "sft.solutions: there is no file gone.csv"


# The cluster


@pytest.mark.parametrize(
    ("sections", "cluster", "expected"),
    [
        (
            {"rollout": {"num_engines": 3}},
            {"num_cpus": 2},
            "need 3 CPUs (3 engines x 1, learner 0, 1 scoring actors x 0)",
        ),
        ({"learner": {"cpus": 0.5}}, {"num_cpus": 1}, "need 1.5 CPUs"),
        ({"reward": {"num_actors": 4, "cpus_per_actor": 1}}, {"num_cpus": 4}, "need 5 CPUs"),
        ({"rollout": {"gpus_per_engine": 1}}, {"num_cpus": 8, "num_gpus": 0}, "need 1 GPUs (1 engines x 1, learner 0)"),
        (
            {"rollout": {"num_engines": 4, "gpus_per_engine": 2, "tensor_parallel_size": 2}, "learner": {"gpus": 1}},
            {"num_cpus": 64, "num_gpus": 8},
            "need 9 GPUs",
        ),
    ],
)
def test_more_actors_than_the_cluster_has(
    tmp_path: Path, sections: dict[str, Any], cluster: dict[str, float], expected: str
) -> None:
    message = refusal(make(tmp_path, **sections), ConfigError, **cluster)
    assert expected in message and "but the cluster has" in message and "lower rollout.num_engines" in message


def test_actors_that_just_fit_pass(tmp_path: Path) -> None:
    shares = {"num_engines": 3, "cpus_per_engine": 0.1, "gpus_per_engine": 0.1}
    check(make(tmp_path, rollout=shares, learner={"gpus": 0.7}), num_cpus=0.3, num_gpus=1)
    check(make(tmp_path, rollout={"num_engines": 1000}), num_cpus=float("inf"), num_gpus=float("inf"))


# Prompt lengths


def prompts_of(texts: Sequence[str]) -> list[Prompt]:
    return [Prompt(f"id{n}", [{"role": "user", "content": text}], "1") for n, text in enumerate(texts)]


def too_long(tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], **limits: Any) -> str:
    options = {"max_prompt_length": 20, "context_length": 64, "max_completion_length": 8, **limits}
    with pytest.raises(DataError) as caught:
        check_prompt_lengths(prompts, tokenizer, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_length_is_that_of_the_chat_template_with_the_generation_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = prompts_of(["1" * 18])
    ids = tokenizer.apply_chat_template(prompts[0].messages, add_generation_prompt=True, return_dict=False)
    assert len(ids) == 20, "18 digits, the user's and the assistant's mark"
    check_prompt_lengths(prompts, tokenizer, 20, 28, 8)
    check_prompt_lengths(prompts, tokenizer, 20, None, 10**6)
    assert "has 20 tokens, more than rollout.max_prompt_length (19)" in too_long(
        tokenizer, prompts, max_prompt_length=19
    )


def test_prompt_that_is_too_long_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    message = too_long(tokenizer, prompts_of(["1", "1" * 100, "1" * 30]))
    assert message.startswith(f"prompt id1 ('{'1' * 60}...') has 102 tokens, more than rollout.max_prompt_length (20)")
    assert "2 prompts are too long" in message


def test_prompt_and_response_that_exceed_the_context_are_named(tokenizer: PreTrainedTokenizerBase) -> None:
    message = too_long(tokenizer, prompts_of(["1" * 18]), context_length=25)
    assert "has 20 tokens, and with rollout.max_completion_length (8) 28, more than the model's context (25)" in message


def test_every_one_of_many_prompts_is_looked_at(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = prompts_of(["1"] * 700)
    check_prompt_lengths(prompts, tokenizer, 20, 64, 8)
    prompts[-1] = Prompt("last", [{"role": "user", "content": "1" * 50}], "1")
    assert too_long(tokenizer, prompts).startswith("prompt last (")


def test_prompt_that_the_chat_template_refuses_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    parts = Prompt("parts", [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "1")
    assert too_long(tokenizer, [parts]).startswith("the model's chat template refuses prompt parts ('hello'): ")
