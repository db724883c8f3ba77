"""Hedges are found by rule, and answers that commit themselves are left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.hedging import find_hedge


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("red or blue", "red"),
        ("either the cat or the dog", "the dog"),
        ("left/right", "left"),
        ("红色或者蓝色", "红色"),
        ("3 or 4", "3"),
        ("between 0 and 10", "7"),
        ("Between five and ten", "7"),
        ("5-10", "7"),
        ("5 – 10 apples", "7 apples"),
        ("５～１０", "7"),
        ("from 5 to 10", "7"),
        ("5 to 10", "7"),
        ("5到10", "7"),
        ("at least 3", "5"),
        ("more than three", "5"),
        ("不超过10", "7"),
        ("10以上", "12"),
        ("It depends on the angle", "left"),
        ("depending on the light it is red", "red"),
        ("视角度而定", "左"),
        ("the correct answer", "7"),
        ("It is the right number.", "7"),
        ("正确答案", "7"),
        ("red " * 1000, "red"),
        ("x" * 2001, "x"),
    ],
)
def test_hedges(answer: str, reference: str) -> None:
    assert find_hedge(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("red", "red"),
        ("blue", "red"),
        ("red or blue", "blue or red"),
        ("5-10", "between 5 and 10"),
        ("at least 3", "3 or more, at least 3"),
        ("It depends on the angle", "depends on the angle"),
        ("the cup is between the plate and the fork", "between the fork and the plate"),
        ("2020-01-05", "January 5, 2020"),
        ("10:30", "10:30"),
        ("1,234.5", "1234.5"),
        ("-3", "-3"),
        ("The correct answer is Paris", "Paris"),
        ("I do not know", "the text does not say"),
        ("120 km/h", "120 km/h"),
        ("5 m/s", "5 metres a second"),
        ("a story about a fork", "a fork"),
        (
            "One can go by foot or by bus, from 9 to 17. " * 9,
            "There are two ways to get there: by foot or by bus. " * 9,
        ),
        ("x" * 2000, "x"),
        ("", ""),
    ],
)
def test_answers_that_commit_themselves(answer: str, reference: str) -> None:
    assert find_hedge(answer, reference) is None


@pytest.mark.parametrize(
    ("answer", "hedged"),
    [
        ("7", False),
        ("seven", False),
        ("There are 7 cups, 7 in all", False),
        ("7 cups, also the one behind", False),
        ("twenty-one", False),
        ("七", False),
        ("none", False),
        ("a correct number between 0 and 10", True),
        ("a correct number", True),
        ("some cups", True),
        ("3, 4, 5, 6, 7", True),
        ("six seven", True),
        ("7 cups and 2 plates", True),
        ("7 " * 101, True),
    ],
)
def test_a_count_is_one_number(answer: str, hedged: bool) -> None:
    assert bool(find_hedge(answer, "7", domain="counting")) is hedged


@pytest.mark.parametrize(
    ("answer", "reference", "domain"),
    [
        ("Paris/France", "Paris, France", "geo"),
        ("Côte d'Or, France", "Dijon, France", "geo"),
        ("0.5 mol/litre", "0.5 M", "chemistry"),
        ("x = 2 or x = 3", "2, 3", "math"),
    ],
)
def test_notation_is_no_hedge(answer: str, reference: str, domain: str) -> None:
    assert find_hedge(answer, reference, domain=domain) is None


def test_two_answers_for_one_are_a_hedge_in_every_domain() -> None:
    for domain in ("geo", "chemistry", "physics", "math", "general", "spatial"):
        assert find_hedge("2 or 3", "2", domain=domain)


def test_the_length_that_is_a_hedge_grows_with_the_reference() -> None:
    reference = "word " * 100
    assert find_hedge("x" * 9_000, reference) is None
    assert find_hedge("x" * 11_000, reference)
    assert find_hedge("x" * 9_000, reference, max_length_ratio=4)


@given(st.text(max_size=60))
def test_no_reference_hedges_against_itself(text: str) -> None:
    for domain in ("general", "counting", "spatial"):
        assert find_hedge(text, text, domain=domain) is None


@pytest.mark.parametrize(
    "text", ["1" * 100_000, "1-" * 50_000, "a/" * 50_000, "between 1 " * 10_000, " " * 100_000, "the correct " * 8_000]
)
def test_hostile_lengths_are_fast(text: str) -> None:
    started = time.perf_counter()
    find_hedge(text, "7", max_length_ratio=1e9)
    find_hedge("7", text)
    assert time.perf_counter() - started < 1.0
