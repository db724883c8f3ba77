"""Short videos of moving shapes: when one comes in, which way it goes, in which order they come, how many there are.

Two frames a second, and what happens begins at whole seconds: a policy that merges frames in pairs sees a whole second.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar, Literal

import PIL.Image
from pydantic import Field, model_validator

from rlcs.envs.visual.canvas import COLORS, SHAPES
from rlcs.envs.visual.counting import paint_things
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask

FPS = 2
Ask = Literal["when", "direction", "order", "count", "span"]


class VideoParams(Params):
    """Parameters of a level of `video`."""

    seconds: int = Field(3, ge=2, le=16, description="Length; two frames a second.")
    asks: list[Ask] = Field(
        ["when"],
        min_length=1,
        description="Kinds of questions: when (a shape comes in), direction (it moves), order (in which they come), "
        "count (how many there were), span (from when to when one is seen).",
    )
    least: int = Field(1, ge=1, le=6, description="Fewest shapes.")
    most: int = Field(1, ge=1, le=6, description="Most shapes.")
    shapes: int = Field(2, ge=1, le=len(SHAPES), description="How many kinds of shapes there are.")
    side: int = Field(300, ge=80, le=400, description="Side of a shape, in thousandths; smaller if there are many.")

    @model_validator(mode="after")
    def _fits(self) -> VideoParams:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is more than most ({self.most})")
        if "order" in self.asks and not 2 <= self.least <= self.most <= self.seconds:
            raise ValueError("the order is asked of two shapes or more, and of no more than there are seconds")
        if "span" in self.asks and self.seconds < 4:
            raise ValueError("a span is asked of a video of four seconds or more")
        return self


class MovingShapes(VisualTask[VideoParams]):
    """Each shape has a colour and a lane of its own, comes in at a whole second and crosses the picture."""

    verifier = "video"
    params = VideoParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"seconds": 4, "asks": ["when", "direction"], "shapes": 3},
        {"seconds": 4, "asks": ["when", "count", "order"], "least": 2, "most": 3, "shapes": 4, "side": 240},
        {
            "size": 140,
            "seconds": 6,
            "asks": ["when", "direction", "span", "count"],
            "least": 2,
            "most": 4,
            "shapes": 5,
            "side": 180,
        },
        {
            "size": 140,
            "seconds": 8,
            "asks": ["order", "span", "count"],
            "least": 3,
            "most": 6,
            "shapes": 6,
            "side": 140,
        },
    )

    def sample(self, rng: random.Random, params: VideoParams) -> Sample:
        ask = rng.choice(params.asks)
        count = rng.randint(params.least, params.most)
        colors = rng.sample(list(COLORS)[:7], count)
        # Nobody can come later than a second before the end, or one second is all there is of it.
        starts = list(range(params.seconds))
        begins = rng.sample(starts, count) if ask == "order" else [rng.choice(starts) for _ in range(count)]
        lane = 960 // count
        side = min(params.side, lane * 9 // 10)
        actors = []
        for index, (color, begin) in enumerate(zip(colors, begins, strict=True)):
            longest = params.seconds - begin
            stay = longest
            if ask == "span" or (count > 1 and ask in ("when", "count")):
                stay = rng.randint(min(2, longest), longest)
            actors.append(
                {
                    "shape": rng.choice(SHAPES[: params.shapes]),
                    "color": color,
                    "begin": begin,
                    "end": begin + stay,
                    "rightward": rng.random() < 0.5,
                    "y": 20 + index * lane + rng.randint(0, lane - side),
                    "side": side,
                }
            )
        if ask == "direction":  # needs time to move
            actors[0].update(begin=min(begins[0], params.seconds - 2), end=params.seconds)
        if ask == "span":
            begin = min(begins[0], params.seconds - 2)
            actors[0].update(begin=begin, end=rng.randint(begin + 2, params.seconds))
        frames = tuple(_frame(params.size, actors, index, params.seconds) for index in range(params.seconds * FPS))
        question, answer, thinking, columns = _ask(ask, actors)
        return Sample(question, answer, thinking, frames, float(FPS), columns=columns)

    def paint(self, scene: Scene) -> PIL.Image.Image:
        return paint_things(scene)


def _frame(size: int, actors: list[dict[str, Any]], index: int, seconds: int) -> Scene:
    """What is to be seen at half a second `index`."""
    things = []
    for actor in actors:
        begin, end = actor["begin"] * FPS, actor["end"] * FPS
        if begin <= index < end:
            # Of the way across, a shape makes as much as the time allows, at one speed for all.
            way = (1000 - actor["side"]) * (index - begin) // max(1, min(seconds, 4) * FPS - 1)
            way = min(way, 1000 - actor["side"])
            x = way if actor["rightward"] else 1000 - actor["side"] - way
            things.append(
                [actor["shape"], actor["color"], [x, actor["y"], x + actor["side"], actor["y"] + actor["side"]]]
            )
    return {"size": size, "things": things}


def _ask(ask: Ask, actors: list[dict[str, Any]]) -> tuple[str, str, str, dict[str, Any]]:
    """Question, answer, thinking and columns."""
    first = actors[0]
    name = f"{first['color']} {first['shape']}"
    if ask == "when":
        question = f"When does the {name} come in? Like 3 s."
        columns = {"answer_kind": "timestamp", "tolerance_s": 0.5}
        return question, f"{first['begin']} s", f"{first['color']} from {first['begin']} s", columns
    if ask == "direction":
        way = "right" if first["rightward"] else "left"
        ends = "left to right" if first["rightward"] else "right to left"
        return f"Does the {name} move left or right?", way, ends, {"answer_kind": "text"}
    if ask == "order":
        sorted_actors = sorted(actors, key=lambda actor: actor["begin"])
        order = [actor["color"] for actor in sorted_actors]
        times = " ".join(f"{actor['color']} {actor['begin']}" for actor in sorted_actors)
        return (
            "In which order do the colors come in? Like red -> blue.",
            " -> ".join(order),
            times,
            {"answer_kind": "order"},
        )
    if ask == "count":
        colors = " ".join(sorted(actor["color"] for actor in actors))
        return "How many shapes come in during the video?", str(len(actors)), colors, {"answer_kind": "text"}
    question = f"From when to when is the {name} seen? Like [1,3] in seconds."
    answer = f"[{first['begin']},{first['end']}]"
    return question, answer, f"{first['begin']} s, gone at {first['end']} s", {"answer_kind": "spans"}
