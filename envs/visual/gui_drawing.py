"""Screens drawn with Pillow.

| element | shows |
|---|---|
| `title` | a bar with a text |
| `label` | a text |
| `button` | a text on a colour of `tint` |
| `field` | a box with what is written in it, white |
| `row` | an item of a list |
| `switch` | a switch that is `on` or not |
| `dialog` | a window over all that comes before it |
"""

from __future__ import annotations

from typing import Any

import PIL.Image

from rlcs.envs.visual.canvas import Canvas, Color, load_font
from rlcs.envs.visual.task import Scene

_TINTS: tuple[tuple[int, int, int], ...] = ((30, 100, 220), (90, 90, 100), (20, 140, 80), (190, 60, 40))
_PAGE: Color = (242, 243, 246)
_EDGE: Color = (150, 150, 160)


def paint_screen(scene: Scene) -> PIL.Image.Image:
    """The picture of a screen's scene: elements in their order."""
    canvas = Canvas(scene["size"], background=_PAGE)
    for element in scene["elements"]:
        _paint(canvas, element)
    return canvas.image()


def _paint(canvas: Canvas, element: dict[str, Any]) -> None:
    kind, text, box = element["kind"], element["text"], element["box"]
    x1, y1, x2, y2 = box
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    if kind == "title":
        canvas.rectangle(box, (50, 60, 90))
        canvas.text(middle, text, _pixels(canvas, text, box, 0.085), "white", font="bold")
    elif kind == "label":
        canvas.text((x1, middle[1]), text, _pixels(canvas, text, box, 0.085), anchor="lm")
    elif kind == "button":
        canvas.rounded(box, _TINTS[element["tint"]], radius=canvas.width / 40)
        canvas.text(middle, text, _pixels(canvas, text, box, 0.14), "white", font="bold")
    elif kind == "field":
        canvas.rounded(box, "white", _EDGE, radius=2)
        canvas.text((x1 + 30, middle[1]), text, _pixels(canvas, text or "x", box, 0.085), (70, 70, 70), anchor="lm")
    elif kind == "row":
        canvas.rectangle(box, "white", (215, 215, 222))
        canvas.text((x1 + 40, middle[1]), text, _pixels(canvas, text, (x1, y1, 720, y2), 0.085), anchor="lm")
    elif kind == "switch":
        radius = (y2 - y1) * canvas.height / 2000
        canvas.rounded(box, _TINTS[2] if element["on"] else (170, 170, 178), radius=radius)
        knob = (y2 - y1) * 0.8
        left = x2 - knob - 12 if element["on"] else x1 + 12
        canvas.ellipse((left, middle[1] - knob / 2, left + knob, middle[1] + knob / 2), "white")
    else:
        # What lies behind is darkened by a frame of shadow around the window.
        canvas.rectangle((x1 - 20, y1 - 20, x2 + 20, y2 + 20), (120, 122, 130))
        canvas.rectangle(box, "white", "black")
        canvas.text((middle[0], y1 + 110), text, _pixels(canvas, text, box, 0.1), font="bold")


def _pixels(canvas: Canvas, text: str, box: tuple[int, int, int, int], largest: float) -> int:
    """The height of letters at which a text fits into a box, at most `largest` of the screen."""
    width, height = (box[2] - box[0]) * canvas.width / 1000, (box[3] - box[1]) * canvas.height / 1000
    length = load_font("bold", 20).getlength(text) / 20
    return max(7, int(min(largest * canvas.width, height * 0.7, width * 0.9 / length)))
