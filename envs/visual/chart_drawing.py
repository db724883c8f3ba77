"""Charts drawn with Pillow: bars, lines and pies with labels, and either printed values or an axis with grid lines."""

from __future__ import annotations

import math

import PIL.Image

from rlcs.envs.visual.canvas import COLORS, Canvas, Color
from rlcs.envs.visual.task import Scene

_PALETTE = ("blue", "orange", "green", "red", "purple", "gray", "yellow")
_GRID: Color = (205, 205, 205)
_BOTTOM, _RIGHT = 880.0, 970.0


def chart_colors(scene: Scene) -> list[tuple[int, int, int]]:
    """The colours of the chart's series or slices, from a place in the palette on."""
    first = scene["palette"]
    return [COLORS[_PALETTE[(first + i) % len(_PALETTE)]] for i in range(len(_PALETTE))]


def draw_chart(scene: Scene) -> PIL.Image.Image:
    """The picture of a chart's scene."""
    canvas = Canvas(scene["size"], smooth=True)
    if scene["kind"] == "pie":
        _draw_pie(canvas, scene)
    else:
        _draw_axes(canvas, scene)
        (_draw_bars if scene["kind"] == "bar" else _draw_lines)(canvas, scene)
        _draw_legend(canvas, scene)
    return canvas.image()


def _pixels(scene: Scene) -> float:
    """Height of letters: readable in small pictures, not too large in others."""
    return float(max(10, round(scene["size"] * 0.068)))


def _left(scene: Scene) -> float:
    """Where the plot begins: the axis needs room for its numbers."""
    digits = len(str(scene["top"]))
    return 40.0 if scene["printed"] else 45 + digits * 650 * _pixels(scene) / scene["size"]


def _plot_top(scene: Scene) -> float:
    return 150.0 if len(scene["names"]) > 1 else 150.0 if scene["printed"] else 60.0


def _x(scene: Scene, index: float) -> float:
    """The middle of the place of a label."""
    left = _left(scene)
    return left + (index + 0.5) * (_RIGHT - left) / len(scene["labels"])


def _y(scene: Scene, value: float) -> float:
    return _BOTTOM - value / float(scene["top"]) * (_BOTTOM - _plot_top(scene))


def _draw_axes(canvas: Canvas, scene: Scene) -> None:
    left, pixels = _left(scene), _pixels(scene)
    if not scene["printed"]:
        for i in range(6):
            value = scene["top"] * i / 5
            canvas.line([(left, _y(scene, value)), (_RIGHT, _y(scene, value))], _GRID)
            canvas.text((left - 15, _y(scene, value)), f"{value:g}", pixels, anchor="rm")
    canvas.line([(left, _BOTTOM), (_RIGHT, _BOTTOM)], "black")
    slot = (_RIGHT - left) / len(scene["labels"]) * scene["size"] / 1000
    for index, label in enumerate(scene["labels"]):
        fitting = slot / (0.74 * len(label))
        canvas.text((_x(scene, index), 945), label, max(7.0, min(pixels, fitting)))


def _draw_bars(canvas: Canvas, scene: Scene) -> None:
    colors = chart_colors(scene)
    slot = (_RIGHT - _left(scene)) / len(scene["labels"])
    width = 0.7 * slot / len(scene["values"])
    for number, values in enumerate(scene["values"]):
        for index, value in enumerate(values):
            left = _x(scene, index) - 0.35 * slot + number * width
            canvas.rectangle((left, _y(scene, value), left + width, _BOTTOM), colors[number])
            if scene["printed"]:
                canvas.text((left + width / 2, _y(scene, value) - 12), str(value), _pixels(scene) + 2, anchor="mb")


def _draw_lines(canvas: Canvas, scene: Scene) -> None:
    colors = chart_colors(scene)
    radius = 2500 / scene["size"]
    for number, values in enumerate(scene["values"]):
        points = [(_x(scene, index), _y(scene, value)) for index, value in enumerate(values)]
        canvas.line(points, colors[number], 2)
        for (x, y), value in zip(points, values, strict=True):
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), colors[number])
            if scene["printed"]:
                canvas.text((x, y - radius - 10), str(value), _pixels(scene), anchor="mb")


def _draw_legend(canvas: Canvas, scene: Scene) -> None:
    if len(scene["names"]) == 1:
        return
    for number, (name, color) in enumerate(zip(scene["names"], chart_colors(scene), strict=False)):
        x = 200 + number * 400
        canvas.rectangle((x, 45, x + 60, 105), color)
        canvas.text((x + 80, 75), name, _pixels(scene), anchor="lm")


def _draw_pie(canvas: Canvas, scene: Scene) -> None:
    colors = chart_colors(scene)
    (values,) = scene["values"]
    angle = -90.0
    for index, value in enumerate(values):
        end = angle + 360.0 * value / sum(values)
        canvas.slice((170, 170, 830, 830), angle, end, colors[index], "white")
        middle = math.radians((angle + end) / 2)
        x, y = math.cos(middle), math.sin(middle)
        canvas.text((500 + 415 * x, 500 + 415 * y), scene["labels"][index], _pixels(scene))
        if scene["printed"]:
            canvas.text((500 + 225 * x, 500 + 225 * y), f"{value}%", _pixels(scene) - 1, "white", font="bold")
        angle = end
