"""One score out of several."""

from __future__ import annotations

import pytest

from rlcs.scoring.combine import combine
from rlcs.types import Score


def test_the_value_is_the_weighted_mean_and_parts_are_named() -> None:
    combined = combine(["math", "style"], [3, 1], [Score(1.0, True, {"units": 1.0}, "same"), Score(0.2, detail="long")])
    assert combined is not None
    assert combined.value == pytest.approx(0.8)
    assert combined.parts == {"math": 1.0, "math.units": 1.0, "style": 0.2}
    assert combined.correct is True
    assert combined.detail == "math: same; style: long"


def test_what_does_not_apply_is_left_out_of_the_weights() -> None:
    combined = combine(["math", "style"], [3, 1], [None, Score(0.5, detail="half")])
    assert combined is not None
    assert (combined.value, combined.parts, combined.detail) == (0.5, {"style": 0.5}, "half")
    assert combine(["math"], [1], [None]) is None


@pytest.mark.parametrize(("value", "correct"), [(1.0, True), (0.0, False), (0.5, None)])
def test_plain_functions_are_right_at_one_and_wrong_at_zero(value: float, correct: bool | None) -> None:
    combined = combine(["f"], [2.0], [Score(value)])
    assert combined is not None and combined.correct is correct


def test_a_verdict_counts_more_than_a_number() -> None:
    combined = combine(["style", "math"], [1, 1], [Score(1.0), Score(0.0, False)])
    assert combined is not None and combined.correct is False
