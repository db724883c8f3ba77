"""A run's folder: what a run writes while it goes on, and how it is read again.

    config.yaml                    the resolved configuration
    metrics.jsonl                  a line an iteration: {"step": 1, "reward/mean": ...}
    evaluations.jsonl              a line for each evaluation, domain and tier
    rollouts/step-000001.parquet   every response of an iteration with its score
    curriculum/step-000001.parquet every prompt drawn, its pass rate, and whether its group was kept
    curriculum/prompts.parquet     the training prompts: id, domain, tier and the beginning of the text
    tensorboard/                   events
    checkpoints/                   see `rlcs.checkpoint`

Files are appended to or written whole under another name and renamed, so that a reader never meets half a record; a
torn last line, after a crash, is passed over.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlcs.config import LoggingConfig
from rlcs.errors import CheckpointError
from rlcs.types import Group, Prompt

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
PROMPTS_FILE = "prompts.parquet"
_MOST_TEXTS = 1_000_000
"""With more training prompts than this their texts are left out of the prompts file."""


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
        self._tensorboard: Any = None
        self._wandb: Any = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(run_dir / "tensorboard"), flush_secs=5)
        if config.wandb:
            self._wandb = _start_wandb(config, run_dir, run_config)

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append an iteration's metrics and pass them on to TensorBoard and Weights & Biases."""
        _append_lines(self._metrics, [{"schema": SCHEMA_VERSION, "step": step, **metrics}])
        if self._tensorboard is not None:
            for name, value in metrics.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(metrics), step=step)

    def write_rollouts(self, step: int, groups: Sequence[Group], kept: Iterable[int]) -> None:
        """Write every response of an iteration; `kept` are the indices of the groups that were learned from."""
        if not self._config.rollouts_every or step % self._config.rollouts_every:
            return
        import pyarrow as pa

        kept = set(kept)
        rows = [
            {
                "step": step,
                "prompt_id": group.prompt.id,
                "domain": group.prompt.domain,
                "tier": group.prompt.tier,
                "prompt": last_text(group),
                "answer": group.prompt.answer,
                "sample": sample,
                "response": response.text,
                "num_tokens": len(response.token_ids),
                "finish_reason": str(response.finish_reason),
                "policy_version": response.policy_version,
                "reward": response.reward.value if response.reward else None,
                "correct": response.reward.correct if response.reward else None,
                "parts": json.dumps(response.reward.parts) if response.reward else None,
                "detail": response.reward.detail if response.reward else None,
                "kept": index in kept,
            }
            for index, group in enumerate(groups)
            for sample, response in enumerate(group.responses)
        ]
        _write_parquet(pa.Table.from_pylist(rows), self._dir / "rollouts" / f"step-{step:06d}.parquet")
        drawn = [
            {
                "step": step,
                "prompt_id": group.prompt.id,
                "domain": group.prompt.domain,
                "tier": group.prompt.tier,
                "pass_rate": group.pass_rate,
                "predicted_pass_rate": group.predicted_pass_rate,
                "num_responses": len(group.responses),
                "degenerate": group.is_degenerate,
                "kept": index in kept,
            }
            for index, group in enumerate(groups)
        ]
        _write_parquet(pa.Table.from_pylist(drawn), self._dir / "curriculum" / f"step-{step:06d}.parquet")

    def write_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Write curriculum/prompts.parquet, the training prompts in the curriculum's order, unless it is there."""
        path = self._dir / "curriculum" / PROMPTS_FILE
        if path.exists():
            return
        _write_parquet(prompts_table(prompts), path)

    def write_evaluation(self, rows: Sequence[EvaluationRow]) -> None:
        """Append the rows of an evaluation."""
        _append_lines(self._dir / "evaluations.jsonl", [asdict(row) for row in rows])
        if self._tensorboard is not None and rows:
            self._tensorboard.add_scalar("eval/pass_at_1", mean_over_prompts(rows, "pass_at_1"), rows[0].step)

    def rewind(self, step: int) -> None:
        """Forget what was written after iteration `step`, from which the run goes on."""
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            path = self._dir / name
            if path.exists():
                kept = [line for line in read_lines(path) if line["step"] <= step]
                _write_lines(path, kept)
        for folder in ("rollouts", "curriculum"):
            for path in (self._dir / folder).glob("step-*.parquet"):
                if int(path.stem.removeprefix("step-")) > step:
                    path.unlink()

    def close(self) -> None:
        """Flush what is buffered."""
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def last_text(group: Group) -> str:
    """The text of the prompt's last message."""
    return prompt_text(group.prompt)


