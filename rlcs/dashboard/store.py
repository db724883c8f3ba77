"""One run as the pages see it: metrics, evaluations, draws, state; and the folder of all runs.

`Run.refresh` reads what was written since the last call, so that a page costs the same early and late in a run.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcs.config import Config
from rlcs.config_loading import load_config
from rlcs.dashboard.columns import Columns
from rlcs.dashboard.database import Database
from rlcs.errors import CheckpointError, RLCSError
from rlcs.json_text import finite, read_object
from rlcs.runlog import EvaluationRow, LineReader, evaluation_row

_REFRESH_S = 0.3
_OPEN_RUNS = 8
RUNNING_S = 180.0
"""A run that has said nothing for so long, and for longer than three of its iterations, is taken for stopped."""


@dataclass(slots=True)
class State:
    """What a run is doing."""

    step: int
    total: int | None
    """Iterations, of how many."""
    word: str
    """running, stopped, finished, or starting."""
    stage: str | None
    """What it is doing in the iteration, since `stage_since`."""
    stage_since: float | None
    updated: float | None
    """When it last wrote, in seconds since 1970."""


@dataclass(slots=True)
class Run:
    """A run's folder, read so far."""

    path: Path
    name: str
    columns: Columns = field(default_factory=Columns)
    evaluations: list[EvaluationRow] = field(default_factory=list)
    config: Config | None = None
    cache: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """What pages keep of what they counted in texts that do not change."""
    problem: str | None = None
    """Why nothing of it can be shown, such as a newer schema."""
    _notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _refreshed: float = 0.0
    _metrics: LineReader | None = None
    _evaluations: LineReader | None = None
    _database: Database | None = None

    def refresh(self, *, force: bool = False) -> Run:
        """Read what is new, unless that was done a moment ago. Never raises for what is in the folder."""
        with self._lock:
            if not force and time.monotonic() - self._refreshed < _REFRESH_S:
                return self
            try:
                self._read()
                self.problem = None
            except (CheckpointError, OSError) as error:
                self.problem = str(error)
            self._refreshed = time.monotonic()
        return self

    @property
    def database(self) -> Database:
        """Draws and responses."""
        if self._database is None:
            self._database = Database(self.path)
        return self._database

    @property
    def notes(self) -> list[str]:
        """What could not be read, in sentences."""
        damaged = self._metrics.damaged if self._metrics else []
        found = [
            f"metrics.jsonl: line {number} is damaged ({reason}) and was passed over" for number, reason in damaged[:3]
        ]
        if len(damaged) > 3:
            found.append(f"metrics.jsonl: {len(damaged) - 3} more lines are damaged")
        return [*self._notes, *found, *(self._database.notes if self._database else [])]

    @property
    def state(self) -> State:
        """What the run is doing."""
        now, columns = read_object(self.path / "now.json"), self.columns
        paths = [self.path / name for name in ("now.json", "metrics.jsonl", "config.yaml")]
        updated = max((path.stat().st_mtime for path in paths if path.exists()), default=None)
        train = self.config.train if self.config else None
        total = train.steps if train and train.max_generated_tokens is None else None  # else the tokens may end it
        patience = max(RUNNING_S, 3 * (columns.last("time/total", 10) or 0.0))
        if (self.path / "summary.json").exists():
            word = "finished"
        elif updated is None or time.time() - updated > patience:
            word = "stopped"
        else:
            word = "running" if columns.last_step else "starting"
        stage = str(now["stage"]) if "stage" in now and word in ("running", "starting") else None
        since = finite(now.get("time")) if stage else None
        return State(columns.last_step, total, word, stage, since, updated)

    @property
    def domains(self) -> list[str]:
        """The domains that were drawn or evaluated, sorted: their colours follow this order."""
        known = {row.domain for row in self.evaluations}
        known |= {name for name in self.columns.below("reward") if name not in ("mean", "std")}
        return sorted(known)

    @property
    def version(self) -> str:
        """Changes with every iteration and evaluation: a page asks whether there is something new."""
        state = self.state
        return f"{state.step}-{len(self.evaluations)}-{state.word}"

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json of a finished run, else empty."""
        return read_object(self.path / "summary.json")

    def _read(self) -> None:
        if self.config is None and not self._notes:
            try:
                self.config = load_config(self.path / "config.yaml")
            except RLCSError as error:
                self._notes.append(f"config.yaml cannot be used, so limits are the defaults: {error}")
        anew = False
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            self._metrics = self._metrics or LineReader(metrics)
            before = self._metrics.restarts
            lines = self._metrics.read_new()
            if self._metrics.restarts != before:
                self.columns, anew = Columns(), True
                self.columns.restarts = self._metrics.restarts
                self.cache.clear()
            self.columns.add(lines)
        evaluations = self.path / "evaluations.jsonl"
        if evaluations.exists():
            self._evaluations = self._evaluations or LineReader(evaluations)
            before = self._evaluations.restarts
            rows = self._evaluations.read_new()
            if self._evaluations.restarts != before:
                self.evaluations = []
            for row in rows:
                try:
                    self.evaluations.append(evaluation_row(row))
                except ValueError:
                    self._notes.append("evaluations.jsonl has a line that is no evaluation; it was passed over")
        if self._database is not None:
            self._database.refresh(anew=anew)


class RunsFolder:
    """The runs below a folder; the ones looked at last stay open."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._open: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of the folders that are runs, the one written last first; a folder that is a run itself is one."""
        if is_run(self.path):
            return [self.path.name]
        try:
            found = [path for path in self.path.iterdir() if path.is_dir() and is_run(path)]
        except OSError:
            return []
        return [path.name for path in sorted(found, key=_written, reverse=True)]

    def others(self) -> list[str]:
        """Names of the folders that are no runs."""
        if is_run(self.path):
            return []
        try:
            paths = sorted(self.path.iterdir())
        except OSError:
            return []
        return [path.name for path in paths if path.is_dir() and not path.name.startswith(".") and not is_run(path)]

    def run(self, name: str) -> Run:
        """A run by its name, read up to now.

        Raises:
            CheckpointError: there is no such run in this folder.
        """
        path = self._path(name)
        with self._lock:
            run = self._open.get(name)
            if run is None:
                run = self._open[name] = Run(path, name)
            self._open.move_to_end(name)
            while len(self._open) > _OPEN_RUNS:
                self._open.popitem(last=False)  # freed when the last page that reads it is done
        return run.refresh()

    def _path(self, name: str) -> Path:
        """The folder of a run, which must lie in this one: neither `..` nor a link leads out of it."""
        if is_run(self.path) and name == self.path.name:
            return self.path
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            raise CheckpointError(f"{name!r} is no name of a run")
        path = (self.path / name).resolve()
        if path.parent != self.path or not path.is_dir():
            raise CheckpointError(f"there is no run {name!r} in {self.path}")
        if not is_run(path):
            raise CheckpointError(f"{name!r} is no run's folder: it has no config.yaml")
        return path


def is_run(path: Path) -> bool:
    """Whether a folder is a run's."""
    return (path / "config.yaml").is_file()


def _written(path: Path) -> float:
    times = [file.stat().st_mtime for file in (path / "metrics.jsonl", path / "config.yaml") if file.exists()]
    return max(times, default=0.0)
