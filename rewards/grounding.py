"""Where things are in an image: predicted boxes matched one to one with reference boxes.

The value is `matched / max(predicted, reference)`: of all one-to-one assignments the one with the most pairs over the IoU
threshold (the Hungarian method). Since the number predicted divides, a box more than needed never pays.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np

from rlcs.errors import RewardError
from rlcs.rewards.boxes import Box, LabelledBox, assign, assign_over, iou, iou_matrix, is_proper, parse_boxes
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.literals import LiteralError, is_number
from rlcs.rewards.verifier import Judge, Match, Verifier

_TINY = 1e-9


class Coordinates(StrEnum):
    """What the numbers of a box count."""

    SAME = "same"
    """As in the reference; nothing is converted."""
    PIXEL = "pixel"
    """Pixels; to compare them with another kind, the row needs `width` and `height`."""
    UNIT = "unit"
    """Shares of the image's width and height, 0 to 1."""
    THOUSAND = "thousand"
    """Thousandths of the image's width and height, 0 to 1000."""
    AUTO = "auto"
    """Found from the numbers where they leave no doubt (see `detect_coordinates`), else as in the reference."""


class Mode(StrEnum):
    """What a pair of matched boxes is worth."""

    THRESHOLD = "threshold"
    """1 if their IoU reaches the threshold, else 0."""
    GRADED = "graded"
    """Their IoU."""


class Grounding(Verifier):
    """Share of boxes that are found, with no box too many.

    Args:
        extract: how the answer is found in a response.
        judge: not used: boxes are settled by rule.
        iou_threshold: overlap at which two boxes match, in (0, 1].
        mode: what a matched pair is worth; `correct` follows the threshold in both modes.
        coordinates: what the numbers of an answer count.
        reference_coordinates: what the numbers of a reference count: `pixel`, `unit` or `thousand`.
        match_labels: where a reference box has a label, only a box of the same label (in any case) matches it.
        max_boxes: an answer with more boxes is worth 0.

    A row's columns `iou_threshold`, `coordinates` and `reference_coordinates` override the arguments; `width` and `height`
    are the size of its image in pixels.

    Raises:
        RewardError: an argument is none of the values above.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        iou_threshold: float = 0.5,
        mode: str = Mode.THRESHOLD,
        coordinates: str = Coordinates.SAME,
        reference_coordinates: str = Coordinates.PIXEL,
        match_labels: bool = True,
        max_boxes: int = 100,
    ) -> None:
        super().__init__(extract, judge=judge)
        for reason in (
            _wrong_threshold(iou_threshold),
            _wrong_choice("mode", mode, tuple(Mode)),
            _wrong_choice("coordinates", coordinates, tuple(Coordinates)),
            _wrong_choice("reference_coordinates", reference_coordinates, _CONCRETE),
            None if 1 <= max_boxes <= 1000 else "max_boxes must lie between 1 and 1000",
        ):
            if reason:
                raise RewardError(f"reward 'grounding': {reason}")
        self._iou_threshold = iou_threshold
        self._mode = Mode(mode)
        self._coordinates = Coordinates(coordinates)
        self._reference_coordinates = Coordinates(reference_coordinates)
        self._match_labels = match_labels
        self._max_boxes = max_boxes

    def setup(self) -> None:
        assign(np.zeros((1, 1)))  # imports scipy, which takes a second

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            reference = _read_reference(answer, self._max_boxes)
        except LiteralError as error:
            return f"the reference is no list of boxes: {error}"
        if not all(is_proper(item.box) for item in reference):
            return "a reference box has no area: x1 < x2 and y1 < y2 are needed"
        threshold, given, system = self._settings(columns)
        reason = (
            _wrong_threshold(threshold)
            or _wrong_choice("coordinates", given, tuple(Coordinates))
            or _wrong_choice("reference_coordinates", system, _CONCRETE)
        )
        if reason is None and given not in (Coordinates.SAME, system):
            size = size_of(columns)
            if size is None and Coordinates.PIXEL in (given, system):
                return "coordinates in pixels cannot be converted without the columns `width` and `height`"
            if not all(_is_within(item.box, system) for item in reference):
                return f"a reference box lies outside of the range of reference_coordinates={system}"
        return reason or _outside(reference, system, size_of(columns))

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        threshold, given, system = self._settings(columns)
        if _wrong_threshold(threshold) or given not in tuple(Coordinates) or system not in _CONCRETE:
            return Match(0.0, "the row's iou_threshold or coordinates cannot be used", event="bad_reference")
        try:
            expected = _read_reference(reference, self._max_boxes)
        except LiteralError as error:
            return Match(0.0, f"the reference is no list of boxes: {error}", event="bad_reference")
        try:
            found = parse_boxes(answer, self._max_boxes)
            if given != Coordinates.SAME:
                found = convert(found, Coordinates(given), Coordinates(system), size_of(columns))
        except LiteralError as error:
            return Match(0.0, f"the answer is no list of boxes: {error}", event="unreadable")
        if not expected or not found:
            both = not expected and not found
            return Match(
                float(both), "there is nothing to find" if both else f"{len(found)} boxes, not {len(expected)}"
            )
        return self._compare(found, expected, float(threshold))

    def _settings(self, columns: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """IoU threshold, coordinates of the answer, coordinates of the reference."""
        return (
            self._iou_threshold if columns.get("iou_threshold") is None else columns["iou_threshold"],
            columns.get("coordinates") or self._coordinates,
            columns.get("reference_coordinates") or self._reference_coordinates,
        )

    def _compare(self, found: Sequence[LabelledBox], expected: Sequence[LabelledBox], threshold: float) -> Match:
        if len(found) == len(expected) == 1:
            overlap = iou(found[0].box, expected[0].box) if self._labels_agree(found[0], expected[0]) else 0.0
            matched, sum_in_assignment, graded = int(overlap >= threshold - _TINY), overlap, overlap
        else:
            overlaps = iou_matrix([item.box for item in found], [item.box for item in expected])  # [P, R]
            if self._match_labels and any(item.label is not None for item in expected):
                overlaps *= np.array([[self._labels_agree(a, b) for b in expected] for a in found])
            matched, sum_in_assignment = assign_over(overlaps, threshold)
            graded = sum_in_assignment
            if self._mode is Mode.GRADED:
                graded = float(overlaps[assign(overlaps)].sum())
        larger = max(len(found), len(expected))
        share = matched / larger
        value = share if self._mode is Mode.THRESHOLD else min(graded / larger, 1.0)
        parts = {"matched": share, "mean_iou": min(sum_in_assignment / larger, 1.0)}
        detail = f"{matched} of {len(expected)} boxes matched, {len(found)} predicted, mean IoU {parts['mean_iou']:.3f}"
        return Match(value, detail, correct=matched == larger, parts=parts)

    def _labels_agree(self, found: LabelledBox, expected: LabelledBox) -> bool:
        if not self._match_labels or expected.label is None:
            return True
        return found.label is not None and _plain_label(found.label) == _plain_label(expected.label)


def detect_coordinates(boxes: Sequence[Box], size: tuple[float, float] | None) -> Coordinates | None:
    """What the numbers of boxes must count, or None if there is doubt.

    All in 0..1: shares of the image (a box of one pixel is not asked for). One beyond 1000: pixels. Between: thousandths if
    one lies outside of the image's `size` (width, height); else both pixels and thousandths are possible.
    """
    numbers = [number for box in boxes for number in box]
    if not numbers or min(numbers) < 0:
        return None
    if max(numbers) <= 1:
        return Coordinates.UNIT
    if max(numbers) > 1000:
        return Coordinates.PIXEL
    if size is not None and any(max(box[0::2]) > size[0] or max(box[1::2]) > size[1] for box in boxes):
        return Coordinates.THOUSAND
    return None


def convert(
    boxes: list[LabelledBox], given: Coordinates, wanted: Coordinates, size: tuple[float, float] | None
) -> list[LabelledBox]:
    """Boxes in the `wanted` kind of coordinates.

    Raises:
        LiteralError: a box lies outside of the range of its kind, or pixels are to be converted without `size`.
    """
    if given is Coordinates.AUTO:
        given = detect_coordinates([item.box for item in boxes], size) or wanted
    if not all(_is_within(item.box, given) for item in boxes):
        raise LiteralError(f"a box lies outside of the range of {given} coordinates")
    if given is wanted:
        return boxes
    if size is None and Coordinates.PIXEL in (given, wanted):
        raise LiteralError("pixels cannot be converted without the image's width and height")
    extent = {
        Coordinates.PIXEL: size or (1.0, 1.0),
        Coordinates.UNIT: (1.0, 1.0),
        Coordinates.THOUSAND: (1000.0, 1000.0),
    }
    x, y = (extent[wanted][axis] / extent[given][axis] for axis in (0, 1))
    return [
        LabelledBox((item.box[0] * x, item.box[1] * y, item.box[2] * x, item.box[3] * y), item.label) for item in boxes
    ]


def size_of(columns: Mapping[str, Any]) -> tuple[float, float] | None:
    """Width and height of a row's image, if it has both and they are positive numbers."""
    width, height = columns.get("width"), columns.get("height")
    if is_number(width) and is_number(height) and 0 < width < float("inf") and 0 < height < float("inf"):
        return float(width), float(height)
    return None


