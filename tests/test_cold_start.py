"""The worked solutions of the cold start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlcs.adapters import base_model, is_adapter_folder
from rlcs.cold_start import load_examples, teach_format
from rlcs.config import Config, DataConfig, LearnerConfig, ModelConfig, SFTSection
from rlcs.config_lora import LoRAConfig
from rlcs.data import DataSplits
from rlcs.errors import DataError
from rlcs.learner.learner import Learner
from rlcs.sft import SFTExample
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


@pytest.mark.parametrize("use_peft", [None, False])
def test_a_cold_start_trains_the_adapter_or_all_weights(
    tiny_policy: Path, tmp_path: Path, use_peft: bool | None
) -> None:
    asked = [Prompt(str(n), [{"role": "user", "content": f"What is {n} + 1?"}], str(n + 1)) for n in range(40)]
    rows = [SFTExample(prompt, f"The answer is {prompt.answer}.") for prompt in asked]
    settings = Config(
        model=ModelConfig(path=str(tiny_policy), lora=LoRAConfig(r=4)),
        data=DataConfig(train="x.jsonl"),
        sft=SFTSection(enabled=True, use_peft=use_peft, steps=12, warmup_steps=2, batch_size=2, max_length=64),
    )
    losses: list[float] = []
    folder = tmp_path / "policy-sft"
    policy = teach_format(str(tiny_policy), rows, settings, folder, lambda step, steps, loss: losses.append(loss))
    assert policy == str(folder) and len(losses) > 0
    assert is_adapter_folder(folder) is (use_peft is None)
    assert base_model(policy) == (policy if use_peft is False else str(tiny_policy))
    assert not list(folder.glob("*.bin")) and (folder / "tokenizer.json").is_file()
    if use_peft is None:
        # Reinforcement learning goes on with this adapter.
        learner = Learner(policy, LearnerConfig(threads=1), model=settings.model)
        trained = [p for name, p in learner.model.named_parameters() if "lora_B" in name]
        assert all(p.requires_grad for p in trained) and max(float(p.detach().abs().max()) for p in trained) > 0
