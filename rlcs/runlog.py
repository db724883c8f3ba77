"""A run's folder: what a run writes while it goes on, and how it is read again. docs/run-folder.md is its schema.

    config.yaml                    the resolved configuration
    starts.jsonl                   a line each start: versions, machine, command
    now.json                       what the run is doing at this moment
    actors.json                    how its actors and queues are
    faults.jsonl                   a line for each actor that was replaced and each prompt that was set aside
    metrics.jsonl                  a line an iteration: {"schema": 2, "step": 1, "time": ..., "reward/mean": ...}
    evaluations.jsonl              a line for each evaluation, domain and tier
    rollouts/step-000001.parquet   every response of an iteration with its score
    curriculum/step-000001.parquet every prompt drawn, its pass rate, and whether its group was kept
    */part-000001-000200.parquet   the rows of many iterations, joined by `rlcs.run_compaction`
    curriculum/prompts.parquet     the training prompts: id, domain, tier and the beginning of the text
    tensorboard/                   events
    checkpoints/                   see `rlcs.checkpoint`

Files are appended to, or written whole under another name and renamed (`rlcs.run_files`), so that a reader never meets
half a record, and a crash tears no more than the last one, which is dropped.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.config import LoggingConfig
from rlcs.errors import CheckpointError, first_line, one_line
from rlcs.faults import Fault
from rlcs.json_text import read_object
from rlcs.loggers import TABLE_COLUMNS, LoggerSet
from rlcs.machine import Gauges, describe
from rlcs.run_compaction import Compactor, cut_parts
from rlcs.run_files import (
    SCHEMA_VERSION,
    LineReader,
    StepFile,
    append_lines,
    check_schema,
    explain_parquet,
    is_step,
    open_parquet,
    read_lines,
    read_parquet,
    read_steps,
    remove_leftovers,
    replace_file,
    step_files,
    step_path,
    write_lines,
    write_parquet,
)
from rlcs.run_images import save_pictures
from rlcs.run_tables import draws_table, prompt_text, prompts_table, rollouts_table, shortened
from rlcs.types import Group, Prompt
from rlcs.vitals import Snapshot, snapshot_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "PROMPTS_FILE",
    "SCHEMA_VERSION",
    "EvaluationRow",
    "LineReader",
    "RunLog",
    "StepFile",
    "check_schema",
    "evaluation_row",
    "explain_parquet",
    "is_step",
    "mean_over_prompts",
    "open_parquet",
    "prompt_text",
    "prompts_table",
    "read_actors",
    "read_draws",
    "read_evaluations",
    "read_faults",
    "read_lines",
    "read_metrics",
    "read_parquet",
    "read_prompt_text",
    "read_prompts",
    "recorded_evaluation",
    "shortened",
    "step_files",
]

logger = logging.getLogger(__name__)

PROMPTS_FILE = "prompts.parquet"
_PROMPTS_A_ROW_GROUP = 4096
"""So that the texts of a few prompts of a million are read quickly."""
_SAMPLED = 16
"""Responses of an iteration that other tools get in a table."""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """Held-out results of one domain and tier."""

    step: int
    """Iterations trained before."""
    domain: str
    tier: int | None
    num_prompts: int
    num_samples: int
    """Responses a prompt."""
    pass_at_1: float
    """Share of responses that are right."""
    pass_at_k: float
    """Unbiased estimate that one of `k` responses is right."""
    k: int
    mean_reward: float
    parsed: float
    """Share of responses whose final answer could be extracted."""


def mean_over_prompts(rows: Sequence[EvaluationRow], name: str) -> float:
    """The mean of a field of `rows`, weighted by their prompts; NaN where there are none."""
    total = sum(row.num_prompts for row in rows)
    return sum(getattr(row, name) * row.num_prompts for row in rows) / total if total else float("nan")


class RunLog:
    """Writes a run's folder."""

    def __init__(self, run_dir: Path, config: LoggingConfig, run_config: Mapping[str, Any]) -> None:
        self._dir = run_dir
        self._config = config
        self._metrics = run_dir / "metrics.jsonl"
        self._loggers = LoggerSet(config, run_dir, run_config)
        self._gauges = Gauges(run_dir)
        self._fault_lock = threading.Lock()
        self._compactor = Compactor()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="rlcs-runlog")
        self._writing: Future[None] | None = None
        self._noting: Future[None] | None = None
        for folder in self._folders():
            remove_leftovers(folder)
        append_lines(run_dir / "starts.jsonl", [{"schema": SCHEMA_VERSION, "time": time.time(), **describe()}])

    def note_stage(self, stage: str, step: int) -> None:
        """Say what the run is doing now, in iteration `step`. Raises what went wrong with what was said before."""
        if self._noting is not None and self._noting.done():
            self._noting.result()
        now = {"schema": SCHEMA_VERSION, "stage": stage, "step": step, "time": time.time(), "pid": os.getpid()}
        data = json.dumps(now).encode()
        self._noting = self._writer.submit(replace_file, self._dir / "now.json", data, durable=False)
        self._loggers.log_stage(stage, step)

    def note_actors(self, snapshot: Snapshot) -> None:
        """Write actors.json anew, and pass it on to other tools; may be called from another thread."""
        data = json.dumps({"schema": SCHEMA_VERSION, **asdict(snapshot)}).encode()
        replace_file(self._dir / "actors.json", data, durable=False)
        self._loggers.log_actors(snapshot)

    def note_fault(self, fault: Fault, step: int) -> None:
        """Append a line to faults.jsonl; `step` iterations were done. May be called from another thread."""
        with self._fault_lock:
            append_lines(self._dir / "faults.jsonl", [{"schema": SCHEMA_VERSION, "step": step, **asdict(fault)}])

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append an iteration's metrics, with `system/...` of this machine, and pass them on to other tools."""
        metrics = {**metrics, **self._gauges.read()}
        append_lines(self._metrics, [{"schema": SCHEMA_VERSION, "step": step, "time": time.time(), **metrics}])
        self._loggers.log_metrics(step, metrics)

    def write_rollouts(self, step: int, groups: Sequence[Group], kept: Iterable[int]) -> None:
        """Write every response of an iteration; `kept` are the indices of the groups that were learned from.

        The files are written beside the next iteration; `flush` waits for them. Raises what went wrong with those before.
        """
        if not self._config.rollouts_every or step % self._config.rollouts_every:
            return
        self.flush()
        kept = set(kept)
        rollouts = rollouts_table(step, groups, kept, self._config.token_groups)
        draws = draws_table(step, groups, kept)
        shown = groups[: self._config.token_groups]
        self._writing = self._writer.submit(self._write_tables, step, rollouts, draws, shown)
        if self._loggers.wants_rollouts:
            sample = rollouts.select(list(TABLE_COLUMNS)).slice(0, _SAMPLED).to_pylist()
            self._loggers.log_rollouts(step, [list(row.values()) for row in sample])

    def _write_tables(self, step: int, rollouts: Any, draws: Any, shown: Sequence[Group]) -> None:
        folders = self._folders()
        save_pictures(folders[0] / "images", shown)
        for folder, table in zip(folders, (rollouts, draws), strict=True):
            write_parquet(table, step_path(folder, step))
        self._compactor.start_if_due(list(folders))

    def flush(self) -> None:
        """Wait until all rollouts are on the disk; raises what went wrong with them."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def write_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Write curriculum/prompts.parquet, the training prompts in the curriculum's order, unless it is there."""
        path = self._dir / "curriculum" / PROMPTS_FILE
        if path.exists():
            return
        write_parquet(prompts_table(prompts), path, row_group_size=_PROMPTS_A_ROW_GROUP)

    def write_evaluation(self, rows: Sequence[EvaluationRow]) -> None:
        """Append the rows of an evaluation."""
        append_lines(self._dir / "evaluations.jsonl", [{"schema": SCHEMA_VERSION, **asdict(row)} for row in rows])
        if rows:
            self._loggers.log_metrics(rows[0].step, {"eval/pass_at_1": mean_over_prompts(rows, "pass_at_1")})

    def evaluation(self, step: int) -> list[EvaluationRow]:
        """The rows of an evaluation that was written; none where there is none."""
        return recorded_evaluation(self._dir, step)

    def scores(self) -> dict[int, tuple[float, float]]:
        """By iteration, the held-out accuracy and mean reward after it; not that before training."""
        rows = read_evaluations(self._dir) if (self._dir / "evaluations.jsonl").exists() else []
        by_step = {step: [row for row in rows if row.step == step] for step in {row.step for row in rows} - {0}}
        return {
            step: (mean_over_prompts(own, "pass_at_1"), mean_over_prompts(own, "mean_reward"))
            for step, own in by_step.items()
        }

    def rewind(self, step: int) -> None:
        """Forget what was written after iteration `step`, from which the run goes on."""
        self.flush()
        self._compactor.close()
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            path = self._dir / name
            if path.exists():
                kept = [line for line in read_steps(path) if line["step"] <= step]
                write_lines(path, kept)
        for folder in self._folders():
            cut_parts(folder, step)

    def close(self) -> None:
        """Flush what is buffered; rollouts that cannot be written any more are told of and no more."""
        try:
            self.flush()
        except OSError as error:
            logger.warning("the last rollouts could not be written: %s", one_line(error))
        self._writer.shutdown()
        self._compactor.close()
        self._loggers.close()

    def _folders(self) -> tuple[Path, Path]:
        """Responses and draws."""
        return self._dir / "rollouts", self._dir / "curriculum"


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. Raises CheckpointError if `run_dir` is no run, or a line has no iteration."""
    return read_steps(_existing(run_dir, "metrics.jsonl"))


def read_faults(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of faults.jsonl, see `rlcs.faults.Fault`; none where nothing failed."""
    path = run_dir / "faults.jsonl"
    return read_lines(path) if path.exists() else []


