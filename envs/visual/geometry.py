"""Plane geometry in a picture: areas, perimeters, angles, right triangles. Lengths are written at the sides."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import PIL.Image
from pydantic import Field

from rlcs.envs.visual.canvas import Canvas, Point
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask

Ask = Literal["area", "perimeter", "angle", "isosceles", "triangle", "hypotenuse", "leg", "corner", "circle"]
_TRIPLES = ((3, 4, 5), (6, 8, 10), (5, 12, 13), (9, 12, 15), (8, 15, 17), (12, 16, 20), (7, 24, 25), (15, 20, 25))


class GeometryParams(Params):
    """Parameters of a level of `geometry`."""

    asks: list[Ask] = Field(
        ["area"],
        min_length=1,
        description="Kinds of questions: area and perimeter (of a rectangle), angle (the third of a triangle), isosceles "
        "(a base angle), triangle (area), hypotenuse, leg, corner (area of an L), circle (area, in terms of pi).",
    )
    largest: int = Field(5, ge=3, le=50, description="Longest side.")
    step: int = Field(10, ge=1, le=10, description="Angles are multiples of it.")


class Geometry(VisualTask[GeometryParams]):
    """Find the number that is asked for."""

    verifier = "math"
    params = GeometryParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"asks": ["area", "perimeter"], "largest": 9},
        {"asks": ["perimeter", "angle", "triangle"], "largest": 12},
        {"size": 140, "asks": ["angle", "hypotenuse", "triangle", "isosceles"], "largest": 20, "step": 5},
        {"size": 140, "asks": ["leg", "corner", "circle", "isosceles", "angle"], "largest": 15, "step": 1},
    )

    def sample(self, rng: random.Random, params: GeometryParams) -> Sample:
        question, answer, thinking, figure = _ASKS[rng.choice(params.asks)](rng, params)
        return Sample(question, answer, thinking, ({"size": params.size, **figure},))

    def paint(self, scene: Scene) -> PIL.Image.Image:
        canvas = Canvas(scene["size"], smooth=True)
        pixels = max(11.0, scene["size"] * 0.1)
        if "radius" in scene:
            x1, y1, x2, y2 = 200, 200, 800, 800
            canvas.ellipse((x1, y1, x2, y2), (235, 242, 252), (20, 40, 140), 2)
            canvas.line([(500, 500), (x2, 500)], (20, 40, 140), 1.5)
            canvas.ellipse((485, 485, 515, 515), "black")
            canvas.text((650, 430), scene["radius"], pixels)
            return canvas.image()
        corners: list[Point] = [(x, y) for x, y in scene["corners"]]
        canvas.polygon(corners, (235, 242, 252))
        canvas.line([*corners, corners[0], corners[1]], (20, 40, 140), 2)
        if scene.get("right"):
            _mark_right_angle(canvas, corners)
        middle, turn = _mean(corners), _turn(corners)
        for index, label in enumerate(scene.get("sides", [])):
            if label:
                canvas.text(_outside(corners[index], corners[(index + 1) % len(corners)], 85 * turn), label, pixels)
        for corner, label in zip(corners, scene.get("angles", []), strict=False):
            canvas.text(_away(corner, middle, 90), label, pixels)
        return canvas.image()


Asked = tuple[str, str, str, Scene]
"""Question, answer, thinking, and the figure's part of the scene."""


def _rectangle(rng: random.Random, largest: int) -> tuple[int, int, Scene]:
    width, height = rng.randint(1, largest), rng.randint(1, largest)
    # To scale within limits: a side of 1 by 9 would leave no room for its label.
    ratio = min(2.0, max(0.5, width / height))
    half_x, half_y = (round(300 * min(1.0, r)) for r in (ratio, 1 / ratio))
    x, y = rng.randint(470, 530), rng.randint(470, 530)
    corners = [(x - half_x, y - half_y), (x + half_x, y - half_y), (x + half_x, y + half_y), (x - half_x, y + half_y)]
    # The bottom and the right side have labels.
    return width, height, {"corners": corners, "sides": ["", str(height), str(width), ""]}


def _area(rng: random.Random, params: GeometryParams) -> Asked:
    width, height, figure = _rectangle(rng, params.largest)
    return "Area of the rectangle?", str(width * height), f"{width}*{height}={width * height}", figure


def _perimeter(rng: random.Random, params: GeometryParams) -> Asked:
    width, height, figure = _rectangle(rng, params.largest)
    around = 2 * (width + height)
    return "Perimeter of the rectangle?", str(around), f"2*({width}+{height})={around}", figure


def _angle(rng: random.Random, params: GeometryParams) -> Asked:
    one = rng.randrange(30, 101, params.step)
    other = rng.randrange(30, min(101, 151 - one), params.step)
    third = 180 - one - other
    figure = _triangle(rng, one, other, [f"{one}°", f"{other}°", "x"])
    return "Find the angle x in degrees.", str(third), f"180-{one}-{other}={third}", figure


def _isosceles(rng: random.Random, params: GeometryParams) -> Asked:
    base = rng.randrange(30, 76, params.step)
    apex = 180 - 2 * base
    figure = _triangle(rng, base, base, ["x", "", f"{apex}°"], sides=["", "a", "a"])
    return "The sides a are equal. Find the angle x in degrees.", str(base), f"(180-{apex})/2={base}", figure


