"""A plot as data, and the small things that all plots need: colours, thinning, numbers that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlcs.dashboard.columns import Floats, thin

MOST_POINTS = 1200
"""Points of a line that are sent to the browser."""
FEW_POINTS = 400
"""The same where there may be many lines."""
NUM_COLOURS = 7
"""Colours that tell domains apart (Okabe and Ito's, without black); more domains get them again, dashed."""

Kind = Literal["lines", "area", "heat", "bars", "sankey", "reliability"]


@dataclass(slots=True)
class Series:
    """A line, or the bars of one colour."""

    name: str
    x: Sequence[float | str]
    y: Sequence[float | None]
    colour: str = "main"
    """`main`, `second`, `muted`, or `d0` to `d6`."""
    low: Sequence[float | None] | None = None
    """Lower edge of a band around the line."""
    high: Sequence[float | None] | None = None
    dashed: bool = False
    points: bool = False
    """Drawn with a mark at each point."""


@dataclass(slots=True)
class Figure:
    """A plot."""

    id: str
    title: str
    """A sentence."""
    kind: Kind
    note: str = ""
    """How to read it, or what follows from it."""
    x_label: str = "iteration"
    y_label: str = ""
    series: list[Series] = field(default_factory=list)
    percent: bool = False
    """Values are shares, shown as per cent; the axis begins at 0."""
    log: bool = False
    zero: bool = False
    """The axis begins at 0."""
    smooth: bool = True
    """Lines may be smoothed by the reader."""
    wide: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    """What one kind needs: cells of a heat map, nodes and links."""
    empty: str = "Nothing was recorded for this yet."
    """What is said where there is nothing to draw."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(len(series.x) for series in self.series) and not self.extra

    def as_json(self) -> dict[str, Any]:
        """For charts.js; None where a value is not finite."""
        return {
            "id": self.id,
            "title": self.title,
            "kind": self.kind,
            "note": self.note,
            "xLabel": self.x_label,
            "yLabel": self.y_label,
            "percent": self.percent,
            "log": self.log,
            "zero": self.zero or self.percent,
            "smooth": self.smooth and self.kind == "lines",
            "wide": self.wide,
            "empty": self.empty if self.is_empty else None,
            "extra": self.extra,
            "series": [
                {
                    "name": series.name,
                    "x": [x if isinstance(x, str) else number(x) for x in series.x],
                    "y": numbers(series.y),
                    "low": None if series.low is None else numbers(series.low),
                    "high": None if series.high is None else numbers(series.high),
                    "colour": series.colour,
                    "dashed": series.dashed,
                    "points": series.points,
                }
                for series in self.series
            ],
        }


def line(
    name: str, data: tuple[Floats, Floats], colour: str = "main", *, dashed: bool = False, most: int = MOST_POINTS
) -> Series:
    """A line of a metric, thinned to `most` points."""
    x, y = data
    kept = thin(x, y, most)
    return Series(name, x[kept].tolist(), y[kept].tolist(), colour, dashed=dashed)


def domain_colour(index: int) -> tuple[str, bool]:
    """Colour and whether the line is dashed of the domain with this place in the sorted list."""
    return f"d{index % NUM_COLOURS}", index >= NUM_COLOURS


def number(value: float | None) -> float | None:
    """Rounded to 6 digits; None where JSON has no word for it."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")


def numbers(values: Iterable[float | None] | NDArray[Any]) -> list[float | None]:
    """`number` of each."""
    return [number(None if value is None else float(value)) for value in values]


def wilson(right: NDArray[Any], total: NDArray[Any], z: float = 1.96) -> tuple[Floats, Floats]:
    """95 % interval of a share (Wilson 1927); NaN where there is nothing."""
    right, total = np.asarray(right, dtype=np.float64), np.asarray(total, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = right / total
        centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
        half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return centre - half, centre + half
