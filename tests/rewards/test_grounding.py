"""Boxes in images: what pays and what does not."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.boxes import Box
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.grounding import Coordinates, Grounding, detect_coordinates
from rlcs.types import Score

_CASES = builtin_cases("grounding")
_REWARD = Grounding()
_GRADED = Grounding(mode="graded")
_BOXES = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)
_LISTS = st.lists(_BOXES, min_size=1, max_size=4)


def _score(found: Any, expected: Any, reward: Grounding = _REWARD, **columns: Any) -> Score:
    texts = [item if isinstance(item, str) else str([list(box) for box in item]) for item in (found, expected)]
    score = reward.score(render_response("", texts[0]), texts[1], **columns)
    assert score is not None and 0.0 <= score.value <= 1.0
    return score


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_grounding_gets_its_cases_right(case: Case) -> None:
    score = _REWARD.score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.note}: {score}"
    assert _REWARD.validate(case.answer, **case.columns) is None


@given(_LISTS)
def test_the_reference_itself_is_right(boxes: list[Box]) -> None:
    for reward in (_REWARD, _GRADED):
        score = _score(boxes, boxes, reward)
        assert score.correct and score.value == pytest.approx(1.0)


@given(_LISTS, _LISTS, st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_matter(found: list[Box], expected: list[Box], rng: random.Random) -> None:
    for reward in (_REWARD, _GRADED):
        shuffled = [rng.sample(boxes, len(boxes)) for boxes in (found, expected)]
        assert _score(*shuffled, reward).value == pytest.approx(_score(found, expected, reward).value)


@given(_LISTS, _LISTS)
def test_the_value_is_symmetric(found: list[Box], expected: list[Box]) -> None:
    for reward in (_REWARD, _GRADED):
        assert _score(found, expected, reward).value == pytest.approx(_score(expected, found, reward).value)


@given(st.lists(_BOXES, min_size=1, max_size=5), st.lists(_BOXES, min_size=1, max_size=3))
def test_a_surplus_of_boxes_never_pays(found: list[Box], expected: list[Box]) -> None:
    if len(found) <= len(expected):
        return
    for reward in (_REWARD, _GRADED):
        best = max(_score(s, expected, reward).value for s in itertools.combinations(found, len(expected)))
        sprayed = _score(found, expected, reward)
        assert sprayed.value <= best + 1e-9 and not sprayed.correct
        assert sprayed.value <= len(expected) / len(found) + 1e-9


@given(_LISTS, st.integers(1, 96))
def test_boxes_beyond_a_perfect_answer_cost(boxes: list[Box], surplus: int) -> None:
    assert _score(boxes + boxes[:1] * surplus, boxes).value == pytest.approx(len(boxes) / (len(boxes) + surplus))


@given(_LISTS, _LISTS, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_threshold_never_gives_more(found: list[Box], expected: list[Box], a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert _score(found, expected, iou_threshold=high).value <= _score(found, expected, iou_threshold=low).value


@given(_LISTS, _LISTS, st.sampled_from(["unit", "thousand"]))
def test_the_kind_of_coordinates_does_not_change_the_value(found: list[Box], expected: list[Box], kind: str) -> None:
    extent = 1 if kind == "unit" else 1000
    scaled = [(x1 / 50 * extent, y1 / 40 * extent, x2 / 50 * extent, y2 / 40 * extent) for x1, y1, x2, y2 in found]
    converted = _score(scaled, expected, _GRADED, coordinates=kind, width=50, height=40)
    assert converted.value == pytest.approx(_score(found, expected, _GRADED).value, abs=1e-6)


def test_coordinates_are_detected_only_without_doubt() -> None:
    assert detect_coordinates([(0.1, 0.1, 0.5, 0.5)], None) is Coordinates.UNIT
    assert detect_coordinates([(0, 0, 1500, 20)], None) is Coordinates.PIXEL
    assert detect_coordinates([(0, 0, 500, 900)], (640.0, 480.0)) is Coordinates.THOUSAND
    assert detect_coordinates([(0, 0, 500, 400)], (640.0, 480.0)) is None
    assert detect_coordinates([(0, 0, 500, 400)], None) is None
    assert detect_coordinates([(-1, 0, 500, 400)], None) is None


def test_a_graded_answer_is_correct_by_the_threshold() -> None:
    score = _score("[0, 0, 10, 8]", "[0, 0, 10, 10]", _GRADED)
    assert score.value == pytest.approx(0.8) and score.correct


def test_label_matching_can_be_turned_off() -> None:
    reference = '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]'
    assert not _score("[0, 0, 10, 10]", reference).correct
    assert _score("[0, 0, 10, 10]", reference, Grounding(match_labels=False)).correct


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        ("the cat", {}),
        ("[1, 2, 3]", {}),
        ("[3, 3, 1, 1]", {}),
        ("", {}),
        ("[0, 0, 5, 5]", {"iou_threshold": 0}),
        ("[0, 0, 5, 5]", {"iou_threshold": "half"}),
        ("[0, 0, 5, 5]", {"coordinates": "inches"}),
        ("[0, 0, 5, 5]", {"coordinates": "unit"}),
        ("[0, 0, 5, 5]", {"coordinates": "thousand", "width": 0, "height": 10}),
        ("[0, 0, 5, 5]", {"coordinates": "thousand", "reference_coordinates": "unit"}),
        (str([[0, 0, 5, 5]] * 101), {}),
    ],
)
def test_references_that_cannot_be_used_are_found(answer: str, columns: dict[str, Any]) -> None:
    reason = _REWARD.validate(answer, **columns)
    assert reason is not None and "\n" not in reason


@pytest.mark.parametrize(
    "options",
    [{"iou_threshold": 0}, {"mode": "soft"}, {"coordinates": "x"}, {"reference_coordinates": "same"}, {"max_boxes": 0}],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=next(iter(options))):
        Grounding(**options)


@given(st.text(max_size=80))
def test_no_answer_makes_it_raise(text: str) -> None:
    for answer in (text, text + "\ud800"):
        _REWARD.score(render_response("", answer), "[0, 0, 5, 5]")
        _REWARD.validate(answer)
