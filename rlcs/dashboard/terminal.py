"""`rlcs status RUN`: one screen about a run, drawn with characters; live with `--watch`."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlcs.errors import CheckpointError, RLCSError
from rlcs.json_text import finite, read_object
from rlcs.runlog import EvaluationRow, LineReader, evaluation_row, is_step, mean_over_prompts, read_actors
from rlcs.terminal_text import printable

BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 48
_LONGEST_S = 1e10
_ROWS = (
    ("reward/mean", "reward", "{:.3f}"),
    ("rollout/useful", "useful groups", "{:.0%}"),
    ("curriculum/expansion", "drawn times", "{:.2f}"),
    ("rollout/mean_length", "tokens a response", "{:.1f}"),
    ("learner/entropy", "entropy", "{:.3f}"),
    ("learner/grad_norm", "gradient norm", "{:.3g}"),
    ("learner/logprob_gap_mean", "logprob gap", "{:.1e}"),
    ("rollout/tokens_per_s", "tokens/s", "{:,.0f}"),
    ("time/total", "s an iteration", "{:.2f}"),
)


class Status:
    """What is on the screen; `refresh` reads what is new."""

    def __init__(self, run_dir: Path) -> None:
        if not (run_dir / "config.yaml").is_file():
            raise CheckpointError(f"{run_dir} is no run's folder (it has no config.yaml)")
        self._dir = run_dir
        self._metrics = LineReader(run_dir / "metrics.jsonl")
        self._lines: list[dict[str, Any]] = []

    def refresh(self) -> Group:
        """The screen as of now."""
        restarts = self._metrics.restarts
        new = self._metrics.read_new() if self._metrics.path.exists() else []
        new = [line for line in new if is_step(line.get("step"))]
        self._lines = new if self._metrics.restarts != restarts else self._lines + new
        parts: list[Table | Text] = [Text(printable(self._head()))]
        if self._lines:
            parts.append(self._table())
        else:
            parts.append(Text("no iteration has ended yet: data, cold start and the first rollouts come first"))
        parts += [Text(printable(line)) for line in (*self._accuracy(), *self._actors(), *self._faults())]
        parts += [Text(f"note: line {number} of metrics.jsonl is damaged") for number, _ in self._metrics.damaged[:3]]
        return Group(*parts)

    def _head(self) -> str:
        now = read_object(self._dir / "now.json")
        total = _total_steps(self._dir)
        step = self._lines[-1]["step"] if self._lines else 0
        state = "finished" if (self._dir / "summary.json").exists() else doing(now)
        return f"{self._dir}: iteration {step}{f' of {total}' if total else ''}, {state}"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        for name, title, form in _ROWS:
            values = [value for line in self._lines if (value := finite(line.get(name))) is not None]
            if values:
                table.add_row(title, form.format(values[-1]), sparkline(values, _WIDTH))
        return table

    def _accuracy(self) -> list[str]:
        path = self._dir / "evaluations.jsonl"
        rows: list[EvaluationRow] = []
        for line in LineReader(path).read_new() if path.exists() else []:
            with contextlib.suppress(ValueError):  # a damaged row; `rlcs dashboard` says so
                rows.append(evaluation_row(line))
        steps = sorted({row.step for row in rows})
        means = [mean_over_prompts([row for row in rows if row.step == step], "pass_at_1") for step in steps]
        if not means:
            return []
        shown = "  ".join(f"{100 * mean:.1f} % ({step})" for step, mean in zip(steps[-6:], means[-6:], strict=True))
        return [f"held-out accuracy (iteration): {shown}"]

    def _faults(self) -> list[str]:
        """The last actor replaced, prompt set aside or finding of `health`."""
        path = self._dir / "faults.jsonl"
        lines = LineReader(path).read_new() if path.exists() else []
        if not lines:
            return []
        last = lines[-1]
        return [
            f"faults: {len(lines)}, the last after iteration {last.get('step')}: {last.get('who')} {last.get('reason')}"
        ]

    def _actors(self) -> list[str]:
        """What the actors of a run that goes on do, and what became of them."""
        snapshot = None if (self._dir / "summary.json").exists() else read_actors(self._dir)
        if snapshot is None:
            return []
        states = Counter(actor.state for actor in snapshot.actors)
        waiting = ", ".join(f"{length} {name}" for name, length in snapshot.queues.items())
        restarts = sum(actor.restarts for actor in snapshot.actors)
        dead = f", {states['dead']} dead" if states["dead"] else ""
        return [f"actors: {len(snapshot.actors)}, {states['busy']} busy{dead}, {restarts} restarts; waiting: {waiting}"]


def show_status(run_dir: Path, *, watch: bool, console: Console | None = None, every_s: float = 1.0) -> None:
    """Print the screen once, or, with `watch`, until the run is finished or Ctrl-C.

    Raises:
        CheckpointError: `run_dir` is no run, or of a newer schema.
    """
    console = console or Console(highlight=False)
    status = Status(run_dir)
    if not watch:
        console.print(status.refresh())
        return
    with Live(status.refresh(), console=console, auto_refresh=False, screen=False) as live:
        while not (run_dir / "summary.json").exists():
            time.sleep(every_s)
            live.update(status.refresh(), refresh=True)
        live.update(status.refresh(), refresh=True)


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as `width` bars at most, each the mean of its share of them; a gap where nothing is finite."""
    if not values:
        return ""
    count = min(width, len(values))
    means = []
    for i in range(count):
        part = values[i * len(values) // count : (i + 1) * len(values) // count]
        known = [value for value in part if math.isfinite(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    known = [mean for mean in means if not math.isnan(mean)]
    if not known:
        return " " * count
    low, high = min(known), max(known)
    span = high - low
    shares = [(mean - low) / span if span > 0 else 0.0 for mean in means]  # not finite where a sum was not
    return "".join(BARS[round(share * (len(BARS) - 1))] if 0 <= share <= 1 else " " for share in shares)


STAGES = {
    "draw": "drawing prompts",
    "generate": "generating responses",
    "score": "scoring responses",
    "select": "choosing groups",
    "learn": "updating the policy",
    "sync": "sending the weights to the engines",
    "write": "writing the run's folder",
}
"""What a stage of an iteration is called for a person."""


def doing(now: dict[str, Any], clock: float | None = None) -> str:
    """What `now.json` says, and since when: a run that was killed said it long ago."""
    if "stage" not in now:
        return "not started yet, or written by an older version"
    age = (time.time() if clock is None else clock) - (finite(now.get("time")) or 0.0)
    what = STAGES.get(str(now["stage"]), str(now["stage"]))
    return f"{what} since {duration(age)}"


def duration(seconds: float) -> str:
    """Seconds for a person: 42 s, 3 min, 2 h 05 min, 3 d 4 h."""
    seconds = min(max(0.0, seconds), _LONGEST_S)  # a file may say that something began at no time at all
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _total_steps(run_dir: Path) -> int | None:
    from rlcs.config_loading import load_config

    try:
        return load_config(run_dir / "config.yaml").train.steps
    except RLCSError:
        return None