def read_actors(run_dir: Path) -> Snapshot | None:
    """How the actors of a run are, or were when it ended; None where that is not known or cannot be read."""
    try:
        path = run_dir / "actors.json"
        value = read_object(path)
        check_schema(value.pop("schema", 1), path)
        return snapshot_of(value)
    except (ValueError, CheckpointError):
        return None


def read_evaluations(run_dir: Path) -> list[EvaluationRow]:
    """All evaluation rows of a run, oldest first.

    Raises:
        CheckpointError: `run_dir` has none, or a row is damaged.
    """
    path = _existing(run_dir, "evaluations.jsonl")
    try:
        return [evaluation_row(line) for line in read_lines(path)]
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; remove the row") from error


def recorded_evaluation(run_dir: Path, step: int) -> list[EvaluationRow]:
    """The rows of the evaluation after `step` iterations; none where there is none."""
    rows = read_evaluations(run_dir) if (run_dir / "evaluations.jsonl").exists() else []
    return [row for row in rows if row.step == step]


def evaluation_row(line: Mapping[str, Any]) -> EvaluationRow:
    """The row of a line of evaluations.jsonl.

    Raises:
        ValueError: a value is missing, or is of the wrong kind.
    """
    from pydantic import ValidationError

    try:
        return _evaluation_rows().validate_python({name: value for name, value in line.items() if name != "schema"})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ValueError(f"a damaged row of step {line.get('step')!r} ({name}: {first['msg']})") from error


