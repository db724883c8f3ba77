"""Count the things of a description among others."""

from __future__ import annotations

import random
from typing import Any, ClassVar, Literal

import PIL.Image
from pydantic import Field, model_validator

from rlcs.envs.visual.canvas import COLORS, SHAPES, Canvas, scatter
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask

_MAX_THINGS = 24


class CountingParams(Params):
    """Parameters of a level of `counting`."""

    asks: Literal["all", "shape", "color", "both"] = Field(
        "all", description="What is counted: all things (of one kind), a shape, a colour, or both."
    )
    least: int = Field(1, ge=0, le=_MAX_THINGS, description="Smallest count.")
    most: int = Field(3, ge=1, le=_MAX_THINGS, description="Largest count.")
    others: int = Field(0, ge=0, le=_MAX_THINGS, description="Most things that are not counted.")
    shapes: int = Field(2, ge=1, le=len(SHAPES), description="How many shapes there are.")
    colors: int = Field(3, ge=1, le=len(COLORS), description="How many colours there are.")
    smallest: int = Field(200, ge=30, le=400, description="Smallest side, in thousandths of the picture.")
    largest: int = Field(250, ge=30, le=400, description="Largest side; things that do not fit are smaller.")

    @model_validator(mode="after")
    def _fits(self) -> CountingParams:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is more than most ({self.most})")
        if self.most + self.others > _MAX_THINGS:
            raise ValueError(f"most and others are {self.most + self.others} things, more than {_MAX_THINGS}")
        if self.others and self.asks != "all" and min(self.shapes, self.colors) < 2:
            raise ValueError("others need two shapes and two colours at least")
        return self


class Counting(VisualTask[CountingParams]):
    """How many."""

    verifier = "counting"
    params = CountingParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {"least": 1, "most": 3},
        {"least": 1, "most": 5, "smallest": 150, "largest": 220, "shapes": 3},
        {"asks": "color", "least": 1, "most": 5, "others": 3, "smallest": 130, "largest": 200, "shapes": 3},
        {
            "size": 140,
            "asks": "shape",
            "least": 2,
            "most": 8,
            "others": 6,
            "shapes": 4,
            "colors": 5,
            "smallest": 100,
            "largest": 160,
        },
        {
            "size": 168,
            "asks": "both",
            "least": 3,
            "most": 12,
            "others": 12,
            "shapes": 6,
            "colors": 6,
            "smallest": 80,
            "largest": 140,
        },
    )

    def sample(self, rng: random.Random, params: CountingParams) -> Sample:
        shapes, colors = SHAPES[: params.shapes], list(COLORS)[: params.colors]
        shape, color = rng.choice(shapes), rng.choice(colors)
        count = rng.randint(params.least, params.most)
        kinds = [(shape, color)] * count
        if params.asks == "shape":
            kinds = [(shape, rng.choice(colors)) for _ in range(count)]
        elif params.asks == "color":
            kinds = [(rng.choice(shapes), color) for _ in range(count)]
        others = 0 if params.asks == "all" else rng.randint(min(1, params.others), params.others)
        for _ in range(others):
            kinds.append(_other(rng, params.asks, shape, color, shapes, colors))
        boxes = scatter(rng, len(kinds), smallest=params.smallest, largest=params.largest, grid=_grid(len(kinds)))
        things = [[shape, color, box] for (shape, color), box in zip(kinds, boxes, strict=True)]
        rng.shuffle(things)
        wanted = {"all": f"{shape}s", "shape": f"{shape}s", "color": f"{color} shapes", "both": f"{color} {shape}s"}
        scene: Scene = {"size": params.size, "things": things}
        question = f"How many {wanted[params.asks]}?".replace("crosss", "crosses")
        return Sample(question, str(count), " ".join(str(n + 1) for n in range(count)) or "none", (scene,))

    def paint(self, scene: Scene) -> PIL.Image.Image:
        return paint_things(scene)


def paint_things(scene: Scene) -> PIL.Image.Image:
    """The picture of a scene with a `size` and `things`: shape, colour, box and, if it is hollow, False."""
    canvas = Canvas(scene["size"], smooth=True)
    for shape, color, box, *filled in scene["things"]:
        canvas.shape(shape, box, COLORS[color], filled=filled[0] if filled else True)
    return canvas.image()


def _grid(count: int) -> int:
    return next(grid for grid in range(2, 9) if grid * grid >= count * 1.2)


def _other(
    rng: random.Random, asks: str, shape: str, color: str, shapes: tuple[str, ...], colors: list[str]
) -> tuple[str, str]:
    """A thing that is not counted, often near to it."""
    other_shapes = [name for name in shapes if name != shape]
    other_colors = [name for name in colors if name != color]
    if asks == "shape":
        return rng.choice(other_shapes), rng.choice(colors)
    if asks == "color":
        return rng.choice(shapes), rng.choice(other_colors)
    return (
        (shape, rng.choice(other_colors))
        if rng.random() < 0.5
        else (rng.choice(other_shapes), rng.choice((color, *colors)))
    )
