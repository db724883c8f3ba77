"""Adaptive rollouts and PPO's critic in a true run, and a run that goes on; Ray and vLLM are real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlcs.runlog import read_metrics


def drawn(run: Path, step: int) -> list[str]:
    return pq.read_table(run / "curriculum" / f"step-{step:06d}.parquet").column("prompt_id").to_pylist()  # type: ignore[no-any-return]


def test_a_run_spends_its_budget_on_uneven_groups_and_resumes(
    tmp_path: Path, run_cli: Callable[..., Any], odd_reward: str
) -> None:
    settings = [
        f"reward.functions=[{odd_reward}]",
        "sft.enabled=false",
        "data.train_per_level=10",
        "data.eval_per_level=1",
        "curriculum.kind=posterior",
        "rollout.num_engines=1",
        "rollout.max_completion_length=12",
        "rollout.num_generations=4",
        "rollout.first_generations=2",
        "train.batch_size=8",
        "train.steps=4",
        "train.save_every=2",
        "rollout.max_staleness=1",
        "learner.num_minibatches=2",
        "learner.advantage_estimator=gae",
        "learner.critic_learning_rate=1e-3",
        "eval.num_samples=1",
    ]
    result = run_cli("train", "configs/quickstart.yaml", f"output_dir={tmp_path}", "name=run", *settings, timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    run = tmp_path / "run"
    sizes = []
    for line in read_metrics(run):
        step = int(line["step"])
        table = pq.read_table(run / "curriculum" / f"step-{step:06d}.parquet").to_pydict()
        rows = pq.read_table(run / "rollouts" / f"step-{step:06d}.parquet").to_pylist()
        assert len(table["prompt_id"]) == 4, "half of the batch size"
        assert sum(table["num_responses"]) == len(rows) == line["rollout/responses"] == 32
        assert line["rollout/largest_group"] == max(table["num_responses"])
        assert line["learner/sequences"] == 32 and line["learner/optimizer_steps"] == 2
        # Rounds 2 and 4 were made beside the updates on 1 and 3; none beside the one on 2, after which is a checkpoint.
        stale = step in (2, 4)
        assert (line["learner/logprob_gap_mean"] <= 1e-4) == (not stale)
        assert line["rollout/staleness_mean"] == line["rollout/staleness_max"] == stale
        assert line["learner/explained_variance"] <= 1 and line["learner/critic_grad_norm"] > 0
        assert (line["learner/value_mean"] == 0) == (step == 1)
        assert {row["policy_version"] for row in rows} == {step - 1 - stale}
        for prompt, count, rate in zip(table["prompt_id"], table["num_responses"], table["pass_rate"], strict=True):
            own = [row for row in rows if row["prompt_id"] == prompt]
            assert [row["sample"] for row in own] == list(range(count))
            assert rate == pytest.approx(sum(row["reward"] for row in own) / count)
        sizes += table["num_responses"]
    assert min(sizes) >= 2 and max(sizes) <= 12 and len(set(sizes)) > 1

    assert (run / "checkpoints" / "step-000002" / "learner" / "critic" / "weights.safetensors").is_file()

    third = drawn(run, 3)
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-000004")
    result = run_cli("train", "--resume", run, timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4]
    assert drawn(run, 3) == third
    assert read_metrics(run)[2]["rollout/responses"] == 32
    assert read_metrics(run)[2]["learner/value_mean"] != 0, "the critic went on as well"
