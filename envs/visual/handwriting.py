"""Read handwritten digits: scikit-learn's digits set (1,797 digits of 8 x 8 pixels by 43 people), composed into numbers."""

from __future__ import annotations

import random
from functools import cache
from typing import Any, ClassVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from pydantic import Field

from rlcs.envs.visual.canvas import add_noise
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask
from rlcs.errors import ConfigError

_INKS = ((0, 0, 0), (20, 40, 140), (150, 20, 20))
_PAPER = (255, 252, 240)


class HandwritingParams(Params):
    """Parameters of a level of `handwriting`."""

    min_length: int = Field(1, ge=1, le=8, description="Fewest digits.")
    max_length: int = Field(1, ge=1, le=8, description="Most digits.")
    largest: int = Field(450, ge=100, le=800, description="Side of a digit, in thousandths; smaller if there are many.")
    spread: int = Field(
        1000, ge=0, le=1000, description="Of the room around the digits, what they may move in, in thousandths."
    )
    colors: int = Field(1, ge=1, le=len(_INKS), description="How many colours of ink there are.")
    shift: int = Field(0, ge=0, le=100, description="How far a digit stands from the line, in thousandths.")
    rotation: int = Field(0, ge=0, le=25, description="Largest angle of a digit, in degrees.")
    noise: int = Field(0, ge=0, le=100, description="Strength of the noise.")


class Handwriting(VisualTask[HandwritingParams]):
    """The digits of a picture."""

    verifier = "ocr"
    params = HandwritingParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"min_length": 2, "max_length": 2, "colors": 2},
        {"min_length": 3, "max_length": 3, "colors": 3, "shift": 40},
        {"size": 140, "min_length": 4, "max_length": 5, "colors": 3, "shift": 60, "rotation": 10, "noise": 20},
        {"size": 168, "min_length": 5, "max_length": 7, "colors": 3, "shift": 80, "rotation": 15, "noise": 50},
    )

    def sample(self, rng: random.Random, params: HandwritingParams) -> Sample:
        count = rng.randint(params.min_length, max(params.min_length, params.max_length))
        images, labels = _digits()
        chosen = [rng.randrange(len(images)) for _ in range(count)]
        cell = min(900 // count, params.largest)
        corner = [rng.randint(50, 950 - cell * count), rng.randint(100, 900 - cell)]
        middle = [(1000 - cell * count) // 2, (1000 - cell) // 2]
        scene: Scene = {
            "size": params.size,
            "digits": chosen,
            "cell": cell,
            "at": [m + (c - m) * params.spread // 1000 for c, m in zip(corner, middle, strict=True)],
            "shifts": [rng.randint(-params.shift, params.shift) for _ in chosen],
            "angles": [rng.randint(-params.rotation, params.rotation) for _ in chosen],
            "ink": rng.choice(_INKS[: params.colors]),
            "noise": [params.noise, rng.getrandbits(31) if params.noise else 0],
        }
        answer = "".join(str(labels[index]) for index in chosen)
        return Sample("Read the digits.", answer, " ".join(answer), (scene,))

    def paint(self, scene: Scene) -> PIL.Image.Image:
        size = scene["size"]
        cell = round(scene["cell"] * size / 1000)
        image = PIL.Image.new("RGB", (size, size), _PAPER)
        images, _ = _digits()
        left, top = (round(place * size / 1000) for place in scene["at"])
        for place, (index, shift, angle) in enumerate(
            zip(scene["digits"], scene["shifts"], scene["angles"], strict=True)
        ):
            ink = PIL.Image.fromarray(images[index]).resize((cell, cell), PIL.Image.Resampling.BICUBIC)
            if angle:
                ink = ink.rotate(angle, PIL.Image.Resampling.BICUBIC)
            image.paste(tuple(scene["ink"]), (left + place * cell, top + round(shift * size / 1000)), ink)
        return add_noise(image, *scene["noise"])


@cache
def _digits() -> tuple[NDArray[np.uint8], list[int]]:
    """Ink of each digit, [1797, 8, 8] from 0 to 255, and which digit it is."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(f"data.env visual: handwriting needs the package scikit-learn ({error})") from error
    data = load_digits()
    return np.clip(data.images * 17, 0, 255).astype(np.uint8), [int(label) for label in data.target]
