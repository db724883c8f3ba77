"""One score out of several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import CombineMode
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


@pytest.mark.parametrize(
    ("style", "value"),
    [(1.0, 0.75), (0.5, 0.75), (0.49, 0.1), (0.0, 0.1)],
)
def test_a_failed_gate_caps_the_value_and_one_that_holds_changes_nothing(style: float, value: float) -> None:
    scores = [Score(1.0, True), Score(0.0), Score(style, detail="loops")]
    combined = combine(
        ["math", "f", "style"], [3, 1, 9], scores, mode="gate", is_gate=[False, False, True], gate_cap=0.1
    )
    assert combined is not None and combined.value == pytest.approx(value)
    assert combined.correct is True, "a right answer with a fault of style is a right answer"
    assert ("gate style failed" in combined.detail) == (value == 0.1)
    assert combined.parts["style"] == style


def test_a_gate_with_a_wrong_verdict_makes_the_response_wrong() -> None:
    combined = combine(
        ["instruction", "math"], [1, 1], [Score(0.0, False), Score(1.0, True)], mode="gate", is_gate=[True, False]
    )
    assert combined is not None and (combined.value, combined.correct) == (0.0, False)
    passed = combine(["instruction"], [1], [Score(0.75)], mode="gate", is_gate=[True])
    assert passed is not None and passed.value == 0.75, "where only gates apply, they are the value"


def test_the_minimum_is_right_only_where_all_are() -> None:
    right, wrong = Score(1.0, True), Score(0.25, False)
    both = combine(["a", "b"], [1, 9], [right, wrong], mode="minimum")
    assert both is not None and (both.value, both.correct) == (0.25, False)
    alike = combine(["a", "b", "c"], [1, 9, 1], [right, right, None], mode="minimum")
    assert alike is not None and (alike.value, alike.correct) == (1.0, True)


@pytest.mark.parametrize("mode", ["weighted_sum", "gate", "minimum"])
def test_an_open_ended_score_between_is_neither_right_nor_wrong(mode: CombineMode) -> None:
    combined = combine(["reward_model", "style"], [1, 1], [Score(0.7), Score(1.0)], mode=mode, is_gate=[False, True])
    assert combined is not None and combined.correct is None


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10), st.booleans()), min_size=1, max_size=5),
    st.sampled_from(["weighted_sum", "gate", "minimum"]),
    st.floats(0, 1),
)
def test_every_mode_stays_in_bounds_and_below_the_best(
    rewards: list[tuple[float, float, bool]], mode: CombineMode, cap: float
) -> None:
    names = [str(index) for index in range(len(rewards))]
    scores = [Score(value) for value, _, _ in rewards]
    gates = [gate for _, _, gate in rewards]
    combined = combine(names, [w for _, w, _ in rewards], scores, mode=mode, is_gate=gates, gate_cap=cap)
    assert combined is not None
    best = max(score.value for score in scores)
    assert 0.0 <= combined.value <= best + 1e-12
    if mode == "minimum":
        assert combined.value == min(score.value for score in scores)
