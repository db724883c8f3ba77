"""The page of the system: what is the run doing, on what, with which settings?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from rlcs.dashboard.figures.figure import FEW_POINTS, Figure, domain_colour, line
from rlcs.dashboard.figures.overview import stage_times
from rlcs.dashboard.store import Run
from rlcs.json_text import finite, read_object
from rlcs.runlog import LineReader, is_step

_MOST_ACTORS = 28
"""Lines in a plot."""
_HIDDEN = ("key", "token", "password", "secret")


def system_figures(run: Run) -> list[Figure]:
    """Memory, processors, disk, and the time of the stages."""
    plots = (
        (
            "memory",
            "Memory in use on the trainer's machine",
            "GiB",
            ("system/memory_used_gib", "system/driver_memory_gib"),
            False,
        ),
        ("cpu", "Processors in use", "share", ("system/cpu_share",), True),
        ("disk", "Disk that is free for the run", "GiB", ("system/disk_free_gib",), False),
        ("sync", "Time to send the weights to the engines", "seconds", ("time/sync",), False),
    )
    names = {"system/memory_used_gib": "whole machine", "system/driver_memory_gib": "trainer's process"}
    figures = []
    for figure_id, title, unit, metrics, percent in plots:
        figure = Figure(figure_id, title, "lines", y_label=unit, zero=True, percent=percent)
        figure.empty = "Not recorded: an older version wrote this run."
        for name, colour in zip(metrics, ("main", "second"), strict=False):
            if name in run.columns:
                figure.series.append(line(names.get(name, name), run.columns.series(name), colour))
        figures.append(figure)
    return [*figures, *_by_actor(run), stage_times(run)]


def _by_actor(run: Run) -> list[Figure]:
    """Memory and restarts of each actor, and the queues."""
    plots = (
        ("actor_memory", "Memory of each process", "GiB", "system/actor_memory_gib", ""),
        ("restarts", "How often actors were replaced", "restarts", "system/restarts", ""),
        (
            "queues",
            "Longest queues",
            "waiting",
            "system/queue",
            "The longest seen in an iteration, looked at now and then.",
        ),
    )
    figures = []
    for figure_id, title, unit, prefix, note in plots:
        figure = Figure(figure_id, title, "lines", note=note, y_label=unit, zero=True, smooth=False)
        figure.empty = "Not recorded: an older version wrote this run, or no iteration has ended."
        for index, name in enumerate(run.columns.below(prefix)[:_MOST_ACTORS]):
            colour, dashed = domain_colour(index)
            data = run.columns.series(f"{prefix}/{name}")
            figure.series.append(line(name, data, colour, dashed=dashed, most=FEW_POINTS))
        figures.append(figure)
    return figures


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint on disk."""

    name: str
    step: int | None
    tokens: int
    megabytes: float
    is_whole: bool
    """Whether it has a manifest; files are not checked."""
    written: float
    """In seconds since 1970."""


def checkpoints(run: Run) -> list[CheckpointRow]:
    """The checkpoints on disk, newest first, with what the manifest says."""
    found = []
    for folder in sorted((run.path / "checkpoints").glob("step-*"), reverse=True):
        state = read_object(folder / "state.json")
        step, tokens = state.get("step"), finite(state.get("generated_tokens"))
        found.append(
            CheckpointRow(
                folder.name,
                step if is_step(step) else None,
                int(tokens or 0),
                sum(path.stat().st_size for path in _files(folder)) / 1e6,
                bool(read_object(folder / "manifest.json").get("sha256")),
                folder.stat().st_mtime,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Start:
    """A line of starts.jsonl: when a run was started, how and where (`rlcs.machine.describe`)."""

    time: float
    command: list[str] = field(default_factory=list)
    python: str = "?"
    platform: str = "?"
    cpus: int = 0
    memory_gib: float = 0.0
    gpus: list[str] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)


def starts(run: Run) -> list[Start]:
    """What starts.jsonl says of each start, newest first; lines that say something else are passed over."""
    path = run.path / "starts.jsonl"
    adapter, found = TypeAdapter(Start), []
    for record in LineReader(path).read_new() if path.exists() else []:
        with contextlib.suppress(ValidationError):
            found.append(adapter.validate_python(record))
    return found[::-1]


def faults(run: Run, most: int = 100) -> list[dict[str, Any]]:
    """The newest lines of faults.jsonl, newest first: actors that were replaced, prompts set aside, findings of `health`."""
    path = run.path / "faults.jsonl"
    if not path.exists():
        return []
    fields = {"step": None, "kind": "", "who": "", "reason": ""}
    records = reversed(LineReader(path).read_new()[-most:])
    return [{**fields, **record, "time": finite(record.get("time"))} for record in records]


def settings(run: Run) -> list[tuple[str, str, bool]]:
    """Every setting with its value, and whether it is not the default. Values that may be secrets are left out."""
    if run.config is None:
        return []
    values = run.config.model_dump(mode="json")
    return list(_flat(run.config, values, ""))


def _flat(section: BaseModel, values: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, bool]]:
    for name, info in type(section).model_fields.items():
        value, key = getattr(section, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _flat(value, values[name], f"{key}.")
            continue
        shown = "(not shown)" if name in _HIDDEN else json.dumps(values[name], ensure_ascii=False)
        default = info.get_default(call_default_factory=True) if not info.is_required() else None
        yield key, shown, value != default


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path
