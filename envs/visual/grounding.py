"""Find the thing of a description, or all of them, among others; boxes in thousandths of the picture."""

from __future__ import annotations

import json
import random
from typing import Any, ClassVar

import PIL.Image
from pydantic import Field, model_validator

from rlcs.envs.visual.canvas import COLORS, SHAPES, centre, scatter
from rlcs.envs.visual.counting import paint_things
from rlcs.envs.visual.task import Box, Params, Sample, Scene, VisualTask

_MAX_THINGS = 16


class GroundingParams(Params):
    """Parameters of a level of `grounding`."""

    least: int = Field(1, ge=0, le=6, description="Fewest things to find; 0: sometimes there is none.")
    most: int = Field(1, ge=1, le=6, description="Most things to find.")
    others: int = Field(1, ge=0, le=10, description="Things that are not to be found.")
    near: bool = Field(False, description="Others share the shape or the colour with what is to be found.")
    hollow: bool = Field(False, description="Some things are outlines, and the description says which.")
    shapes: int = Field(3, ge=2, le=len(SHAPES), description="How many shapes there are.")
    colors: int = Field(3, ge=2, le=len(COLORS), description="How many colours there are.")
    grid: int | None = Field(None, ge=2, le=6, description="Cells in a row; as few as hold the things if null.")
    smallest: int = Field(300, ge=50, le=450, description="Smallest side, in thousandths of the picture.")
    largest: int = Field(400, ge=50, le=450, description="Largest side.")
    snap: int = Field(1, ge=1, le=100, description="Coordinates are multiples of it.")

    @model_validator(mode="after")
    def _fits(self) -> GroundingParams:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is more than most ({self.most})")
        if self.grid and self.most + self.others > self.grid**2:
            raise ValueError(f"{self.most + self.others} things do not fit into a grid of {self.grid}")
        return self


class Grounding(VisualTask[GroundingParams]):
    """Where."""

    verifier = "grounding"
    params = GroundingParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {"grid": 2, "smallest": 350, "largest": 400, "snap": 50},
        {"grid": 3, "others": 2, "smallest": 200, "largest": 250, "colors": 4, "snap": 50},
        {"others": 4, "near": True, "smallest": 180, "largest": 280, "shapes": 4, "colors": 4},
        {"size": 140, "most": 2, "others": 5, "near": True, "smallest": 150, "largest": 250, "shapes": 5, "colors": 5},
        {
            "size": 168,
            "least": 0,
            "most": 3,
            "others": 7,
            "near": True,
            "hollow": True,
            "smallest": 120,
            "largest": 220,
            "shapes": 6,
            "colors": 6,
        },
    )

    def sample(self, rng: random.Random, params: GroundingParams) -> Sample:
        kinds = [
            (shape, color, filled)
            for shape in SHAPES[: params.shapes]
            for color in list(COLORS)[: params.colors]
            for filled in ((True, False) if params.hollow else (True,))
        ]
        target = rng.choice(kinds)
        count = rng.randint(params.least, params.most)
        rest = [kind for kind in kinds if kind != target]
        if params.near:
            least_shared = 2 if params.hollow else 1
            rest = [kind for kind in rest if sum(a == b for a, b in zip(kind, target, strict=True)) >= least_shared]
        found = [target] * count + [rng.choice(rest) for _ in range(params.others)]
        boxes = scatter(rng, len(found), smallest=params.smallest, largest=params.largest, grid=params.grid)
        boxes = [_snapped(box, params.snap) for box in boxes]
        wanted = sorted(boxes[:count])
        things = [[shape, color, box, filled] for (shape, color, filled), box in zip(found, boxes, strict=True)]
        rng.shuffle(things)
        name = describe(*target) if params.hollow else f"{target[1]} {target[0]}"
        question = f"Box of the {name}: [x1,y1,x2,y2] in 0-1000."
        if params.most > 1 or params.least == 0:
            none = " [] if none." if params.least == 0 else ""
            question = f"Boxes of every {name}: [x1,y1,x2,y2] each, in 0-1000.{none}"
        scene: Scene = {"size": params.size, "things": things}
        thinking = "at " + ", ".join("{} {}".format(*centre(box)) for box in wanted) if wanted else "none"
        return Sample(question, write_boxes(wanted), thinking, (scene,), columns=BOX_COLUMNS)

    def paint(self, scene: Scene) -> PIL.Image.Image:
        return paint_things(scene)


def _snapped(box: Box, snap: int) -> Box:
    x1, y1, side = (round(value / snap) * snap for value in (box[0], box[1], box[2] - box[0]))
    return x1, y1, x1 + side, y1 + side


BOX_COLUMNS = {"coordinates": "same", "reference_coordinates": "thousand"}
"""What the verifier `grounding` is told of boxes in thousandths."""


def write_boxes(boxes: list[Box]) -> str:
    """Boxes as an answer: one by itself, several in a list."""
    return json.dumps(list(boxes[0]) if len(boxes) == 1 else boxes, separators=(",", ":"))


def describe(shape: str, color: str, filled: bool) -> str:
    """`filled red circle`."""
    return f"{'filled' if filled else 'hollow'} {color} {shape}"
