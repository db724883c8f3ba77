"""What a user's mistakes get: one clear line, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD_ROWS = [{"prompt": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(40)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run on a dataset of its own with a small policy from nothing."""
    write_rows(tmp_path / "train.jsonl", GOOD_ROWS)
    path = tmp_path / "run.yaml"
    path.write_text(
        f"name: run\noutput_dir: {tmp_path / 'runs'}\nmodel: {{init: tiny}}\ndata: {{train: {tmp_path / 'train.jsonl'}}}\n"
    )
    return path


def write_rows(path: Path, rows: list[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def refused(result: object, *words: str, code: int = 2) -> None:
    """Exit code 2, exactly one line that is an error, holding all the words, and no traceback."""
    text = result.stderr  # type: ignore[attr-defined]
    assert result.code == code, text  # type: ignore[attr-defined]
    errors = [line for line in text.splitlines() if line.startswith("rlcs: error:")]
    assert len(errors) == 1, text
    assert "Traceback" not in text
    for word in words:
        assert word in errors[0], errors[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learner.learning_rte=1", ["learning_rte", "learning_rate"]),
        ("rollout.num_generations=1", ["num_generations"]),
        ("train.steps=many", ["train.steps"]),
        ("learner.num_minibatches=5", ["divisible"]),
        ("rollout.num_engines=999", ["999"]),
        ("model.path=/no/such/folder", ["exactly one"]),
    ],
)
def test_impossible_settings_are_told_before_anything_starts(
    run_cli: Callable[..., object], config: Path, override: str, words: list[str]
) -> None:
    refused(run_cli("train", config, override), *words)
    assert not (config.parent / "runs").exists()


def test_a_misspelt_key_names_file_and_line(run_cli: Callable[..., object], config: Path) -> None:
    config.write_text(config.read_text() + "train:\n  stepz: 3\n")
    refused(run_cli("train", config), "run.yaml", "line 6", "steps")


def test_print_config_shows_what_a_run_would_use(run_cli: Callable[..., object], config: Path) -> None:
    result = run_cli("train", config, "curriculum.kind=uniform", "train.steps=50", "--print-config")
    assert result.code == 0  # type: ignore[attr-defined]
    assert "kind: uniform" in result.stdout and "steps: 50" in result.stdout  # type: ignore[attr-defined]
    assert not (config.parent / "runs").exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ["train.jsonl"]),
        ([{"question": "?", "answer": "1"}], ["prompt", "question"]),
        ([*GOOD_ROWS, {"prompt": "What?", "answer": ["4"]}], ["train.jsonl", "41", "answer"]),
        ([*GOOD_ROWS, {"prompt": "word " * 3000, "answer": "1"}], ["max_prompt_length"]),
    ],
    ids=["empty", "missing column", "answer of a wrong type", "prompt too long"],
)
def test_a_bad_dataset_is_refused_and_nothing_is_written(
    run_cli: Callable[..., object], config: Path, rows: list[object], words: list[str]
) -> None:
    write_rows(config.parent / "train.jsonl", rows)
    refused(run_cli("train", config), *words)
    assert not (config.parent / "runs" / "run").exists()


REWARDS = {
    "raises": ("def f(prompts, completions, **columns):\n    raise KeyError('gold')\n", ["gold", "sample"]),
    "too few scores": ("def f(prompts, completions, **columns):\n    return [1.0]\n", ["1 scores", "2 completions"]),
    "no number": ("def f(prompts, completions, **columns):\n    return ['good'] * len(prompts)\n", ["no number"]),
    "missing": ("def g():\n    pass\n", ["f"]),
}


@pytest.mark.parametrize("case", REWARDS)
def test_a_bad_reward_is_named_before_the_run_starts(run_cli: Callable[..., object], config: Path, case: str) -> None:
    code, words = REWARDS[case]
    (config.parent / "reward.py").write_text(code)
    refused(run_cli("train", config, f"reward.functions=[{config.parent / 'reward.py'}:f]"), *words)
    assert not (config.parent / "runs" / "run").exists()


def test_a_model_folder_without_a_tokenizer_is_refused(
    run_cli: Callable[..., object], config: Path, tiny_policy: Path
) -> None:
    folder = config.parent / "model"
    shutil.copytree(tiny_policy, folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    refused(run_cli("train", config, "model.init=null", f"model.path={folder}"), "tokenizer")
    assert not (config.parent / "runs").exists()


def test_a_folder_that_is_no_run_cannot_be_resumed_or_evaluated(run_cli: Callable[..., object], tmp_path: Path) -> None:
    refused(run_cli("train", "--resume", tmp_path), "no run's folder")
    refused(run_cli("eval", tmp_path), "no run's folder")


def test_debug_shows_the_traceback(run_cli: Callable[..., object], config: Path) -> None:
    result = run_cli("train", config, "train.steps=many", "--debug")
    assert "Traceback" in result.stderr  # type: ignore[attr-defined]


def test_settings_are_explained(run_cli: Callable[..., object]) -> None:
    result = run_cli("config", "explain", "rollout.num_generations")
    assert result.code == 0 and "responses a prompt" in result.stdout  # type: ignore[attr-defined]
