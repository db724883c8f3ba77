"""Visual question answering."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.vqa import Vqa

_REWARD = Vqa()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("a", "A"), ("vitamin a", "Vitamin A"), ("3 cats", "3"), ("true", "yes"), ("5 %", "5%"), ("[red]", "red"),
     ("u.s.a.", "U.S.A"), ("10-12", "10-12"), ("(red)", "red"), ("naan", "naan"), ("women", "woman")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("vitamin", "vitamin a"), ("it's", "its"), ("news", "new"), ("yes, it is", "yes"), ("3 dogs", "3 cats"),
     ("no", "0"), ("0", "no"), ("red and white", "white and red"), ("C#", "C"), ("C++", "C"), ("#5", "5"),
     ("1.5", "1,5"), ("10/12", "10-12"), ("on the table", "table"), ("5 to 6", "5"), ("red?", "red"),
     ("infinity", "8"), ("one of red or blue", "red"), ("it depends", "red")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


@given(st.text(max_size=80), st.sampled_from(["red", "3", "yes", '["a", "b"]', "5 kg"]))
def test_no_answer_raises(answer: str, reference: str) -> None:
    assert _REWARD.match(answer, reference).value in (0.0, 1.0)


def test_other_words_are_open_and_numbers_and_hedges_are_not() -> None:
    assert _REWARD.match("crimson", "red").is_open
    assert not _REWARD.match("crimson or red", "red").is_open
    assert not _REWARD.match("a correct number between 0 and 10", "3").is_open
    assert not _REWARD.match("4", "3").is_open
    assert not _REWARD.match("no", "yes").is_open
    assert not _REWARD.match("red " * 10_000, "red").is_open


def test_each_of_several_references_is_accepted() -> None:
    for answer in ("red", "scarlet", "the crimson"):
        assert _REWARD.match(answer, '["red", "scarlet"]', answers=["crimson"]).value == 1.0
    assert _REWARD.match("red, scarlet", '["red", "scarlet"]').value == 0.0


def test_plurals_are_an_option() -> None:
    assert Vqa(plurals=False).match("apples", "apple").value == 0.0


@pytest.mark.parametrize(
    ("reference", "columns"),
    [
        ("", {}),
        ("nan", {}),
        ("[]", {}),
        ('["a", {}]', {}),
        ("a", {"answers": [None]}),
        ("", {"answers": []}),
        ("x" * 30_000, {}),
    ],
)
def test_references_that_cannot_be_used_are_found(reference: str, columns: dict[str, object]) -> None:
    reason = _REWARD.validate(reference, **columns)
    assert reason is not None and "\n" not in reason


def test_an_empty_answer_column_is_fine_beside_answers() -> None:
    assert _REWARD.validate("", answers=["red"]) is None
    assert _REWARD.match("red", "", answers=["red"]).value == 1.0
