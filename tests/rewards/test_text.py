"""Normal forms of short texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.text import folded, plain, same_label, same_words, truth_word, unwrap, words_of, yes_or_no


@given(st.text())
def test_normal_forms_stay_what_they_are(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@given(st.text(), st.text())
def test_equality_is_symmetric(one: str, other: str) -> None:
    assert same_words(one, other) == same_words(other, one)


@given(st.text(alphabet="abc xyz", min_size=1).filter(str.strip))
def test_a_text_is_itself_whatever_its_case_and_marks(text: str) -> None:
    for marked in (text.upper(), f"**{text}**", f'"{text}"', f" {text} .", f"\u202e{text}\u200b"):
        assert same_words(marked, text)


def test_a_superscript_is_not_a_digit() -> None:
    assert plain("10²") == "10^2"
    assert plain("3½").split() == ["3", "1/2"]


@pytest.mark.parametrize(
    "text", ["\\text{red}", "$red$", "**red**", "`red`", "“red”", "「red」", "red.", "\\boxed{\\text{red}}"]
)
def test_marks_around_the_whole_are_dropped(text: str) -> None:
    assert unwrap(text) == "red"


@pytest.mark.parametrize(
    ("one", "other"),
    [("a cat", "cat"), ("the cats", "cat"), ("t-shirt", "t shirt"), ("knives", "knife"), ("boxes", "box")],
)
def test_same_words(one: str, other: str) -> None:
    assert same_words(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("glasses", "glass"), ("news", "new"), ("5", "-5"), ("<5", "5"), ("5?", "5"), ("C++", "C"), ("1.5", "1 5"), ("", "a"),
     ("vitamin", "vitamin a"), ("b, a", "b"), ("u.s.", "us"), ("red or blue", "red")],
)  # fmt: skip
def test_other_words(one: str, other: str) -> None:
    assert not same_words(one, other)


def test_articles_that_are_names_are_kept() -> None:
    assert words_of("'a', 'b'") == "a b"
    assert words_of("A") == "a"


def test_labels_are_stricter_than_words() -> None:
    assert same_label("the United States", "united states")
    assert not same_label("cats", "cat")
    assert not same_label("", "")


def test_right_is_a_side_and_not_a_truth_value() -> None:
    assert truth_word("right") is None
    assert truth_word("correct") == "true"
    assert yes_or_no("correct") is None
    assert yes_or_no("Yes!") == "true"


def test_long_texts_take_linear_time() -> None:
    for text in ("'" * 200_000, "a " * 100_000, "(" * 200_000, "\u200b" * 200_000, "\\text{" * 40_000, "*" * 200_000):
        folded(text)
        words_of(text)
