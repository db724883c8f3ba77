"""Logic: exact structures."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.logic import Logic

_REWARD = Logic()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("Neutral", "unknown"), ("entailment", "true"), ("A>B", "B<A"), ("A < B < C", "C > B > A"),
     ("A → B → C", "[\"A\",\"B\",\"C\"]"), ("A=1,B=2", "A: 1, B: 2"), ("A=1.0", "A=1"),
     ("[true,false]", "[\"T\",\"F\"]"), ("ten", "10"), ("A: true", "A: yes"), ("Ann; Bob; Cy", "Ann > Bob > Cy"),
     ("1. Ann\n2. Bob", "Ann, Bob"), ("A ≻ B", "A > B"), ("0.5", "50%"), ("{\"a\":[1,2]}", "{\"a\":[1,2]}"),
     ("a: x\nb: y", "{\"b\":\"y\",\"a\":\"x\"}")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("contradiction", "true"), ("A, C, B", "A, B, C"), ("A,B", "A, B, C"), ("x = 5", "5"), ("yes", "A"),
     ("T, F, T", "TFT"), ("0101", "101"), ("101", "0101"), ("knight, knave", "A: knight, B: knave"),
     ("1. Bob\n2. Ann", "Ann, Bob"), ("{}", "{\"a\":1}"), ("A>B>C>D", "A>B>C"), ("A >= B", "A > B"),
     ("Alice, Bob", "Bob, Alice"), ("50%", "50"), ("{\"a\":[2,1]}", "{\"a\":[1,2]}"),
     ("A: true, B: true", "A: true")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


@given(
    st.text(max_size=80), st.sampled_from(["yes", "A > B > C", "A: 1, B: 2", "TTFT", "Alice", '{"a": {"b": 1}}', "12"])
)
def test_no_answer_raises(answer: str, reference: str) -> None:
    assert _REWARD.match(answer, reference).value in (0.0, 1.0)


@given(st.text(alphabet='AB|=:>,{}[]"\n TF10-', max_size=60))
def test_no_text_of_structure_raises(answer: str) -> None:
    assert _REWARD.match(answer, "A: 1, B: 2").value in (0.0, 1.0)


@given(st.permutations("ABCDE"), st.permutations("ABCDE"))
def test_orderings_are_exact(answer: list[str], reference: list[str]) -> None:
    expected = float(answer == reference)
    assert _REWARD.match(" > ".join(answer), " > ".join(reference)).value == expected
    assert _REWARD.match(" < ".join(reversed(answer)), " > ".join(reference)).value == expected


@given(st.dictionaries(st.sampled_from("PQRS"), st.booleans(), min_size=2), st.randoms())
def test_assignments_hold_in_any_order_and_notation(values: dict[str, bool], random: object) -> None:
    reference = json.dumps(values)
    for text in (
        "; ".join(f"{name}={value}" for name, value in reversed(values.items())),
        json.dumps(values, sort_keys=True),
    ):
        assert _REWARD.match(text, reference).value == 1.0
    name = next(iter(values))
    assert _REWARD.match(json.dumps(values | {name: not values[name]}), reference).value == 0.0


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "nan",
        "A > B > A",
        '{"a": 1, "a": 2}',
        '{"a": {"b": {"c": 1}}}',
        "[1, [2]]",
        "[]",
        "x" * 20_000,
        "A B C\n1 0\n1 1",
    ],
)
def test_references_that_cannot_be_read_are_found(reference: str) -> None:
    reason = _REWARD.validate(reference)
    assert reason is not None and "\n" not in reason


def test_only_sentences_are_open() -> None:
    assert _REWARD.match("the butler is the murderer", "the murderer is the butler").is_open
    assert not _REWARD.match("Bob", "Alice").is_open
    assert not _REWARD.match("the butler or the cook did it", "the murderer is the butler").is_open


def test_order_is_an_option() -> None:
    assert Logic(ordered=False).match("B, A", "A, B").value == 1.0
    assert Logic(ordered=False).match("B > A", "A > B").value == 0.0


def test_a_truth_table_may_have_its_rows_and_columns_in_any_order() -> None:
    reference = "A B | out\nT T | T\nT F | F\nF T | F\nF F | F"
    assert _REWARD.match("out | B | A\n0 | 0 | 0\n0 | 0 | 1\n0 | 1 | 0\n1 | 1 | 1", reference).value == 1.0
    assert _REWARD.match("out | B | A\n1 | 0 | 0\n0 | 0 | 1\n0 | 1 | 0\n1 | 1 | 1", reference).value == 0.0
    assert _REWARD.match("A B | out\nT T | T\nT T | T\nT F | F\nF T | F", reference).value == 0.0
