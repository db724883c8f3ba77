"""Axis-parallel boxes: reading them from text, overlap, and the best one-to-one assignment.

A box is (x1, y1, x2, y2) with x1 < x2 and y1 < y2; anything else (reversed, without area, not finite) overlaps nothing.
The overlap of two boxes is the area of the intersection over the area of the union (IoU), in [0, 1].

Shapes: P predicted boxes, R reference boxes; arrays of boxes are float64 [P, 4] and [R, 4].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlcs.rewards.literals import LiteralError, LiteralReader, check_length, is_number, to_number
from rlcs.rewards.text import unfenced

Box = tuple[float, float, float, float]
Point = tuple[float, float]

BOX_KEYS = ("box_2d", "bbox_2d", "bbox", "box")
LABEL_KEYS = ("label", "name", "category", "class", "object")

_TINY = 1e-9
_MAX_LABEL = 500
_BOX_TOKENS = re.compile(r"<\|box_(?:start|end)\|>|</?box>")
"""Of Qwen-VL and other models that ground."""
_COORDINATE = r"\s*([+-]?[0-9]{1,9}(?:\.[0-9]{0,9})?)\s*"
_ONE_BOX = re.compile(rf"\[?\s*\[{','.join([_COORDINATE] * 4)}\]\s*\]?")


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box and what it is said to hold."""

    box: Box
    label: str | None = None


def is_proper(box: Box) -> bool:
    """Whether a box has an area; false for NaN."""
    return bool(box[0] < box[2] and box[1] < box[3])


def iou(a: Box, b: Box) -> float:
    """Overlap of two boxes, in [0, 1]; 0 if either has no finite area."""
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    # Written so that NaN fails: each comparison with it is false.
    if not (ax1 < ax2 and ay1 < ay2 and bx1 < bx2 and by1 < by2):
        return 0.0
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if not (width > 0 and height > 0):
        return 0.0
    overlap = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    if not 0 < union < float("inf"):
        return 0.0
    return overlap / union if overlap < union else 1.0


def iou_pairs(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Overlap of boxes with boxes, broadcast over all axes but the last: [..., 4] and [..., 4] give [...]."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(all="ignore"):
        sides_a, sides_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]  # [..., 2]
        common = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
        overlap = common[..., 0] * common[..., 1]
        union = sides_a[..., 0] * sides_a[..., 1] + sides_b[..., 0] * sides_b[..., 1] - overlap
        proper = (sides_a > 0).all(-1) & (sides_b > 0).all(-1) & (common > 0).all(-1) & (union > 0) & (union < np.inf)
        return np.where(proper, np.minimum(overlap / union, 1.0), 0.0)


def iou_matrix(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Overlap of each of [P, 4] boxes with each of [R, 4]: [P, R]."""
    a, b = np.asarray(a, dtype=np.float64).reshape(-1, 4), np.asarray(b, dtype=np.float64).reshape(-1, 4)
    return iou_pairs(a[:, None, :], b[None, :, :])


def assign(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns, each used once at most, whose values have the largest sum (the Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(values, maximize=True)
    return rows, columns


def assign_over(values: NDArray[np.float64], threshold: float) -> tuple[int, float]:
    """How many pairs of a one-to-one assignment can reach `threshold`, and the largest sum of values at that number.

    Args:
        values: [P, R], each in [0, 1].
        threshold: in [0, 1]; a value within 1e-9 of it counts as reaching it.
    """
    if values.size == 0:
        return 0, 0.0
    hits = values >= threshold - _TINY
    if min(values.shape) == 1:  # one of the two is alone
        best = float(values.max())
        return int(best >= threshold - _TINY), best
    # A hit outweighs all that the other pairs could add.
    rows, columns = assign(hits * (min(values.shape) + 1.0) + values)
    return int(hits[rows, columns].sum()), float(values[rows, columns].sum())


def centre(box: Box) -> Point:
    """The middle of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def holds_point(box: Box, point: Point) -> bool:
    """Whether a point lies in a box or on its edge."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def to_box(value: Any) -> Box:
    """The box of a literal: four numbers, two corners, or a list that holds just one box.

    Raises:
        LiteralError: it is none of these.
    """
    boxes = to_boxes(value)
    if len(boxes) != 1:
        raise LiteralError(f"one box is expected, not {len(boxes)}")
    return boxes[0].box


def to_boxes(value: Any, label: str | None = None) -> list[LabelledBox]:
    """The boxes of a literal: a box, a list of boxes, `{"bbox_2d": ..., "label": ...}`, or `{"cat": boxes, ...}`.

    Raises:
        LiteralError: something in it is no box.
    """
    if isinstance(value, Mapping):
        return _boxes_of_object(value, label)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise LiteralError("a box is a list of four numbers")
    if len(value) == 4 and all(map(is_number, value)):
        x1, y1, x2, y2 = map(float, value)
        return [LabelledBox((x1, y1, x2, y2), label)]
    if len(value) == 2 and all(isinstance(corner, list) and len(corner) == 2 for corner in value):
        corners = [*value[0], *value[1]]
        if all(map(is_number, corners)):
            x1, y1, x2, y2 = map(float, corners)
            return [LabelledBox((x1, y1, x2, y2), label)]
    if any(map(is_number, value)):
        raise LiteralError(f"a box has four numbers, not {len(value)}")
    return [box for item in value for box in to_boxes(item, label)]


def parse_boxes(text: str, max_boxes: int = 100) -> list[LabelledBox]:
    """The boxes that a text spells, and nothing else in it; `[]` spells none.

    Read are `[1, 2, 3, 4]`, `[[1, 2, 3, 4], ...]`, `[1, 2, 3, 4], [5, 6, 7, 8]`, corners `(1, 2), (3, 4)`, and JSON objects
    with one of `BOX_KEYS` and maybe one of `LABEL_KEYS`, or with labels as keys. A Markdown code fence is stepped
    over, and so are box tokens of other models. Lists may stand on lines of their own.

    Raises:
        LiteralError: the text is something else, or holds more than `max_boxes` boxes.
    """
    match = _ONE_BOX.fullmatch(text)
    if match is not None:  # the common form, at a tenth of the time
        x1, y1, x2, y2 = map(to_number, match.groups())
        if text.count("[") == text.count("]"):
            return [LabelledBox((x1, y1, x2, y2))]
    check_length(text)
    reader = LiteralReader(unfenced(_BOX_TOKENS.sub("", text)).removesuffix("."))
    values = [reader.value()]
    while reader.take(",") or reader.next == "[":
        values.append(reader.value())
    reader.expect_end()
    boxes = to_boxes(values[0] if len(values) == 1 else values)
    if len(boxes) > max_boxes:
        raise LiteralError(f"there are {len(boxes)} boxes, more than the limit of {max_boxes}")
    return boxes


def _boxes_of_object(value: Mapping[str, Any], label: str | None) -> list[LabelledBox]:
    box_keys = [key for key in BOX_KEYS if key in value]
    if not box_keys:
        return [box for key, item in value.items() for box in _boxes_of_object({"box": item, "label": key}, None)]
    label_keys = [key for key in LABEL_KEYS if key in value]
    if len(box_keys) > 1 or len(label_keys) > 1:
        raise LiteralError(f"an object gives more than one of {', '.join(box_keys + label_keys)}")
    if label_keys:
        label = value[label_keys[0]]
        if not isinstance(label, str):
            raise LiteralError("a label is a string")
    if label is not None and len(label) > _MAX_LABEL:
        raise LiteralError(f"a label is longer than {_MAX_LABEL} characters")
    return to_boxes(value[box_keys[0]], label)
