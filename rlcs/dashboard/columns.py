"""The metrics of a run as columns that grow: one array a metric, without a dict for every iteration.

Shapes: n iterations that have a metric.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.json_text import finite
from rlcs.runlog import is_step

Floats = NDArray[np.float64]


@dataclass(slots=True)
class _Column:
    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


class Columns:
    """Named series over iterations."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self.restarts = 0
        """How often the run went back to a checkpoint while it was read."""
        self.last_step = 0
        self.last_time: float | None = None
        """When the last line was written, in seconds since 1970; None where the run does not say."""
        self.first_time: float | None = None

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines of metrics.jsonl. What is no number is passed over."""
        for line in lines:
            step = line.get("step")
            if not is_step(step):
                continue
            self.last_step = max(self.last_step, step)
            when = finite(line.get("time"))
            if when is not None:
                self.last_time = when
                self.first_time = self.first_time or when
            for name, value in line.items():
                if "/" in name and isinstance(value, int | float) and (isinstance(value, float) or abs(value) < 2**53):
                    column = self._columns.get(name)
                    if column is None:
                        column = self._columns[name] = _Column()
                    column.steps.append(step)
                    column.values.append(float(value))

    @property
    def names(self) -> list[str]:
        """All metrics, by name."""
        return sorted(self._columns)

    def below(self, prefix: str) -> list[str]:
        """The last parts of the names PREFIX/NAME, sorted; deeper ones are left out."""
        start = f"{prefix}/"
        rest = (name.removeprefix(start) for name in self._columns if name.startswith(start))
        return sorted(name for name in rest if "/" not in name)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def series(self, name: str) -> tuple[Floats, Floats]:
        """[n] iterations and [n] values of a metric; empty where there is none."""
        column = self._columns.get(name)
        if column is None:
            return np.empty(0), np.empty(0)
        # Copies: an array that numpy looks into could not grow.
        return np.array(column.steps, dtype=np.float64), np.array(column.values, dtype=np.float64)

    def last(self, name: str, window: int = 1) -> float | None:
        """The mean of the last `window` finite values, or None."""
        column = self._columns.get(name)
        if column is None:
            return None
        values = np.array(column.values[-window:], dtype=np.float64)
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else None


def thin(x: Floats, y: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` points that draw the same line: the least and the greatest of each bucket, and the ends.

    Values that are not finite are kept only where a bucket has nothing else.
    """
    n = len(x)
    if n <= most:
        return np.arange(n, dtype=np.int64)
    width = -(-n // max(1, (most - 2) // 2))
    rows = -(-n // width)
    shape, padding = (rows, width), rows * width - n
    filled = np.where(np.isfinite(y), y, np.nan)
    lowest = np.pad(np.where(np.isnan(filled), np.inf, filled), (0, padding), constant_values=np.inf)
    highest = np.pad(np.where(np.isnan(filled), -np.inf, filled), (0, padding), constant_values=-np.inf)
    starts = np.arange(rows) * width
    picked = [starts + lowest.reshape(shape).argmin(axis=1), starts + highest.reshape(shape).argmax(axis=1), [0, n - 1]]
    return np.unique(np.concatenate(picked)).astype(np.int64)
