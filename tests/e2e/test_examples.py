"""The README's own data with its own reward and a model of one's own, as a user runs them; Ray and vLLM are real."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlcs.runlog import read_evaluations, read_metrics

ROOT = Path(__file__).resolve().parents[2]

SMALL = [
    "rollout.num_generations=4",
    "rollout.max_prompt_length=160",
    "rollout.max_completion_length=16",
    "train.batch_size=4",
    "train.steps=2",
    "eval.num_samples=2",
]


def test_own_data_and_own_reward_train_an_own_model(
    tiny_policy: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- example: own-data -->\n```yaml\n(.*?)```", readme, re.S)
    line = re.search(r"^rlcs train run\.yaml (.*last_number.*)$", readme, re.M)
    assert block is not None and line is not None
    run_yaml = tmp_path / "run.yaml"
    run_yaml.write_text(block[1])

    arguments = [*shlex.split(line[1]), f"model.path={tiny_policy}", f"output_dir={tmp_path}", *SMALL]
    result = run_cli("train", run_yaml, *arguments, timeout_s=280)

    assert result.code == 0, result.stdout + result.stderr
    run = tmp_path / "last-number"
    assert [entry["step"] for entry in read_metrics(run)] == [1, 2]
    assert {row.domain for row in read_evaluations(run)} == {"sums"}
    rows = pq.read_table(run / "rollouts" / "step-000002.parquet").to_pylist()
    for row in rows:
        numbers = re.findall(r"-?\d+", row["response"])
        assert row["reward"] == float(bool(numbers) and numbers[-1] == row["answer"])
        assert list(json.loads(row["parts"])) == ["last_number"]
    assert (run / "checkpoints" / "step-000002" / "policy" / "config.json").is_file()
