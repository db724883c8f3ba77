"""Counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.counting import Counting

_REWARD = Counting()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("3.000", "3"), ("3 000", "3000"), ("3,000", "3000"), ("3 million", "3000000"), ("③", "3"), ("两", "2"),
     ("一", "1"), ("one", "1"), ("3 of them", "3"), ("3只猫", "3"), ("有3个", "3"), ("三百万", "3000000"), ("3万", "30000"),
     ("a hundred", "100"), ("twenty  one", "21")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("3 and a half", "3"), ("3 apples and 2 pears", "3"), ("3 (three)", "3"), ("No. 3", "3"), ("3rd", "3"),
     ("third", "3"), ("three hundred", "3"), ("a few", "3"), ("0x3", "3"), ("3.14", "3"), ("3,00", "300"),
     ("III", "3"), ("³", "3"), ("几个", "3"), ("3~4个", "3"), ("3、4", "3"), ("三、四个", "3"), ("三五个", "35"),
     ("一百二", "102"), ("3 times", "3"), ("3 plus", "3"), ("3 minus 1", "3"), ("3 more", "3"), ("3!", "3"),
     ("hundred", "100"), ("one and two", "3"), ("twenty-eleven", "31"), ("minus three", "3"), ("3 three", "3"),
     ("3只猫和2只狗", "3"), ("3个或4个", "3"), ("3对", "3")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


@given(st.text(max_size=80))
def test_no_answer_raises(answer: str) -> None:
    assert _REWARD.match(answer, "3").value in (0.0, 1.0)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_only_the_very_number_is_right(answer: int, reference: int) -> None:
    assert _REWARD.match(str(answer), str(reference)).value == float(answer == reference)


@given(
    st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([" or ", "-", " to ", ", ", " and ", "/", "～", " 或 "])
)
def test_two_numbers_are_never_a_count(one: int, other: int, between: str) -> None:
    assert _REWARD.match(f"{one}{between}{other}", str(one)).value == 0.0


@pytest.mark.parametrize("reference", ["", "many", "3.5", "-1", "3 or 4", "nan", "50%", "$3"])
def test_references_that_are_no_counts_are_found(reference: str) -> None:
    assert _REWARD.validate(reference)


def test_a_judge_is_never_asked() -> None:
    assert not _REWARD.match("a correct number between 0 and 10", "3").is_open
