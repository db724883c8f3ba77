"""The environment `visual`: every visual task under one name, so that a run may mix them.

    data:
      env: visual
      tasks: [{task: ocr}, {task: counting, params: {size: 112}}]

A prompt's metadata holds `task`, `verifier` (the reward `per_row` reads it), `thinking` (of the worked solution) and what
the verifier wants beside the reference.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import itertools
import json
import random
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from pydantic import ValidationError

from rlcs.envs.base import Environment, WorkedSolution
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask
from rlcs.errors import ConfigError
from rlcs.images import encode_png
from rlcs.types import Image, Prompt, Video, prompt_id

TASKS = {
    "chart": "chart:Chart",
    "counting": "counting:Counting",
    "document": "document:Document",
    "geometry": "geometry:Geometry",
    "grounding": "grounding:Grounding",
    "gui": "gui:Gui",
    "handwriting": "handwriting:Handwriting",
    "ocr": "ocr:Ocr",
    "spatial": "spatial:Spatial",
    "video": "video:MovingShapes",
}
"""Name of a task to module and class in this package."""

DRAWING_VERSION = 1
"""Part of every picture's digest: to be raised when a painter draws an old scene in another way."""


class VisualEnv(Environment):
    """Visual tasks; each is a domain of its own unless the configuration says otherwise."""

    reward = "per_row"

    def levels(self, task: str) -> list[dict[str, Any]]:
        return [dict(level) for level in load_task(task).levels]

    def generate(self, task: str, params: dict[str, Any], *, domain: str, tier: int, seed: int) -> Iterator[Prompt]:
        """See `Environment.generate`. Raises ConfigError if there is no such task, or it has not such parameters."""
        maker = load_task(task)
        checked = _check_params(task, maker.params, params)
        for index in itertools.count():
            sample = maker.sample(random.Random(f"{task}/{seed}/{index}"), checked)
            yield to_prompt(task, sample, domain=domain, tier=tier)

    def solve(self, prompt: Prompt) -> WorkedSolution | None:
        return WorkedSolution(prompt.metadata["thinking"], prompt.metadata["worked_answer"])


@cache
def load_task(name: str) -> VisualTask[Any]:
    """The task of a name. Raises ConfigError if there is none."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(TASKS)}"
        raise ConfigError(f"data.tasks: the environment visual has no task {name!r}; {hint}")
    module, _, cls = TASKS[name].partition(":")
    task: VisualTask[Any] = getattr(importlib.import_module(f"rlcs.envs.visual.{module}"), cls)()
    return task


def to_prompt(task: str, sample: Sample, *, domain: str, tier: int) -> Prompt:
    """The prompt of a sample: pictures first, then the question."""
    pictures = tuple(scene_image(task, scene) for scene in sample.scenes)
    images = pictures if sample.fps is None else ()
    videos = (Video(pictures, sample.fps),) if sample.fps is not None else ()
    shown = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    messages = [{"role": "user", "content": [*shown, {"type": "text", "text": sample.question}]}]
    metadata = {
        "task": task,
        "verifier": load_task(task).verifier,
        "thinking": sample.thinking,
        "worked_answer": sample.answer if sample.worked_answer is None else sample.worked_answer,
        **sample.columns,
    }
    identity = prompt_id(messages, sample.answer, images, videos)
    return Prompt(identity, messages, sample.answer, domain, tier, metadata, images, videos)


def scene_image(task: str, scene: Scene) -> Image:
    """The picture of a scene, drawn when it is needed; known by the scene."""
    text = json.dumps(scene, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"{task}/{DRAWING_VERSION}/{text}".encode()).hexdigest()[:32]
    return Image(digest, partial(draw, task, text))


def draw(task: str, scene: str) -> bytes:
    """The PNG file of a scene, given as JSON."""
    return encode_png(load_task(task).paint(json.loads(scene)))


def _check_params(task: str, model: type[Params], params: dict[str, Any]) -> Params:
    try:
        return model(**params)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, model.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(model.model_fields)}"
            raise ConfigError(f"data.tasks: the visual task {task!r} has no parameter {name!r}; {hint}") from error
        reason = first["msg"].removeprefix("Value error, ")
        where = f" {name}" if name else ""
        raise ConfigError(
            f"data.tasks: the visual task {task!r} refuses{where} {first['input']!r}: {reason}"
        ) from error
