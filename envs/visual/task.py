"""What a visual task is: it makes a scene, a question about it, the answer and a worked solution, and paints the scene.

A scene is plain data (numbers, texts, lists, mappings) that says all there is to see, so that a picture is a function of
its scene: it need not be kept, can be drawn in any process, and is recognised by the hash of the scene. Places in a scene
are thousandths of the picture's width and height, whole numbers; so are boxes in answers, as GLM-4.1V-Thinking has them.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import PIL.Image
from pydantic import Field

from rlcs.config_section import Section

Scene = dict[str, Any]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in thousandths of the picture."""


class Params(Section):
    """Parameters of a level that every task has."""

    size: int = Field(112, ge=56, le=1024, description="Width and height of the picture in pixels.")


P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with all that belongs to it."""

    question: str
    answer: str
    """The reference, as the task's verifier takes it."""
    thinking: str
    """Of the worked solution: at most 60 characters."""
    scenes: tuple[Scene, ...]
    """One for each picture, or for each frame of the one video."""
    fps: float | None = None
    """Frames a second, where the scenes are a video."""
    worked_answer: str | None = None
    """How the worked solution writes the answer; the reference if None."""
    columns: dict[str, Any] = field(default_factory=dict)
    """What the verifier wants to know beside the reference."""


class VisualTask(ABC, Generic[P]):
    """A kind of question about pictures of a kind. Without state: everything depends on the arguments."""

    verifier: ClassVar[str]
    """Name of the reward that checks answers."""
    params: ClassVar[type[Params]]
    """The parameters of a level."""
    levels: ClassVar[tuple[dict[str, Any], ...]]
    """Parameters of the five built-in levels, easy to hard."""

    @abstractmethod
    def sample(self, rng: random.Random, params: P) -> Sample:
        """A question, drawn by `rng` and nothing else."""

    @abstractmethod
    def paint(self, scene: Scene) -> PIL.Image.Image:
        """The RGB picture of a scene of this task."""
