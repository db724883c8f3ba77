"""A share of the prompts ends with /nothink, and the cold start teaches what that means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcs.cold_start import load_data, load_examples
from rlcs.config import Config
from rlcs.data import check_no_overlap, load_splits
from rlcs.nothink import TAG, is_tagged, nothink_metrics, tag_share, untagged, without_thinking
from rlcs.types import FinishReason, Group, Prompt, Response, prompt_id


def prompt(content: Any, answer: str = "4") -> Prompt:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    return Prompt(prompt_id(messages, answer), messages, answer, metadata={"verifier": "math"})


def configured(share: float, **sections: Any) -> Config:
    data = {
        "env": "reasoning_gym",
        "tasks": [{"task": "gcd"}],
        "train_per_level": 40,
        "eval_per_level": 6,
        "nothink": share,
    }
    return Config.model_validate(
        {"model": {"init": "tiny"}, "data": data, "sft": {"enabled": True, "num_solutions": 300}, **sections}
    )


def test_about_the_share_is_tagged_and_the_same_prompts_every_time() -> None:
    prompts = [prompt(f"{n} + {n}?") for n in range(2000)]
    tagged = tag_share(prompts, 0.3, seed=1)
    assert 0.26 < np.mean([is_tagged(p) for p in tagged]) < 0.34
    assert [p.id for p in tag_share(prompts, 0.3, seed=1)] == [p.id for p in tagged]
    assert [p.id for p in tag_share(prompts, 0.3, seed=2)] != [p.id for p in tagged]
    assert tag_share(prompts, 0.0, seed=1) == prompts
    assert [untagged(p) for p in tagged] == prompts


@pytest.mark.parametrize(
    "content", ["2 + 2?", [{"type": "image"}, {"type": "text", "text": "2 + 2?"}], [{"type": "image"}]]
)
def test_the_tag_ends_the_last_message_and_makes_another_prompt(content: Any) -> None:
    before = prompt(content)
    after = tag_share([before], 1.0, seed=0)[0]
    last = after.messages[-1]["content"]
    assert (last if isinstance(last, str) else last[-1]["text"]).endswith(TAG)
    assert after.messages[0] == before.messages[0] and after.id != before.id == prompt(content).id
    assert after.metadata["verifier"] == "math"


def test_the_cold_start_teaches_empty_thinking_and_knows_held_out_prompts_with_and_without_tag() -> None:
    config = configured(0.4)
    env, data = load_data(config)
    check_no_overlap(data.train, data.eval)
    examples = load_examples(config, env, data)
    kinds = {True: 0, False: 0}
    for example in examples:
        kinds[is_tagged(example.prompt)] += 1
        assert is_tagged(example.prompt) == example.response.startswith("<think></think>")
    assert 0.3 < kinds[True] / len(examples) < 0.5
    questions = {untagged(example.prompt).id for example in examples}
    assert questions.isdisjoint(untagged(p).id for p in data.eval)
    assert any(is_tagged(p) for p in data.eval) and not all(is_tagged(p) for p in data.eval)


def test_a_dataset_is_tagged_as_well(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} + 1?", "answer": n + 1}) + "\n" for n in range(200)))
    config = Config.model_validate({"model": {"init": "tiny"}, "data": {"train": str(path), "nothink": 0.5}})
    splits = load_splits(config.data, seed=0)
    assert 0.4 < np.mean([is_tagged(p) for p in splits.train]) < 0.6


def test_only_the_thinking_of_a_worked_response_goes() -> None:
    assert without_thinking("<think>a\nb</think><answer>4</answer>") == "<think></think><answer>4</answer>"
    assert without_thinking("plain") == "plain"


def test_the_share_and_how_often_it_is_obeyed_are_counted() -> None:
    def group(asked: Prompt, *texts: str) -> Group:
        ids, logprobs, mask = np.asarray([1], np.int32), np.zeros(1, np.float32), np.ones(1, bool)
        return Group(asked, ids, [Response(ids, logprobs, mask, text, FinishReason.STOP, 0) for text in texts])

    asked = prompt("2 + 2?")
    tagged = tag_share([asked], 1.0, seed=0)[0]
    groups = [
        group(asked, "<think>x</think>4"),
        group(tagged, "<think> </think>4", "<think>x</think>4", "</think>4", "4"),
    ]
    found = nothink_metrics(groups)
    assert found == {"rollout/nothink": 0.5, "rollout/nothink_obeyed": 0.5}
    assert nothink_metrics(groups[:1]) == {}
