"""Geometry of boxes and their spelling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.boxes import (
    Box,
    assign,
    assign_over,
    holds_point,
    iou,
    iou_matrix,
    iou_pairs,
    parse_boxes,
)
from rlcs.rewards.literals import LiteralError, LiteralReader, parse_json

_COORDINATES = st.integers(0, 30).map(float)
_BOXES = st.tuples(_COORDINATES, _COORDINATES, _COORDINATES, _COORDINATES)
_PROPER = st.tuples(_COORDINATES, _COORDINATES, st.integers(1, 30), st.integers(1, 30)).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)
_ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
_ANY_BOX = st.tuples(_ANY_FLOAT, _ANY_FLOAT, _ANY_FLOAT, _ANY_FLOAT)


@given(_ANY_BOX, _ANY_BOX)
def test_iou_is_symmetric_and_between_0_and_1_for_any_floats(a: Box, b: Box) -> None:
    value = iou(a, b)
    assert 0.0 <= value <= 1.0
    assert iou(b, a) == pytest.approx(value, abs=1e-12)


@given(_ANY_BOX, _ANY_BOX)
def test_the_batched_iou_is_bounded_for_any_floats(a: Box, b: Box) -> None:
    value = float(iou_pairs(a, b))
    assert 0.0 <= value <= 1.0


@given(_PROPER, _PROPER)
def test_iou_is_the_count_of_common_cells_over_the_count_of_all(a: Box, b: Box) -> None:
    def cells(box: Box) -> set[tuple[int, int]]:
        x1, y1, x2, y2 = map(int, box)
        return set(itertools.product(range(x1, x2), range(y1, y2)))

    assert iou(a, b) == pytest.approx(len(cells(a) & cells(b)) / len(cells(a) | cells(b)))


@given(st.lists(_BOXES, min_size=1, max_size=5), st.lists(_BOXES, min_size=1, max_size=5))
def test_the_matrix_holds_the_iou_of_each_pair(a: list[Box], b: list[Box]) -> None:
    expected = [[iou(x, y) for y in b] for x in a]
    assert iou_matrix(a, b) == pytest.approx(np.array(expected))


@given(_PROPER)
def test_a_box_overlaps_itself_fully(box: Box) -> None:
    assert iou(box, box) == 1.0


@given(_PROPER, _PROPER, st.floats(0.1, 50), st.floats(0.1, 50), st.floats(-100, 100))
def test_iou_does_not_change_with_scale_and_place(a: Box, b: Box, x: float, y: float, shift: float) -> None:
    def moved(box: Box) -> Box:
        return (box[0] * x + shift, box[1] * y + shift, box[2] * x + shift, box[3] * y + shift)

    assert iou(moved(a), moved(b)) == pytest.approx(iou(a, b), abs=1e-6)


@pytest.mark.parametrize(
    "box", [(5, 5, 1, 1), (1, 1, 1, 5), (math.nan, 0, 1, 1), (0, 0, math.inf, math.inf), (0, 0, 1e308, 1e308)]
)
def test_boxes_without_a_finite_area_overlap_nothing(box: Box) -> None:
    assert iou(box, box) == 0.0
    assert float(iou_pairs(box, box)) == 0.0


_MATRICES = st.integers(1, 4).flatmap(
    lambda rows: st.integers(1, 4).flatmap(
        lambda columns: st.lists(
            st.lists(st.floats(0, 1), min_size=columns, max_size=columns), min_size=rows, max_size=rows
        )
    )
)


def _assignments(values: np.ndarray) -> list[list[float]]:
    """The values of each largest one-to-one assignment."""
    if values.shape[0] > values.shape[1]:
        values = values.T
    rows, columns = values.shape
    return [[values[r, c] for r, c in enumerate(chosen)] for chosen in itertools.permutations(range(columns), rows)]


@given(_MATRICES)
def test_the_assignment_is_the_best_of_all(matrix: list[list[float]]) -> None:
    values = np.array(matrix)
    assert float(values[assign(values)].sum()) == pytest.approx(max(map(sum, _assignments(values))))


@given(_MATRICES, st.floats(0.05, 1))
def test_as_many_pairs_as_possible_reach_the_threshold(matrix: list[list[float]], threshold: float) -> None:
    values = np.array(matrix)
    count, total = assign_over(values, threshold)
    hits = [(sum(v >= threshold - 1e-9 for v in chosen), sum(chosen)) for chosen in _assignments(values)]
    best = max(number for number, _ in hits)
    assert count == best
    assert total == pytest.approx(max(total for number, total in hits if number == best))


def test_a_greedy_assignment_would_lose_a_pair() -> None:
    assert assign_over(np.array([[0.9, 0.6], [0.6, 0.0]]), 0.5)[0] == 2


@given(st.lists(_BOXES, min_size=1, max_size=8))
def test_boxes_that_are_written_are_read(boxes: list[Box]) -> None:
    assert [item.box for item in parse_boxes(str([list(box) for box in boxes]))] == boxes
    assert [item.box for item in parse_boxes(", ".join(str(list(box)) for box in boxes))] == boxes


@given(st.text(max_size=60) | st.text(alphabet="[](){}0123456789.,-eE \"':NaInfty", max_size=60))
def test_any_text_is_boxes_or_a_literal_error(text: str) -> None:
    try:
        boxes = parse_boxes(text)
    except LiteralError as error:
        assert "\n" not in str(error)
    else:
        assert all(math.isfinite(number) for item in boxes for number in item.box)


@pytest.mark.parametrize(
    "text",
    ["[" * 10_000, "{" * 10_000, '{"a":' * 10_000, "1," * 50_000, "9" * 100_000, " " * 100_000, "[[1,2,3,4]," * 5_000],
)
def test_hostile_texts_are_refused(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_boxes(text)
    with pytest.raises(LiteralError):
        parse_json(text)


@pytest.mark.parametrize("text", ["[NaN]", "[1e999]", '{"a": 1, "a": 2}', "[1] 2", "", "{'a': 1}", "[" * 9 + "]" * 9])
def test_json_is_strict(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_json(text)


@given(st.text(max_size=40))
def test_quoted_strings_are_read_back(text: str) -> None:
    for quote in "'\"":
        quoted = quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
        assert LiteralReader(quoted).string() == text


def test_a_point_on_the_edge_lies_in_the_box() -> None:
    assert holds_point((0, 0, 2, 2), (2, 0)) and not holds_point((0, 0, 2, 2), (2.1, 0))
