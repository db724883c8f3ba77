"""Questions on long documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.long_document import LongDocument

_REWARD = LongDocument()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("N/A", "Not answerable"), ("the document doesn't say", "Not answerable"), ("[1,2]", "[\"1\", \"2\"]"),
     ("1 and 2", "[1,2]"), ("['a']", "a"), ("a", "['a']"), ("2.50", "2.5"), ("March 3, 2020", "March 3, 2020"),
     ("50 percent", "50%"), ("5", "5.0")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("none", "Not answerable"), ("[]", "a"), ("March 4, 2020", "March 3, 2020"), ("page 5", "5"), ("5.2", "5.0"),
     ("Smith, Jane", "John Smith"), ("1, 2, 3", "[1,2]")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


@given(st.text(max_size=80), st.sampled_from(["Not answerable", "3.5", "John Smith", '["a", "b"]', "[1, 2]", "yes"]))
def test_no_answer_raises(answer: str, reference: str) -> None:
    assert _REWARD.match(answer, reference).value in (0.0, 1.0)


@given(st.permutations(["alpha", "beta", "gamma", "7"]))
def test_lists_match_in_any_order_unless_asked_for(items: list[str]) -> None:
    reference = '["alpha", "beta", "gamma", 7]'
    assert _REWARD.match(", ".join(items), reference).value == 1.0
    is_same = items == ["alpha", "beta", "gamma", "7"]
    assert _REWARD.match(", ".join(items), reference, ordered=True).value == float(is_same)


def test_words_are_open_and_numbers_and_refusals_are_not() -> None:
    assert _REWARD.match("the firm's second report", "the annual report").is_open
    assert not _REWARD.match("Not answerable", "the annual report").is_open
    assert not _REWARD.match("42", "Not answerable").is_open
    assert not _REWARD.match("43", "42").is_open
    assert not _REWARD.match("1, 2, 3", "[1, 2]").is_open
    assert not _REWARD.match("the annual or the quarterly report", "the annual report").is_open


@pytest.mark.parametrize(
    ("reference", "columns"),
    [("", {}), ("nan", {}), ("3", {"tolerance": 1}), ("3", {"ordered": "no"}), ("x" * 30_000, {})],
)
def test_references_and_columns_that_cannot_be_used_are_found(reference: str, columns: dict[str, object]) -> None:
    reason = _REWARD.validate(reference, **columns)
    assert reason is not None and "\n" not in reason
