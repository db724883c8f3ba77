"""Groups that an update had no room for are learned from in the next, also by a run that goes on; Ray and vLLM are real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlcs.runlog import read_metrics

BATCH, SIZE, STEPS = 8, 4, 4


def table(run: Path, folder: str, step: int) -> list[dict[str, Any]]:
    return pq.read_table(run / folder / f"step-{step:06d}.parquet").to_pylist()  # type: ignore[no-any-return]


def test_leftovers_are_learned_from_and_survive_a_stop(
    tmp_path: Path, run_cli: Callable[..., Any], odd_reward: str
) -> None:
    settings = [
        f"reward.functions=[{odd_reward}]",
        "sft.enabled=false",
        "data.train_per_level=10",
        "data.eval_per_level=1",
        "curriculum.kind=dapo",
        "curriculum.leftover_age=1",
        "rollout.num_engines=1",
        "rollout.max_completion_length=12",
        f"rollout.num_generations={SIZE}",
        f"train.batch_size={BATCH}",
        f"train.steps={STEPS}",
        "train.save_every=1",
        f"train.keep_last={STEPS}",  # it goes on from whichever iteration is before the last leftovers
        "eval.num_samples=1",
    ]
    result = run_cli("train", "configs/quickstart.yaml", f"output_dir={tmp_path}", "name=run", *settings, timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    run = tmp_path / "run"
    metrics = read_metrics(run)
    surplus = 0
    for line in metrics:
        drawn = table(run, "curriculum", int(line["step"]))
        assert line["rollout/leftovers"] <= surplus
        assert (
            sum(row["kept"] for row in drawn) + line["rollout/leftovers"] == line["learner/sequences"] / SIZE == BATCH
        )
        assert line["rollout/groups"] == len(drawn) >= BATCH - surplus
        assert line["rollout/useful_learned"] == 1
        surplus = sum(not row["degenerate"] and not row["kept"] for row in drawn)
    assert sum(line["rollout/leftovers"] for line in metrics) > 0
    with_leftovers = [int(line["step"]) for line in metrics if line["rollout/leftovers"]]

    last = with_leftovers[-1]
    before = [row["prompt_id"] for row in table(run, "curriculum", last)]
    waiting = [row for row in table(run, "curriculum", last - 1) if not row["degenerate"] and not row["kept"]]
    (run / "summary.json").unlink()
    for step in range(last, STEPS + 1):
        shutil.rmtree(run / "checkpoints" / f"step-{step:06d}", ignore_errors=True)
    result = run_cli("train", "--resume", run, timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    again = read_metrics(run)
    assert [line["step"] for line in again] == list(range(1, STEPS + 1))
    first = max(BATCH // 2, BATCH - len(waiting))  # what is redrawn depends on the responses
    assert [row["prompt_id"] for row in table(run, "curriculum", last)][:first] == before[:first]
    assert again[last - 1]["rollout/leftovers"] > 0
    assert {row["policy_version"] for row in table(run, "rollouts", last)} == {last - 1}
