"""The few numbers at the head of a page, with a small line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlcs.dashboard.columns import Floats
from rlcs.dashboard.store import Run
from rlcs.dashboard.terminal import duration
from rlcs.runlog import mean_over_prompts

_WINDOW = 10
_HUGE, _TINY = 1e300, 1e-300
"""Beyond these a difference or a quotient may not be finite."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A number."""

    name: str
    value: str
    more: str = ""
    points: str = ""
    """Points of a line in a box of 100 by 26."""


def run_tiles(run: Run) -> list[Tile]:
    """Reward, accuracy, useful share, drawing, length, speed and time."""
    columns = run.columns
    state = run.state
    tiles = [
        _change(run, "reward/mean", "Reward in training", "{:.3f}"),
        _accuracy(run),
        _change(run, "rollout/useful", "Useful groups", "{:.0%}"),
        _change(run, "rollout/mean_length", "Tokens a response", "{:.1f}"),
        _change(run, "rollout/tokens_per_s", "Tokens a second", "{:,.0f}"),
    ]
    per_iteration = columns.last("time/total", _WINDOW)
    if per_iteration is not None:
        spent = columns.last("progress/seconds") or 0.0
        left = "" if state.total is None else duration(per_iteration * max(0, state.total - state.step))
        more = f"{duration(spent)} so far" + (f", {left} to go" if left and state.word == "running" else "")
        tiles.append(
            Tile("Time of an iteration", f"{per_iteration:.2f} s", more, spark(columns.series("time/total")[1]))
        )
    return [tile for tile in tiles if tile is not None]


def spark(values: Floats | Sequence[float], points: int = 50) -> str:
    """Points of an SVG line in a box of 100 by 26: means of equal parts."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.abs(values) < _HUGE]
    if len(values) < 2:
        return ""
    parts = np.array_split(values, min(points, len(values)))
    means = np.array([part.mean() for part in parts])
    low, high = float(means.min()), float(means.max())
    scaled = (means - low) / (high - low) if high - low > _TINY else np.full(len(means), 0.5)
    x = np.linspace(1, 99, len(means))
    return " ".join(f"{a:.1f},{24 - 22 * b:.1f}" for a, b in zip(x, scaled, strict=True))


def _change(run: Run, name: str, title: str, form: str) -> Tile | None:
    """A metric's mean over the last iterations, and what it was in the first."""
    _, values = run.columns.series(name)
    now = run.columns.last(name, _WINDOW)
    if now is None:
        return None
    first = values[np.isfinite(values)][:_WINDOW]
    more = f"was {form.format(float(first.mean()))}" if len(values) > _WINDOW else ""
    return Tile(title, form.format(now), more, spark(values))


def _accuracy(run: Run) -> Tile | None:
    steps = sorted({row.step for row in run.evaluations})
    if not steps:
        return None
    means = [mean_over_prompts([r for r in run.evaluations if r.step == step], "pass_at_1") for step in steps]
    more = f"was {100 * means[0]:.1f} %" if len(steps) > 1 else f"at iteration {steps[0]}"
    return Tile("Held-out accuracy", f"{100 * means[-1]:.1f} %", more, spark(means))
