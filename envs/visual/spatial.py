"""Where things are to each other: left or right, above or below, nearest, inside."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import PIL.Image
from pydantic import Field

from rlcs.envs.visual.canvas import COLORS, SHAPES, centre, scatter
from rlcs.envs.visual.counting import paint_things
from rlcs.envs.visual.task import Box, Params, Sample, Scene, VisualTask

Ask = Literal["side", "direction", "diagonal", "nearest", "inside", "true", "rank"]
Thing = tuple[str, str, Box]
"""Shape, colour, box."""

_NEAREST_RATIO = 1.35
"""The second nearest is at least so much farther away."""
_CLEAR = 90
"""Things count as beside each other on an axis only if their middles differ by more, in thousandths."""
_ORDINALS = ("first", "second", "third", "fourth")


class SpatialParams(Params):
    """Parameters of a level of `spatial`."""

    asks: list[Ask] = Field(
        ["side"],
        min_length=1,
        description="Kinds of questions: side (left or right), direction (or above, below), diagonal (upper left, ...), "
        "nearest, inside, true (yes or no), rank (second from the left).",
    )
    things: int = Field(2, ge=2, le=7, description="How many things there are.")
    shapes: int = Field(3, ge=3, le=len(SHAPES), description="How many shapes there are.")
    colors: int = Field(3, ge=3, le=len(COLORS), description="How many colours there are.")
    smallest: int = Field(250, ge=60, le=400, description="Smallest side, in thousandths of the picture.")
    largest: int = Field(350, ge=60, le=400, description="Largest side.")
    snap: int = Field(
        10, ge=10, le=500, description="Worked solutions say where things are in multiples of it, in thousandths."
    )


class Spatial(VisualTask[SpatialParams]):
    """Relations of things that are all different."""

    verifier = "spatial"
    params = SpatialParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"asks": ["direction"], "smallest": 200, "largest": 300},
        {"asks": ["direction", "nearest"], "things": 3, "smallest": 180, "largest": 260, "colors": 4},
        {
            "size": 140,
            "asks": ["nearest", "inside", "diagonal"],
            "things": 4,
            "smallest": 130,
            "largest": 220,
            "shapes": 5,
            "colors": 5,
        },
        {
            "size": 168,
            "asks": ["nearest", "inside", "true", "rank"],
            "things": 6,
            "smallest": 100,
            "largest": 180,
            "shapes": 6,
            "colors": 7,
        },
    )

    def sample(self, rng: random.Random, params: SpatialParams) -> Sample:
        ask = rng.choice(params.asks)
        while True:  # until the places leave no doubt, in a few rounds
            kinds = rng.sample(
                [(s, c) for s in SHAPES[: params.shapes] for c in list(COLORS)[: params.colors]], params.things
            )
            boxes = scatter(rng, params.things, smallest=params.smallest, largest=params.largest)
            things: list[Thing] = [(*kind, box) for kind, box in zip(kinds, boxes, strict=True)]
            asked = _ask_inside(rng, things, params.snap) if ask == "inside" else _ask(ask, rng, things, params.snap)
            if asked is not None:
                break
        question, answer, thinking, things = asked
        scene: Scene = {"size": params.size, "things": things}
        return Sample(question, answer, thinking, (scene,))

    def paint(self, scene: Scene) -> PIL.Image.Image:
        return paint_things(scene)


Asked = tuple[str, str, str, list[Thing]]
"""Question, answer, thinking, and what is to be seen."""


def _ask(ask: str, rng: random.Random, things: list[Thing], snap: int) -> Asked | None:
    """A question about things as they lie; None where the answer could be argued about."""
    one, other = things[0], things[1]
    dx, dy = (a - b for a, b in zip(_middle(one), _middle(other), strict=True))
    seen = f"{_at(one, snap)}, {_at(other, snap)}"
    if ask == "nearest":
        rest = sorted(things[1:], key=lambda thing: _distance(one, thing))
        if len(rest) > 1 and _distance(one, rest[1]) < _NEAREST_RATIO * _distance(one, rest[0]):
            return None
        thinking = f"{_at(one, snap)}; {_at(rest[0], snap)}"
        return f"Which shape is nearest to the {_name(one)}?", _name(rest[0]), thinking, things
    if ask == "rank":
        order = sorted(things, key=_middle)
        gaps = [_middle(b)[0] - _middle(a)[0] for a, b in itertools.pairwise(order)]
        if min(gaps) < _CLEAR // 2:
            return None
        rank = rng.randrange(min(len(order), len(_ORDINALS)))
        question = f"Which shape is {_ORDINALS[rank]} from the left?"
        colors = ", ".join(thing[1] for thing in order[: rank + 1])
        return question, _name(order[rank]), colors, things
    if ask == "side":
        if abs(dx) < 2 * _CLEAR:
            return None
        side = "left" if dx < 0 else "right"
        return f"Is the {_name(one)} left or right of the {_name(other)}?", side, seen, things
    if ask == "diagonal":
        if min(abs(dx), abs(dy)) < _CLEAR:
            return None
        answer = f"{'upper' if dy < 0 else 'lower'} {'left' if dx < 0 else 'right'}"
        question = (
            f"Where is the {_name(one)} from the {_name(other)}: upper left, upper right, lower left, lower right?"
        )
        return question, answer, seen, things
    # One axis must leave no doubt, and things must differ less on the other.
    if max(abs(dx), abs(dy)) < 2 * _CLEAR or abs(abs(dx) - abs(dy)) < _CLEAR:
        return None
    if abs(dx) > abs(dy):
        answer = "left" if dx < 0 else "right"
    else:
        answer = "above" if dy < 0 else "below"
    if ask == "direction":
        question = f"Where is the {_name(one)} from the {_name(other)}: left, right, above, below?"
        return question, answer, seen, things
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    said = answer if rng.random() < 0.5 else opposite[answer]
    words = f"{said} of" if said in ("left", "right") else said
    return f"Is the {_name(one)} {words} the {_name(other)}?", "yes" if said == answer else "no", seen, things


def _ask_inside(rng: random.Random, things: list[Thing], snap: int) -> Asked | None:
    """The first thing becomes a small one inside of a large frame; sometimes the frame is empty."""
    frame_shape = rng.choice(("circle", "square"))
    x1, y1, x2, y2 = things[1][2]
    if x2 - x1 < 120:
        return None
    color = things[1][1]
    rest = things[2:]
    if any(thing[:2] == (frame_shape, color) for thing in (things[0], *rest)):
        return None
    side = (x2 - x1) * 45 // 100
    x, y = (x1 + x2 - side) // 2, (y1 + y2 - side) // 2
    shape, inner_color, _ = things[0]
    if inner_color == color:
        return None
    inner: Thing = (shape, inner_color, (x, y, x + side, y + side))
    frame: Thing = (frame_shape, color, (x1, y1, x2, y2))
    # The frame is drawn first, hollow, with the small thing on it.
    drawn: list[Any] = [(*frame, False), inner, *rest]
    question = f"Which shape is inside the {color} {frame_shape}?"
    return question, _name(inner), f"{_at(frame, snap)}, {_at(inner, snap)}", drawn


def _name(thing: Sequence[Any]) -> str:
    return f"{thing[1]} {thing[0]}"


def _at(thing: Thing, snap: int) -> str:
    """`red circle 25 75`: colour, shape and middle in hundredths, for worked solutions."""
    return "{} {} {}".format(_name(thing), *centre(thing[2], snap))


def _middle(thing: Thing) -> tuple[int, int]:
    box = thing[2]
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2


def _distance(one: Thing, other: Thing) -> float:
    (ax, ay), (bx, by) = _middle(one), _middle(other)
    return float(((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5)
