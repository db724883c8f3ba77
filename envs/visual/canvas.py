"""Drawing in thousandths: shapes with smooth edges, text in the fonts that come with matplotlib and Pillow, noise.

Only fonts inside of packages are used, and Pillow's own simple layout, so that a picture is the same on every machine with
the same versions of Pillow and matplotlib.
"""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from rlcs.envs.visual.task import Box
from rlcs.errors import ConfigError

Point = tuple[float, float]
Color = str | tuple[int, int, int]

FONTS = {
    "sans": "DejaVuSans.ttf",
    "bold": "DejaVuSans-Bold.ttf",
    "oblique": "DejaVuSans-Oblique.ttf",
    "serif": "DejaVuSerif.ttf",
    "mono": "DejaVuSansMono.ttf",
    "stix": "STIXGeneral.ttf",
    "computer-modern": "cmr10.ttf",
    "typewriter": "cmtt10.ttf",
    "pillow": None,
}
"""Names of fonts to matplotlib's files; None is Pillow's own."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "blue": (40, 80, 220),
    "green": (30, 150, 60),
    "yellow": (240, 200, 20),
    "purple": (140, 50, 170),
    "orange": (245, 130, 20),
    "black": (20, 20, 20),
    "gray": (140, 140, 140),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")


@lru_cache(maxsize=512)
def load_font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """A font of `FONTS` at a size. Raises ConfigError if matplotlib, which has its file, is not installed."""
    file = FONTS[name]
    if file is None:
        font = ImageFont.load_default(pixels)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
        return font
    return ImageFont.truetype(_font_folder() / file, pixels, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    # Importing matplotlib takes most of a second, and only its files are wanted.
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ConfigError("data.env visual: the package matplotlib, which has the fonts, is not installed")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


class Canvas:
    """A picture to draw on, in thousandths of its width and height.

    With `smooth` shapes are drawn at twice the size and reduced at the end, which smooths their edges; texts are drawn
    after that, hence above all shapes.
    """

    def __init__(
        self, width: int, height: int | None = None, background: Color = "white", *, smooth: bool = False
    ) -> None:
        self.width, self.height = width, height or width
        self._scale = 2 if smooth else 1
        self._image = PIL.Image.new("RGB", (self.width * self._scale, self.height * self._scale), background)
        self._draw = ImageDraw.Draw(self._image)
        self._texts: list[tuple[Point, str, int, str, Color, str]] = []

    def rectangle(
        self, box: Sequence[float], fill: Color | None = None, outline: Color | None = None, line: float = 1
    ) -> None:
        """A rectangle; `line` is the width of the outline in pixels."""
        self._draw.rectangle(self._box(box), fill, outline, round(line * self._scale))

    def rounded(
        self, box: Sequence[float], fill: Color | None = None, outline: Color | None = None, radius: float = 4
    ) -> None:
        """A rectangle with round corners of `radius` pixels."""
        self._draw.rounded_rectangle(self._box(box), radius * self._scale, fill, outline, self._scale)

    def ellipse(
        self, box: Sequence[float], fill: Color | None = None, outline: Color | None = None, line: float = 1
    ) -> None:
        """An ellipse that fills a box."""
        self._draw.ellipse(self._box(box), fill, outline, round(line * self._scale))

    def polygon(
        self, points: Sequence[Point], fill: Color | None = None, outline: Color | None = None, line: float = 1
    ) -> None:
        """A polygon."""
        self._draw.polygon([self._point(p) for p in points], fill, outline, round(line * self._scale))

    def line(self, points: Sequence[Point], fill: Color, width: float = 1) -> None:
        """Lines from point to point, `width` pixels wide."""
        self._draw.line([self._point(p) for p in points], fill, max(1, round(width * self._scale)), joint="curve")

    def slice(self, box: Sequence[float], start: float, end: float, fill: Color, outline: Color | None = None) -> None:
        """A slice of a pie, clockwise between two angles in degrees from 3 o'clock."""
        self._draw.pieslice(self._box(box), start, end, fill, outline)

    def text(
        self, at: Point, text: str, pixels: float, fill: Color = "black", *, font: str = "sans", anchor: str = "mm"
    ) -> None:
        """A line of text; `anchor` as in Pillow: `mm` is centred on the point, `lm` begins at it."""
        item = (at, text, round(pixels), font, fill, anchor)
        if self._scale == 1:
            self._write(self._draw, *item)
        else:
            self._texts.append(item)

    def shape(self, kind: str, box: Sequence[float], color: Color, *, filled: bool = True) -> None:
        """One of `SHAPES` that fills a box."""
        line = max(1.5, (box[2] - box[0]) * self.width / 12000)
        fill, outline = (color, None) if filled else (None, color)
        if kind == "circle":
            self.ellipse(box, fill, outline, line)
        elif kind == "square":
            self.rectangle(box, fill, outline, line)
        else:
            self.polygon(_corners(kind, box), fill, outline, line)

    def image(self) -> PIL.Image.Image:
        """The finished picture."""
        if self._scale == 1:
            return self._image
        image = self._image.reduce(self._scale)
        draw = ImageDraw.Draw(image)
        for item in self._texts:
            self._write(draw, *item)
        return image

    def _write(
        self, draw: ImageDraw.ImageDraw, at: Point, text: str, pixels: int, font: str, fill: Color, anchor: str
    ) -> None:
        x, y = at[0] * self.width / 1000, at[1] * self.height / 1000
        draw.text((x, y), text, fill, load_font(font, pixels), anchor)

    def _point(self, point: Point) -> Point:
        return point[0] * self.width * self._scale / 1000, point[1] * self.height * self._scale / 1000

    def _box(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        # Pillow draws the last row and column too.
        (x1, y1), (x2, y2) = self._point((box[0], box[1])), self._point((box[2], box[3]))
        return round(x1), round(y1), max(round(x1), round(x2) - 1), max(round(y1), round(y2) - 1)


def _corners(kind: str, box: Sequence[float]) -> list[Point]:
    """The corners of a shape that fills a box."""
    x1, y1, x2, y2 = box
    unit: list[Point]
    if kind == "triangle":
        unit = [(0.5, 0), (1, 1), (0, 1)]
    elif kind == "diamond":
        unit = [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)]
    elif kind == "cross":
        a, b = 0.33, 0.67
        unit = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    else:
        radii = (1.0, 0.42)
        raw = [(radii[i % 2] * math.sin(i * math.pi / 5), -radii[i % 2] * math.cos(i * math.pi / 5)) for i in range(10)]
        xs, ys = [p[0] for p in raw], [p[1] for p in raw]
        unit = [((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys))) for x, y in raw]
    return [(x1 + u * (x2 - x1), y1 + v * (y2 - y1)) for u, v in unit]


