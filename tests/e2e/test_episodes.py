"""Tasks of several turns from beginning to end; Ray, vLLM and the learner are real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlcs.runlog import read_metrics

ENVIRONMENT = '''
import itertools
from rlcs.envs.base import EpisodeEnvironment, Turn
from rlcs.types import Prompt, Score, prompt_id

class Chatter(EpisodeEnvironment):
    """Ends by itself where a response has few bytes, fails where it has many odd ones, else tells the number of the turn."""
    max_turns = 3
    def levels(self, task): return [{}, {}]
    def generate(self, task, params, *, domain, tier, seed):
        for number in itertools.count():
            messages = [{"role": "user", "content": f"Say something, {seed}-{number}."}]
            yield Prompt(prompt_id(messages, ""), messages, "", domain, tier)
    def reset(self, prompt): return {"turns": 0, "bytes": 0}
    def step(self, prompt, state, response):
        size = len(response.encode())
        if size % 5 == 0: raise RuntimeError("the tool is broken")
        state = {"turns": state["turns"] + 1, "bytes": state["bytes"] + size}
        if size % 4 == 0: return Turn(state, score=Score(1.0, correct=True))
        return Turn(state, [{"type": "text", "text": f"Turn {state['turns']} is over."}])
    def give_up(self, prompt, state): return Score(state["bytes"] % 2 / 2, correct=False, detail="given up")
'''


def test_episodes_are_played_learned_from_and_written_down(
    tmp_path: Path, run_cli: Callable[..., Any], tiny_policy: Path
) -> None:
    path = tmp_path / "chatter.py"
    path.write_text(ENVIRONMENT)
    config = {
        "name": "run",
        "output_dir": str(tmp_path),
        "model": {"path": str(tiny_policy)},
        "data": {"env": f"{path}:Chatter", "tasks": [{"task": "chat"}], "train_per_level": 12, "eval_per_level": 1},
        "rollout": {
            "num_generations": 4,
            "max_prompt_length": 64,
            "max_completion_length": 120,
            "episodes": {"max_turn_length": 24},
        },
        "train": {"batch_size": 4, "steps": 2},
        "eval": {"num_samples": 1},
        "logging": {"tensorboard": False, "report": False},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    result = run_cli("train", tmp_path / "run.yaml", timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    metrics = read_metrics(tmp_path / "run")
    assert len(metrics) == 2
    for line in metrics:
        assert line["learner/logprob_gap_mean"] <= 1e-3
        assert 1 < line["rollout/turns"] <= 3
        assert 0 < line["rollout/step_errors"] < 1
        assert 0 < line["rollout/observed_tokens"] < 1
    assert metrics[0]["reward/std"] > 0 and metrics[0]["learner/grad_norm"] > 0
    rows = pq.read_table(tmp_path / "run" / "rollouts" / "step-000001.parquet").to_pylist()
    assert any("Error: the environment failed: RuntimeError: the tool is broken" in row["response"] for row in rows)
    assert any("<|user|>Turn 1 is over.<|assistant|>" in row["response"] for row in rows)
    assert {row["reward"] for row in rows} <= {0.0, 0.5, 1.0}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_policy_that_sees_plays_the_desktop(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    settings = [
        "data.env=gui_episode",
        "data.tasks=[{task: desktop, levels: [{goals: [switch], start: Settings, size: 56}, {goals: [file], size: 84}]}]",
        "data.train_per_level=6",
        "data.eval_per_level=1",
        "model.tiny={hidden_size: 64, num_layers: 2, num_heads: 2, intermediate_size: 96}",
        "sft.steps=10",
        "sft.batch_size=4",
        "sft.num_solutions=60",
        "sft.level_weights=[]",
        "sft.max_length=400",
        "rollout.num_engines=1",
        "rollout.num_generations=4",
        "rollout.max_completion_length=240",
        "rollout.episodes={max_turn_length: 40, max_turns: 4}",
        "eval.num_samples=1",
        "train.batch_size=4",
        "train.steps=2",
        "curriculum.max_expansion=1",
    ]
    result = run_cli(
        "train", "configs/quickstart_vision.yaml", f"output_dir={tmp_path}", "name=v", *settings, timeout_s=800
    )
    assert result.code == 0, result.stdout + result.stderr
    metrics = read_metrics(tmp_path / "v")
    assert len(metrics) == 2
    for line in metrics:
        assert line["learner/logprob_gap_mean"] <= 1e-3
        assert line["rollout/turns"] > 2, "three screens and more"
        assert line["rollout/step_errors"] == 0
