"""A run whose reward collapses goes back to the checkpoint from before it, with a lower learning rate; Ray and vLLM are real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlcs.checkpoint import latest_checkpoint, load_progress
from rlcs.runlog import read_faults, read_metrics

# Iteration 3 scores nothing, until that has been noticed.
REWARD = """
from pathlib import Path
RUN = Path({run!r})
def reward(completions, **columns):
    metrics = RUN / "metrics.jsonl"
    done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    broken = done == 2 and not (RUN / "faults.jsonl").exists()
    return [0.0 if broken else float(len(completion[0]["content"].encode()) % 2) for completion in completions]
"""


def test_a_collapse_is_rolled_back_with_a_lower_learning_rate(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    (tmp_path / "mine.py").write_text(REWARD.format(run=str(run)))
    settings = [
        f"reward.functions=[{tmp_path / 'mine.py'}:reward]",
        "sft.enabled=false",
        "data.train_per_level=10",
        "data.eval_per_level=1",
        "eval.num_samples=1",
        "curriculum.kind=uniform",
        "rollout.num_engines=1",
        "rollout.max_completion_length=12",
        "rollout.num_generations=8",
        "learner.warmup_steps=0",
        "train.batch_size=8",
        "train.steps=4",
        "train.save_every=1",
        "health.window=1",
        "health.reward_collapse=roll_back",
        "health.reward_share=0.1",
        "health.learning_rate_factor=0.25",
    ]
    result = run_cli("train", "configs/quickstart.yaml", f"output_dir={tmp_path}", "name=run", *settings, timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    assert "rolled back to iteration 2; the learning rates are 0.25 of those configured" in result.stdout
    metrics = read_metrics(run)
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]
    assert all(line["reward/mean"] > 0.1 for line in metrics)
    rates = [line["learner/learning_rate"] for line in metrics]
    assert rates[2:] == pytest.approx([0.25 * rates[0]] * 2)
    (fault,) = read_faults(run)
    assert (fault["kind"], fault["who"], fault["step"]) == ("health_findings", "health.reward_collapse", 3)
    progress = load_progress(latest_checkpoint(run))
    assert (progress.step, progress.learning_rate_factor, progress.roll_backs) == (4, 0.25, 1)