@cache
def _evaluation_rows() -> TypeAdapter[EvaluationRow]:
    from pydantic import TypeAdapter

    return TypeAdapter(EvaluationRow)


def read_prompts(run_dir: Path) -> Any:
    """The Arrow table of curriculum/prompts.parquet (prompt_id, domain, tier, prompt), or None if there is none."""
    path = run_dir / "curriculum" / PROMPTS_FILE
    return read_parquet(path) if path.is_file() else None


def read_draws(run_dir: Path) -> Any:
    """The Arrow table of all prompts drawn: step, prompt_id, domain, tier, pass_rate, degenerate, kept; by step.

    Raises:
        CheckpointError: `run_dir` is no run, no iteration was recorded, or a file is damaged.
    """
    import pyarrow as pa

    if not (run_dir / "config.yaml").is_file():
        raise CheckpointError(f"{run_dir} is no run's folder (it has no config.yaml)")
    folder = run_dir / "curriculum"
    if not step_files(folder):
        raise CheckpointError(
            f"{run_dir} has no rollouts: no iteration has ended yet, or logging.rollouts_every is 0 in its config.yaml"
        )
    try:
        tables = [read_parquet(file.path) for file in step_files(folder)]
    except FileNotFoundError:  # compacted meanwhile: now their rows are in a part
        tables = [read_parquet(file.path) for file in step_files(folder)]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise CheckpointError(f"the files in {folder} do not fit together ({first_line(error)})") from error


def read_prompt_text(run_dir: Path, prompt_id: str, step: int) -> str | None:
    """The text of a prompt that was rolled out in iteration `step`, or None if the file is gone."""
    import pyarrow.parquet as pq

    for file in step_files(run_dir / "rollouts"):
        if file.first <= step <= file.last:
            wanted = [("prompt_id", "==", prompt_id), ("step", "==", step)]
            with explain_parquet(file.path):
                found = pq.read_table(file.path, columns=["prompt"], filters=wanted)
            return str(found["prompt"][0].as_py()) if found.num_rows else None
    return None


def _existing(run_dir: Path, name: str) -> Path:
    path = run_dir / name
    if not path.is_file():
        raise CheckpointError(f"{run_dir} has no {name}: it is no run's folder, or the run did not get that far")
    return path