_CONCRETE = (Coordinates.PIXEL, Coordinates.UNIT, Coordinates.THOUSAND)


@lru_cache(maxsize=16_384)
def _read_reference(text: str, max_boxes: int) -> list[LabelledBox]:
    return parse_boxes(text, max_boxes)


@lru_cache(maxsize=4096)
def _plain_label(label: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", label).split()).casefold()


def _is_within(box: Box, system: Coordinates) -> bool:
    if system == Coordinates.UNIT:
        return min(box) >= 0 and max(box) <= 1
    return system != Coordinates.THOUSAND or (min(box) >= 0 and max(box) <= 1000)


def _outside(boxes: Sequence[LabelledBox], system: str, size: tuple[float, float] | None) -> str | None:
    """Why a reference cannot be of its image, or None; a pixel is forgiven, since annotations are rounded."""
    extent = {Coordinates.UNIT: (1.0, 1.0), Coordinates.THOUSAND: (1000.0, 1000.0)}.get(Coordinates(system), size)
    if extent is None:
        return None
    slack = 1.0 if system == Coordinates.PIXEL else _TINY
    for x1, y1, x2, y2 in (item.box for item in boxes):
        if min(x1, y1) < -slack or x2 > extent[0] + slack or y2 > extent[1] + slack:
            return f"the reference box {[x1, y1, x2, y2]} lies outside of the image, {extent[0]:g} x {extent[1]:g}"
    return None


def _wrong_threshold(value: Any) -> str | None:
    if is_number(value) and 0 < value <= 1:
        return None
    return f"iou_threshold must be a number over 0 and up to 1, not {value!r}"


def _wrong_choice(name: str, value: Any, choices: Sequence[str]) -> str | None:
    return None if value in choices else f"{name} must be one of {', '.join(choices)}, not {value!r}"
