"""Pictures and videos through vLLM and the learner: a run of a tiny GLM-4.1V from nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlcs.runlog import read_evaluations, read_metrics

CONFIG = Path("configs/quickstart_vision.yaml")
SETTINGS = [
    "data.tasks=[{task: counting}, {task: video, params: {size: 56}}]",
    "model.tiny={hidden_size: 64, num_layers: 2, num_heads: 2, intermediate_size: 96, vision_hidden_size: 64, vision_layers: 2}",
    "data.train_per_level=12",
    "data.eval_per_level=1",
    "sft.steps=12",
    "sft.batch_size=8",
    "sft.num_solutions=200",
    "rollout.num_engines=1",
    "rollout.num_generations=4",
    "rollout.max_completion_length=24",
    "eval.num_samples=1",
    "train.batch_size=6",
    "train.steps=3",
    "curriculum.max_expansion=1",
    "rollout.max_prompt_length=256",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "rlcs.cli",
            "train",
            str(CONFIG.absolute()),
            f"output_dir={folder}",
            "name=v",
            *SETTINGS,
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "v"


def test_the_engines_and_the_learner_see_the_same_after_every_sync(finished: Path) -> None:
    metrics = read_metrics(finished)
    assert [line["step"] for line in metrics] == [1, 2, 3]
    for line in metrics:
        assert line["learner/logprob_gap_mean"] <= 1e-3
    assert {row.domain for row in read_evaluations(finished)} == {"counting", "video"}
