"""The worked solutions of the cold start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlcs.cold_start import load_examples
from rlcs.config import Config, DataConfig, ModelConfig, SFTSection
from rlcs.data import DataSplits
from rlcs.errors import DataError
from rlcs.types import Prompt, prompt_id


def config(file: Path) -> Config:
    return Config(model=ModelConfig(init="tiny"), data=DataConfig(train=str(file)), sft=SFTSection(enabled=True))


def held_out(question: str, answer: str) -> DataSplits:
    messages = [{"role": "user", "content": question}]
    return DataSplits(train=[], eval=[Prompt(prompt_id(messages, answer), messages, answer)])


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_held_out_question_is_not_taught_even_with_another_answer(tmp_path: Path) -> None:
    rows = [
        {"prompt": "2+2?", "answer": "4.0", "solution": "leaked"},
        {"prompt": "3+3?", "answer": "6", "solution": "taught"},
    ]
    examples = load_examples(config(write(tmp_path / "a.jsonl", rows)), None, held_out("2+2?", "4"))
    assert [example.response for example in examples] == ["taught"]


def test_solutions_of_held_out_questions_only_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"prompt": "2+2?", "answer": "4", "solution": "leaked"}])
    with pytest.raises(DataError, match="every solution is of a held-out prompt"):
        load_examples(config(file), None, held_out("2+2?", "4"))
