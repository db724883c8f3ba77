"""OCR: similarity by edit distance."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.ocr import MAX_CHARACTERS, WHITESPACE, Ocr, normalize_ocr, ocr_similarities, ocr_similarity

_TEXT = st.text(max_size=40)


def edit_distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


@given(_TEXT, _TEXT)
def test_the_similarity_is_symmetric_and_between_zero_and_one(one: str, other: str) -> None:
    similarity = ocr_similarity(one, other)
    assert 0.0 <= similarity <= 1.0
    assert similarity == ocr_similarity(other, one)
    assert (similarity == 1.0) == (normalize_ocr(one) == normalize_ocr(other))


@given(st.text("ab c", max_size=12), st.text("ab c", max_size=12))
def test_it_is_one_minus_the_edit_distance_over_the_longer_length(one: str, other: str) -> None:
    mine, theirs = (normalize_ocr(text) for text in (one, other))
    longer = max(len(mine), len(theirs))
    expected = 1.0 if not longer else 1 - edit_distance(mine, theirs) / longer
    assert ocr_similarity(one, other) == pytest.approx(expected)


@given(st.lists(st.tuples(_TEXT, _TEXT), max_size=8), st.sampled_from(WHITESPACE), st.booleans(), st.booleans())
def test_a_batch_is_its_parts(pairs: list[tuple[str, str]], whitespace: str, nfkc: bool, ignore_case: bool) -> None:
    form = {
        "whitespace": whitespace,
        "nfkc": nfkc,
        "ignore_case": ignore_case,
        "lower": 0.2,
        "upper": 0.8,
        "max_characters": 30,
    }
    values = ocr_similarities([one for one, _ in pairs], [other for _, other in pairs], **form)  # type: ignore[arg-type]
    assert values.tolist() == pytest.approx([ocr_similarity(one, other, **form) for one, other in pairs])  # type: ignore[arg-type]


@given(_TEXT, _TEXT, st.floats(0, 0.4), st.floats(0.6, 1))
def test_bounds_make_zero_and_one(one: str, other: str, lower: float, upper: float) -> None:
    similarity, bounded = ocr_similarity(one, other), ocr_similarity(one, other, lower=lower, upper=upper)
    if similarity <= lower:
        assert bounded == 0.0
    elif similarity >= upper:
        assert bounded == 1.0
    else:
        assert bounded == similarity


def test_two_empty_texts_are_equal() -> None:
    assert ocr_similarity("", "") == 1.0
    assert ocr_similarities([""], [""]).tolist() == [1.0]
    assert ocr_similarities([], []).tolist() == []


def test_an_empty_reference_is_met_by_an_empty_box_only() -> None:
    reward = Ocr()
    scores = reward.score_batch([render_response("", ""), render_response("", "a")], ["", ""], [{}, {}])
    assert [score.value for score in scores if score] == [1.0, 0.0]
    assert reward.take_counts() == {}
    assert reward.validate("") is None


@pytest.mark.parametrize(
    ("whitespace", "one", "other", "same"),
    [("auto", "a bc", "ab c", False), ("auto", "你 好", "你好", True), ("auto", "a  b", "a\nb", True),
     ("collapse", "你 好", "你好", False), ("collapse", "a \n b", "a b", True), ("none", "a  b", "a b", False),
     ("none", " a b\n", "a b", True), ("remove", "a bc", "ab c", True), ("remove", "你 好", "你好", True)],
)  # fmt: skip
def test_whitespace(whitespace: str, one: str, other: str, same: bool) -> None:
    assert (ocr_similarity(one, other, whitespace=whitespace) == 1.0) is same


def test_nfkc_and_case_are_options() -> None:
    assert ocr_similarity("ＡＢ", "AB") == 1.0
    assert ocr_similarity("ＡＢ", "AB", nfkc=False) == 0.0
    assert ocr_similarity("AB", "ab") == 0.0
    assert ocr_similarity("AB", "ab", ignore_case=True) == 1.0


def test_texts_beyond_the_cap_are_worth_nothing_and_cost_nothing() -> None:
    long = "ab " * 40_000
    start = time.process_time()
    assert ocr_similarity(long, long[:100]) == 0.0
    assert ocr_similarity("\ufdfa" * MAX_CHARACTERS, "a") == 0.0  # 18 times as long in NFKC
    assert Ocr().match(long, "a").detail.startswith("the answer is longer than")
    assert time.process_time() - start < 5  # a guard against quadratic time, not a measurement


def test_references_beyond_the_cap_are_found() -> None:
    assert "max_characters" in (Ocr(max_characters=10).validate("a" * 11) or "")
    assert Ocr(max_characters=10).validate("a" * 10) is None


@pytest.mark.parametrize(
    "options",
    [{"whitespace": "squeeze"}, {"lower": 0.9, "upper": 0.5}, {"upper": 2}, {"lower": "0"}, {"nfkc": 1}, {"max_characters": 0},
     {"max_characters": 1.5}],
)  # fmt: skip
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(RewardError, match="option"):
        Ocr(**options)  # type: ignore[arg-type]
