"""Charts drawn by matplotlib (Agg), as most charts that a model meets are."""

from __future__ import annotations

from typing import Any

import PIL.Image

from rlcs.envs.visual.chart_drawing import chart_colors
from rlcs.envs.visual.task import Scene

_DPI = 100


def draw_with_matplotlib(scene: Scene) -> PIL.Image.Image:
    """The picture of a chart's scene. Needs no display, and leaves matplotlib's global state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = scene["size"]
    figure = Figure(figsize=(size / _DPI, size / _DPI), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = max(6.0, size * 0.068 * 72 / _DPI)
    colors = [tuple(channel / 255 for channel in color) for color in chart_colors(scene)]
    if scene["kind"] == "pie":
        _draw_pie(axes, scene, colors, points)
    else:
        _draw_series(axes, scene, colors, points)
    canvas.draw()
    return PIL.Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _draw_pie(axes: Any, scene: Scene, colors: list[Any], points: float) -> None:
    (values,) = scene["values"]
    percent = {"autopct": "%.0f%%"} if scene["printed"] else {}
    axes.pie(
        values,
        labels=scene["labels"],
        colors=colors,
        startangle=90,
        counterclock=False,
        textprops={"fontsize": points},
        **percent,
    )


def _draw_series(axes: Any, scene: Scene, colors: list[Any], points: float) -> None:
    places = range(len(scene["labels"]))
    width = 0.7 / len(scene["values"])
    for number, (name, values) in enumerate(zip(scene["names"], scene["values"], strict=True)):
        if scene["kind"] == "bar":
            offset = (number - (len(scene["values"]) - 1) / 2) * width
            bars = axes.bar([place + offset for place in places], values, width, color=colors[number], label=name)
            if scene["printed"]:
                axes.bar_label(bars, fontsize=points)
        else:
            axes.plot(places, values, color=colors[number], marker="o", markersize=points / 3, label=name)
            if scene["printed"]:
                for place, value in zip(places, values, strict=True):
                    axes.annotate(
                        str(value), (place, value), (0, 3), textcoords="offset points", ha="center", fontsize=points
                    )
    fitting = 90.0 * scene["size"] / 100 / sum(len(label) for label in scene["labels"])
    axes.set_xticks(places, scene["labels"], fontsize=max(5.0, min(points, fitting)))
    axes.set_ylim(0, scene["top"] * (1.2 if scene["printed"] else 1.1))
    if scene["printed"]:
        axes.set_yticks([])
    else:
        ticks = [scene["top"] * i / 5 for i in range(6)]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=points)
        axes.grid(axis="y", linewidth=0.5)
        axes.set_axisbelow(True)
    if len(scene["names"]) > 1:
        axes.figure.legend(loc="outside upper center", ncols=2, fontsize=points)