def prompt_text(prompt: Prompt) -> str:
    """The text of a prompt's last message."""
    content = prompt.messages[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", f"<{part.get('type', 'part')}>") for part in content)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. Raises CheckpointError if `run_dir` is no run."""
    return read_lines(_existing(run_dir, "metrics.jsonl"))


def read_evaluations(run_dir: Path) -> list[EvaluationRow]:
    """All evaluation rows of a run, oldest first. Raises CheckpointError if `run_dir` has none."""
    return [EvaluationRow(**line) for line in read_lines(_existing(run_dir, "evaluations.jsonl"))]


def prompts_table(prompts: Sequence[Prompt]) -> Any:
    """The Arrow table of prompts: prompt_id, domain, tier, and the beginning of the text where they are not too many."""
    import pyarrow as pa

    with_text = len(prompts) <= _MOST_TEXTS
    texts = [shortened(prompt_text(prompt)) if with_text else None for prompt in prompts]
    columns = {
        "prompt_id": pa.array([prompt.id for prompt in prompts], pa.string()),
        "domain": pa.array([prompt.domain for prompt in prompts], pa.string()).dictionary_encode(),
        "tier": pa.array([prompt.tier for prompt in prompts], pa.int8()),
        "prompt": pa.array(texts, pa.string()),
    }
    return pa.table(columns)


def read_prompts(run_dir: Path) -> Any:
    """The Arrow table of curriculum/prompts.parquet (prompt_id, domain, tier, prompt), or None if there is none."""
    import pyarrow.parquet as pq

    path = run_dir / "curriculum" / PROMPTS_FILE
    return pq.read_table(path) if path.is_file() else None


def read_draws(run_dir: Path) -> Any:
    """The Arrow table of all prompts drawn: step, prompt_id, domain, tier, pass_rate, degenerate, kept; by step.

    Raises:
        CheckpointError: `run_dir` is no run, no iteration was recorded, or a file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (run_dir / "config.yaml").is_file():
        raise CheckpointError(f"{run_dir} is no run's folder (it has no config.yaml)")
    paths = sorted((run_dir / "curriculum").glob("step-*.parquet"))
    if not paths:
        raise CheckpointError(
            f"{run_dir} has no rollouts: no iteration has ended yet, or logging.rollouts_every is 0 in its config.yaml"
        )
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise CheckpointError(f"{path} cannot be read ({str(error).splitlines()[0]}): remove the file") from error
    return pa.concat_tables(tables, promote_options="permissive")


def read_prompt_text(run_dir: Path, prompt_id: str, step: int) -> str | None:
    """The text of a prompt that was rolled out in iteration `step`, or None if the file is gone."""
    import pyarrow.parquet as pq

    path = run_dir / "rollouts" / f"step-{step:06d}.parquet"
    if not path.is_file():
        return None
    found = pq.read_table(path, columns=["prompt"], filters=[("prompt_id", "==", prompt_id)])
    return str(found["prompt"][0].as_py()) if found.num_rows else None


def shortened(text: str, length: int = 300) -> str:
    """The text on one line, cut to `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 4] + " ..."


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file; a torn last line is passed over with a warning.

    Raises:
        CheckpointError: a line before the last is damaged.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):
                logger.warning("%s: the last line is torn and was passed over", path)
                break
            raise CheckpointError(f"{path}, line {number}: damaged record ({error}); remove the line") from error
        records.append(record)
    return records


def _existing(run_dir: Path, name: str) -> Path:
    path = run_dir / name
    if not path.is_file():
        raise CheckpointError(f"{run_dir} has no {name}: it is no run's folder, or the run did not get that far")
    return path


def _append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    os.replace(beside, path)


def _write_parquet(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    pq.write_table(table, beside, compression="zstd")
    os.replace(beside, path)


def _start_wandb(config: LoggingConfig, run_dir: Path, run_config: Mapping[str, Any]) -> Any:
    from rlcs.errors import ConfigError

    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "logging.wandb is on, but the package wandb is not installed: `pip install wandb`, or turn it off"
        ) from error
    # Kept with the run, so that a resumed run goes on in the same place.
    identity = run_dir / "wandb-id.txt"
    if not identity.exists():
        identity.write_text(f"{secrets.token_hex(8)}\n", encoding="utf-8")
    try:
        return wandb.init(
            project=config.wandb_project,
            name=run_dir.name,
            id=identity.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(run_dir),
            config=dict(run_config),
        )
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"logging.wandb: Weights & Biases cannot be started: {reason} (`wandb login`, or WANDB_MODE=offline)"
        ) from error