def _triangle_area(rng: random.Random, params: GeometryParams) -> Asked:
    base, height = rng.randint(2, params.largest), rng.randint(2, params.largest)
    if base * height % 2:
        base += 1
    area = base * height // 2
    figure: Scene = {
        "corners": [(220, 250), (220, 780), (800, 780)],
        "right": True,
        "sides": [str(height), str(base), ""],
    }
    return "Area of the triangle?", str(area), f"{base}*{height}/2={area}", figure


def _hypotenuse(rng: random.Random, params: GeometryParams) -> Asked:
    a, b, c = _triple(rng, params.largest)
    figure: Scene = {"corners": [(220, 250), (220, 780), (800, 780)], "right": True, "sides": [str(a), str(b), "x"]}
    return "Find the length x.", str(c), f"{a}^2+{b}^2={c * c}", figure


def _leg(rng: random.Random, params: GeometryParams) -> Asked:
    a, b, c = _triple(rng, params.largest)
    figure: Scene = {"corners": [(220, 250), (220, 780), (800, 780)], "right": True, "sides": [str(a), "x", str(c)]}
    return "Find the length x.", str(b), f"{c}^2-{a}^2={b * b}", figure


def _corner(rng: random.Random, params: GeometryParams) -> Asked:
    width, height = rng.randint(4, params.largest), rng.randint(4, params.largest)
    upper, lower = rng.randint(2, width - 2), rng.randint(2, height - 2)
    cut_x, cut_y = 180 + 640 * upper // width, 820 - 640 * lower // height
    cut_x, cut_y = min(max(cut_x, 380), 620), min(max(cut_y, 380), 620)
    corners = [(180, 180), (cut_x, 180), (cut_x, cut_y), (820, cut_y), (820, 820), (180, 820)]
    area = width * height - (width - upper) * (height - lower)
    figure: Scene = {"corners": corners, "sides": [str(upper), "", "", str(lower), str(width), str(height)]}
    return "Area of the figure?", str(area), f"{width}*{height}-{width - upper}*{height - lower}={area}", figure


def _circle(rng: random.Random, params: GeometryParams) -> Asked:
    radius = rng.randint(2, params.largest)
    figure: Scene = {"radius": str(radius)}
    return "Area of the circle, with \\pi?", f"{radius * radius}\\pi", f"{radius}^2={radius * radius}", figure


_ASKS: dict[str, Callable[[random.Random, GeometryParams], Asked]] = {
    "area": _area,
    "perimeter": _perimeter,
    "angle": _angle,
    "isosceles": _isosceles,
    "triangle": _triangle_area,
    "hypotenuse": _hypotenuse,
    "leg": _leg,
    "corner": _corner,
    "circle": _circle,
}


def _triple(rng: random.Random, largest: int) -> tuple[int, int, int]:
    a, b, c = rng.choice([triple for triple in _TRIPLES if triple[2] <= largest] or _TRIPLES[:1])
    return (a, b, c) if rng.random() < 0.5 else (b, a, c)


def _triangle(rng: random.Random, one: int, other: int, angles: list[str], sides: list[str] | None = None) -> Scene:
    """A triangle with two angles at its base (left, right), to scale, somewhat turned; the third is at the top."""
    a, b = math.radians(one), math.radians(other)
    height = math.sin(a) * math.sin(b) / math.sin(a + b)
    raw = [(0.0, 0.0), (1.0, 0.0), (height / math.tan(a), -height)]
    turn = math.radians(rng.randint(-15, 15))
    turned = [(x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)) for x, y in raw]
    xs, ys = [x for x, _ in turned], [y for _, y in turned]
    scale = min(600 / (max(xs) - min(xs)), 600 / (max(ys) - min(ys)))
    # Whole thousandths: a scene must be the same on every machine.
    corners = [
        (
            round(500 + (x - (max(xs) + min(xs)) / 2) * scale),
            round(510 + (y - (max(ys) + min(ys)) / 2) * scale),
        )
        for x, y in turned
    ]
    scene: Scene = {"corners": corners, "angles": angles}
    return {**scene, "sides": sides} if sides else scene


def _mean(points: list[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _away(point: Point, middle: Point, distance: float) -> Point:
    """A point farther from the middle by a distance."""
    dx, dy = point[0] - middle[0], point[1] - middle[1]
    length = math.hypot(dx, dy) or 1.0
    return point[0] + dx / length * distance, point[1] + dy / length * distance


def _outside(one: Point, other: Point, distance: float) -> Point:
    """Beside the middle of a side: to its left as one goes along it, to its right if the distance is negative."""
    dx, dy = other[0] - one[0], other[1] - one[1]
    length = math.hypot(dx, dy) or 1.0
    return (one[0] + other[0]) / 2 + dy / length * distance, (one[1] + other[1]) / 2 - dx / length * distance


def _turn(corners: list[Point]) -> int:
    """1 if the corners go around clockwise as one sees them, so that the outside is on the left; else -1."""
    area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True))
    return 1 if area > 0 else -1


def _mark_right_angle(canvas: Canvas, corners: list[Point]) -> None:
    """The right angle is at the second corner, its sides go up and to the right."""
    x, y = corners[1]
    canvas.line([(x, y - 70), (x + 70, y - 70), (x + 70, y)], (20, 40, 140), 1)
