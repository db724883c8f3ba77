"""Multiple choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.multiple_choice import MultipleChoice

_REWARD = MultipleChoice()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("B) Vitamin D2", "B"), ("B. all of these", "B"), ("A. A dog", "A"), ("b) the dog", "B"), ("D.", "D"),
     ("answer:B", "B"), ("Answer: (B)", "B"), ("正确答案是 B。", "B"), ("C. 3", "C"), ("I", "I"), ("A and B", "AB"),
     ("A & B", "AB"), ("BA", "AB"), ("[B]", "B")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("I think B", "B"), ("B because A is wrong", "B"), ("B, because it is so", "B"), ("B.A", "B"), ("A.B.C.D", "B"),
     ("B. both A and C", "B"), ("Best", "B"), ("A big dog", "A"), ("B: x; C: y", "B"), ("B. (A)", "B"),
     ("A) x B) y", "A"), ("B. x, not B", "B"), ("C 3", "C"), ("(A)(B)", "AB"), ("3.5", "3"), ("B. or", "B"),
     ("the answer is not B", "B"), ("Option A or option B", "B")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


@given(st.text(max_size=80))
def test_no_answer_raises(answer: str) -> None:
    assert _REWARD.match(answer, "B").value in (0.0, 1.0)


@given(st.permutations("ABCDE"), st.integers(1, 5))
def test_the_order_of_labels_does_not_count(labels: list[str], count: int) -> None:
    chosen = labels[:count]
    assert _REWARD.match(", ".join(chosen), "".join(sorted(chosen))).value == 1.0
    assert _REWARD.match(", ".join(labels), "".join(sorted(chosen))).value == float(count == 5)


def test_texts_of_choices_are_as_good_as_labels() -> None:
    choices = {"A": "3", "B": "4", "C": None}
    right = {
        answer: _REWARD.match(answer, "B", choices=choices).value
        for answer in ("4", "B. 4", "b", "3", "B) 3", "B 4", "C")
    }
    assert [answer for answer, value in right.items() if value] == ["4", "B. 4", "b"]


def test_a_label_in_the_texts_of_choices_is_dropped() -> None:
    assert _REWARD.match("Paris", "A", choices=["A. Paris", "B. London"]).value == 1.0
    assert _REWARD.match("A. Paris", "A", choices=["A. Paris", "B. London"]).value == 1.0


def test_numbers_as_choices_are_texts_before_they_are_labels() -> None:
    choices = ["2", "1", "4", "3"]
    assert _REWARD.match("1", "B", choices=choices).value == 1.0
    assert _REWARD.match("2", "B", choices=choices).value == 0.0


@pytest.mark.parametrize("reference", ["", "  ", "Paris", "A or B", "AA", "nan"])
def test_references_that_name_no_choice_are_found(reference: str) -> None:
    assert _REWARD.validate(reference)


@pytest.mark.parametrize("choices", [3, ["one"], "no JSON", {"AAA": "x", "B": "y"}, [], "{"])
def test_columns_that_are_no_choices_are_found(choices: object) -> None:
    reason = _REWARD.validate("A", choices=choices)
    assert reason is not None and "choices" in reason and "\n" not in reason


def test_a_reference_that_is_none_of_the_choices_is_found() -> None:
    assert _REWARD.validate("D", choices=["x", "y"])
    assert _REWARD.validate("y", choices=["x", "y"]) is None
