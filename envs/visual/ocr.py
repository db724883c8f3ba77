"""Read a text: digits, codes, words or two lines; several fonts, sizes, rotations, colours and noise."""

from __future__ import annotations

import random
from typing import Any, ClassVar, Literal

import PIL.Image
from PIL import ImageDraw
from pydantic import Field

from rlcs.envs.visual.canvas import FONTS, add_noise, load_font
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask

_INKS = ((0, 0, 0), (150, 20, 20), (20, 40, 140), (10, 90, 40))
_PAPERS = ((255, 255, 255), (255, 248, 220), (225, 238, 250), (230, 245, 230))
_CONSONANTS, _VOWELS = "bdfgkmnprstvz", "aeiou"
_CODE_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
"""Without I, O and S, which look like digits."""
_CODE_DIGITS = "2346789"
_MAX_FILL = 0.94
"""Share of the picture that a text may take."""


class OcrParams(Params):
    """Parameters of a level of `ocr`."""

    kind: Literal["digits", "code", "word", "lines"] = Field("digits", description="What is written.")
    min_length: int = Field(1, ge=1, le=12, description="Fewest characters (of each line).")
    max_length: int = Field(2, ge=1, le=12, description="Most characters (of each line).")
    fonts: int = Field(1, ge=1, le=len(FONTS), description="How many fonts there are.")
    min_height: int = Field(400, ge=60, le=900, description="Smallest letters, in thousandths of the picture.")
    max_height: int = Field(500, ge=60, le=900, description="Largest letters; those that do not fit are smaller.")
    spread: int = Field(
        1000,
        ge=0,
        le=1000,
        description="Of the room around the text, what it may move in, in thousandths; 0: in the middle.",
    )
    rotation: int = Field(0, ge=0, le=30, description="Largest angle, in degrees.")
    noise: int = Field(0, ge=0, le=100, description="Strength of the noise.")
    colors: int = Field(1, ge=1, le=len(_INKS), description="How many colours of ink and paper there are.")


class Ocr(VisualTask[OcrParams]):
    """The text of a picture."""

    verifier = "ocr"
    params = OcrParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {"kind": "digits", "min_length": 1, "max_length": 1, "min_height": 500, "max_height": 700, "colors": 2},
        {
            "kind": "digits",
            "min_length": 2,
            "max_length": 2,
            "min_height": 450,
            "max_height": 600,
            "fonts": 2,
            "colors": 2,
        },
        {
            "kind": "code",
            "min_length": 3,
            "max_length": 4,
            "fonts": 4,
            "min_height": 250,
            "max_height": 400,
            "rotation": 5,
            "colors": 3,
        },
        {
            "size": 140,
            "kind": "word",
            "min_length": 5,
            "max_length": 8,
            "fonts": len(FONTS),
            "min_height": 180,
            "max_height": 300,
            "rotation": 10,
            "noise": 30,
            "colors": 4,
        },
        {
            "size": 168,
            "kind": "lines",
            "min_length": 5,
            "max_length": 9,
            "fonts": len(FONTS),
            "min_height": 120,
            "max_height": 220,
            "rotation": 15,
            "noise": 60,
            "colors": 4,
        },
    )

    def sample(self, rng: random.Random, params: OcrParams) -> Sample:
        low, high = params.min_length, max(params.min_length, params.max_length)
        if params.kind == "lines":
            lines = [_text(rng, "word", rng.randint(low, high)), _text(rng, "digits", rng.randint(low, high))]
        else:
            lines = [_text(rng, params.kind, rng.randint(low, high))]
        scene: Scene = {
            "size": params.size,
            "lines": lines,
            "font": rng.choice(list(FONTS)[: params.fonts]),
            "height": rng.randint(params.min_height, max(params.min_height, params.max_height)),
            "angle": rng.randint(-params.rotation, params.rotation),
            "at": [500 + (rng.randint(0, 1000) - 500) * params.spread // 1000 for _ in range(2)],
            "ink": rng.choice(_INKS[: params.colors]),
            "paper": rng.choice(_PAPERS[: params.colors]),
            "noise": [params.noise, rng.getrandbits(31) if params.noise else 0],
        }
        answer = " ".join(lines)
        question = "Read both lines." if len(lines) == 2 else "Read the text."
        return Sample(question, answer, " ".join(answer.replace(" ", "/")), (scene,))

    def paint(self, scene: Scene) -> PIL.Image.Image:
        size, text = scene["size"], "\n".join(scene["lines"])
        pixels = round(scene["height"] * size / 1000)
        mask = _mask(text, scene["font"], pixels, scene["angle"])
        largest = max(mask.size) / (_MAX_FILL * size)
        if largest > 1:
            mask = _mask(text, scene["font"], max(6, int(pixels / largest)), scene["angle"])
        image = PIL.Image.new("RGB", (size, size), tuple(scene["paper"]))
        corner = [(size - extent) * at // 1000 for extent, at in zip(mask.size, scene["at"], strict=True)]
        image.paste(tuple(scene["ink"]), (corner[0], corner[1]), mask)
        return add_noise(image, *scene["noise"])


def _text(rng: random.Random, kind: str, length: int) -> str:
    if kind == "digits":
        return "".join(rng.choice("0123456789") for _ in range(length))
    if kind == "code":
        return "".join(rng.choice(_CODE_LETTERS + _CODE_DIGITS) for _ in range(length))
    first = rng.randint(0, 1)
    return "".join(rng.choice((_CONSONANTS, _VOWELS)[(i + first) % 2]) for i in range(length))


def _mask(text: str, font_name: str, pixels: int, angle: int) -> PIL.Image.Image:
    """The ink of a text as a greyscale picture without an edge."""
    font = load_font(font_name, pixels)
    spacing = pixels // 3
    left, top, right, bottom = ImageDraw.Draw(PIL.Image.new("L", (1, 1))).multiline_textbbox(
        (0, 0), text, font, spacing=spacing
    )
    mask = PIL.Image.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    ImageDraw.Draw(mask).multiline_text((2 - left, 2 - top), text, 255, font, spacing=spacing)
    return mask.rotate(angle, PIL.Image.Resampling.BICUBIC, expand=True) if angle else mask
