"""A run's folder: what is written is read back, and a crash tears no more than the last record."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rlcs.config import LoggingConfig
from rlcs.errors import CheckpointError, ConfigError
from rlcs.runlog import EvaluationRow, RunLog, read_evaluations, read_lines, read_metrics
from rlcs.types import FinishReason, Group, Prompt, Response, Score


def group(name: str, rewards: list[float]) -> Group:
    prompt = Prompt(id=name, messages=[{"role": "user", "content": f"Q {name}"}], answer="1", domain="d", tier=2)
    responses = [
        Response(
            token_ids=np.asarray([1, 2], dtype=np.int32),
            logprobs=np.zeros(2, dtype=np.float32),
            loss_mask=np.ones(2, dtype=bool),
            text=f"<b>{reward}</b>",
            finish_reason=FinishReason.STOP,
            policy_version=3,
            reward=Score(reward, correct=reward == 1, parts={"math": reward}, detail="why"),
        )
        for reward in rewards
    ]
    return Group(prompt=prompt, prompt_ids=np.asarray([5], dtype=np.int32), responses=responses)


def evaluation(step: int) -> EvaluationRow:
    return EvaluationRow(step, "d", 1, 10, 4, 0.5, 0.75, 4, 0.5, 1.0)


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path, LoggingConfig(tensorboard=False), {})


def test_metrics_and_evaluations_are_read_back(log: RunLog, tmp_path: Path) -> None:
    log.write_metrics(1, {"reward/mean": 0.25})
    log.write_metrics(2, {"reward/mean": 0.5})
    log.write_evaluation([evaluation(0)])
    assert [line["reward/mean"] for line in read_metrics(tmp_path)] == [0.25, 0.5]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    assert read_evaluations(tmp_path) == [evaluation(0)]


def test_rollouts_that_cannot_be_written_are_told_of(
    log: RunLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rollouts" / "step-000001.parquet").mkdir(parents=True)
    log.write_rollouts(1, [group("a", [0, 1])], kept=[])
    with pytest.raises(OSError, match="step-000001"):
        log.write_rollouts(2, [group("a", [0, 1])], kept=[])
    log.write_rollouts(1, [group("a", [0, 1])], kept=[])
    log.close()
    assert "the last rollouts could not be written" in caplog.text


def test_rollouts_hold_every_response_with_its_score(log: RunLog, tmp_path: Path) -> None:
    log.write_rollouts(7, [group("a", [0, 1]), group("b", [1, 1])], kept=[0])
    log.flush()
    rows = pq.read_table(tmp_path / "rollouts" / "step-000007.parquet").to_pylist()
    assert [(row["prompt_id"], row["sample"], row["reward"], row["kept"]) for row in rows] == [
        ("a", 0, 0.0, True),
        ("a", 1, 1.0, True),
        ("b", 0, 1.0, False),
        ("b", 1, 1.0, False),
    ]
    assert rows[0]["response"] == "<b>0</b>"
    assert rows[0]["detail"] == "why"
    assert json.loads(rows[0]["parts"]) == {"math": 0}
    drawn = pq.read_table(tmp_path / "curriculum" / "step-000007.parquet").to_pylist()
    assert [(row["pass_rate"], row["degenerate"]) for row in drawn] == [(0.5, False), (1.0, True)]


def test_a_torn_last_line_is_passed_over_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [line["step"] for line in read_lines(path)] == [1, 2]
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match="line 2"):
        read_lines(path)


def test_rewind_forgets_what_came_after_the_checkpoint(log: RunLog, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        log.write_metrics(step, {"x": float(step)})
        log.write_rollouts(step, [group("a", [0, 1])], kept=[])
        log.flush()
        log.write_evaluation([evaluation(step)])
    log.rewind(2)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    assert [row.step for row in read_evaluations(tmp_path)] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [
        "step-000001.parquet",
        "step-000002.parquet",
    ]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run's folder"):
        read_metrics(tmp_path)


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, LoggingConfig(), {})
    log.write_metrics(1, {"reward/mean": 0.5})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("reward/mean")] == [0.5]


def test_mlflow_gets_metrics_and_goes_on_in_the_same_run(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    for step in (1, 2):
        log = RunLog(tmp_path, LoggingConfig(tensorboard=False, mlflow=True), {"seed": 7})
        log.write_metrics(step, {"reward/mean": 0.25 * step})
        log.write_rollouts(step, [group("a", [0, 1])], kept=[0])
        log.close()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    identity = (tmp_path / "mlflow-id.txt").read_text().strip()
    assert [m.value for m in client.get_metric_history(identity, "reward/mean")] == [0.25, 0.5]
    assert {artifact.path for artifact in client.list_artifacts(identity)} == {"config.json", "rollouts"}


def test_trackio_gets_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    log = RunLog(tmp_path, LoggingConfig(tensorboard=False, trackio=True), {"seed": 7})
    log.write_metrics(1, {"reward/mean": 0.25})
    log.write_rollouts(1, [group("a", [0, 1])], kept=[0])
    log.close()
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        stored = "".join(str(row) for row in connection.execute("SELECT metrics FROM metrics"))
    assert "trackio.table" in stored and "&lt;b&gt;1" in stored and "<b>" not in stored


def test_a_tool_that_is_not_installed_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ConfigError, match=r"logging\.trackio.*pip install trackio"):
        RunLog(tmp_path, LoggingConfig(tensorboard=False, trackio=True), {})


def test_weights_and_biases_gets_metrics_and_goes_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for step in (1, 2):
        log = RunLog(tmp_path, LoggingConfig(tensorboard=False, wandb=True), {"seed": 7})
        log.write_metrics(step, {"reward/mean": 0.25})
        log.close()
    identity = (tmp_path / "wandb-id.txt").read_text().strip()
    records = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert {record.name for record in records} == {f"run-{identity}.wandb"}
    deadline = time.monotonic() + 20  # its service may write after `finish` has returned
    while not all(record.stat().st_size > 100 for record in records) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [record.name for record in records if record.stat().st_size <= 100] == []
