"""Spatial relations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.spatial import Spatial

_REWARD = Spatial()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("middle", "center"), ("in the center", "middle"), ("further", "farther"), ("inside", "in"), ("over", "above"),
     ("close to", "near"), ("N", "north"), ("N", "N"), ("E", "east"), ("E", "E"), ("east", "E"),
     ("left, behind", "behind left"), ("anticlockwise", "counterclockwise"), ("upper", "top"),
     ("右下角", "lower right"), ("前方", "in front of"), ("后面", "behind"), ("左前方", "front left"), ("东北", "NE"),
     ("its left", "left"), ("right-hand side", "right"), ("up and left", "upper left"), ("A", "A")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("on the table", "on"), ("above or below", "above"), ("above, below", "above"), ("W", "E"),
     ("behind and left", "front left"), ("clockwise", "counter-clockwise"), ("3 o'clock", "3"), ("top", "above"),
     ("leftmost", "left"), ("both", "left"), ("unknown", "left"), ("D", "A"), ("left? right?", "left"),
     ("left;right", "left"), ("the left or the right", "left")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


_RELATIONS = ["left", "right", "above", "below", "front", "behind", "upper left", "lower right", "north", "south-west"]


@given(st.sampled_from(_RELATIONS), st.sampled_from(_RELATIONS))
def test_only_the_very_relation_is_right(answer: str, reference: str) -> None:
    assert _REWARD.match(answer, reference).value == float(answer == reference)


@given(st.sampled_from(_RELATIONS), st.sampled_from(_RELATIONS), st.sampled_from([" or ", "/", " either ", "或"]))
def test_two_relations_are_never_one(one: str, other: str, between: str) -> None:
    assert _REWARD.match(f"{one}{between}{other}", one).value == 0.0


@given(st.text(max_size=80), st.sampled_from(["left", "B", "3", "yes", "the red cup"]))
def test_no_answer_raises(answer: str, reference: str) -> None:
    assert _REWARD.match(answer, reference).value in (0.0, 1.0)


def test_descriptions_are_open_and_relations_are_not() -> None:
    assert _REWARD.match("the cup stands left of the plate", "left").is_open
    assert not _REWARD.match("right", "left").is_open
    assert not _REWARD.match("left and right", "left").is_open
    assert not _REWARD.match("left or right", "left").is_open
    assert not _REWARD.match("C", "B").is_open


@pytest.mark.parametrize(
    ("reference", "columns"),
    [("", {}), ("nan", {}), ("E", {"choices": ["x", "y"]}), ("2", {"tolerance": 3}), ("A", {"choices": 1})],
)
def test_references_and_columns_that_cannot_be_used_are_found(reference: str, columns: dict[str, object]) -> None:
    reason = _REWARD.validate(reference, **columns)
    assert reason is not None and "\n" not in reason