def add_noise(image: PIL.Image.Image, strength: int, seed: int) -> PIL.Image.Image:
    """The picture with each pixel lighter or darker by up to `strength` (0 to 127), by a seed."""
    if strength == 0:
        return image
    pixels = np.asarray(image).astype(np.int16)  # [H, W, 3]
    height, width = pixels.shape[:2]
    # Python's own generator: its bytes for a seed are the same in every version.
    noise = np.frombuffer(random.Random(seed).randbytes(height * width), np.uint8).astype(np.int16)
    noise = (noise - 128) * strength // 128
    return PIL.Image.fromarray(np.clip(pixels + noise.reshape(height, width, 1), 0, 255).astype(np.uint8))


def scatter(rng: random.Random, count: int, *, smallest: int, largest: int, grid: int | None = None) -> list[Box]:
    """`count` square boxes that do not touch, in thousandths, each somewhere in a cell of its own of a grid.

    Args:
        rng: draws cells, sizes and places.
        count: at most `grid` squared.
        smallest: side of the smallest box, at most nine tenths of a cell; larger ones are cut to that.
        largest: side of the largest.
        grid: cells in a row; as few as hold them, and a few to spare, if None.
    """
    grid = grid or math.ceil(math.sqrt(count * 1.3))
    cell = 1000 // grid
    boxes = []
    for place in rng.sample(range(grid * grid), count):
        side = min(rng.randint(smallest, largest), cell * 9 // 10) // 10 * 10
        room = cell - side
        edge = min(room // 2, 20)
        x = place % grid * cell + rng.randint(edge, room - edge)
        y = place // grid * cell + rng.randint(edge, room - edge)
        boxes.append((x, y, x + side, y + side))
    return boxes


def centre(box: Box, snap: int = 10) -> tuple[int, int]:
    """The middle of a box in hundredths, for worked solutions: `(50, 25)`; the nearest multiples of `snap` thousandths."""
    x, y = (round((box[i] + box[i + 2]) // 20 * 10 / snap) * snap // 10 for i in (0, 1))
    return x, y
