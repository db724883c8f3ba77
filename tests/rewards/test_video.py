"""Times, spans and orders in videos."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.literals import LiteralError
from rlcs.rewards.time_spans import Span, parse_spans, parse_time, span_iou
from rlcs.rewards.verifier import JudgeRequest
from rlcs.rewards.video import Kind, Video, detect_kind, parse_order
from rlcs.types import Score

_CASES = builtin_cases("video")
_REWARD = Video()
_SPANS = st.tuples(st.integers(0, 100), st.integers(1, 60)).map(lambda t: (float(t[0]), float(t[0] + t[1])))
_LISTS = st.lists(_SPANS, min_size=1, max_size=4)
_ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def _score(answer: str, reference: str, reward: Video = _REWARD, **columns: Any) -> Score:
    score = reward.score(render_response("", answer), reference, **columns)
    assert score is not None and 0.0 <= score.value <= 1.0
    return score


def _text(spans: list[Span]) -> str:
    return str([list(span) for span in spans])


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_video_gets_its_cases_right(case: Case) -> None:
    score = _REWARD.score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.note}: {score}"
    assert (_REWARD.validate(case.answer, **case.columns) is None) is case.valid


@given(st.tuples(_ANY_FLOAT, _ANY_FLOAT), st.tuples(_ANY_FLOAT, _ANY_FLOAT))
def test_the_overlap_of_spans_is_symmetric_and_between_0_and_1(a: Span, b: Span) -> None:
    assert span_iou(a, b) == span_iou(b, a)
    assert 0.0 <= span_iou(a, b) <= 1.0


@given(_SPANS, _SPANS)
def test_the_overlap_of_spans_counts_seconds(a: Span, b: Span) -> None:
    first, second = set(range(int(a[0]), int(a[1]))), set(range(int(b[0]), int(b[1])))
    assert span_iou(a, b) == pytest.approx(len(first & second) / len(first | second))


@given(_LISTS, _LISTS, st.randoms(use_true_random=False))
def test_the_order_of_spans_does_not_matter(found: list[Span], expected: list[Span], rng: random.Random) -> None:
    for mode in ("graded", "threshold"):
        reward = Video(mode=mode, answer_kind="spans")
        value = _score(_text(found), _text(expected), reward).value
        assert _score(_text(expected), _text(found), reward).value == pytest.approx(value)
        shuffled = [_text(rng.sample(spans, len(spans))) for spans in (found, expected)]
        assert _score(*shuffled, reward).value == pytest.approx(value)


@given(_LISTS, st.integers(1, 40))
def test_spans_beyond_a_perfect_answer_cost(spans: list[Span], surplus: int) -> None:
    score = _score(_text(spans + spans[:1] * surplus), _text(spans))
    assert score.value == pytest.approx(len(spans) / (len(spans) + surplus)) and not score.correct


@given(st.integers(0, 359_999))
def test_a_time_is_the_same_in_all_notations(seconds: int) -> None:
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    for text in (
        _clock(seconds),
        f"{seconds} s",
        f"{seconds}秒",
        f"{hours}h {minutes}m {rest}s",
        f"{hours}小时{minutes}分{rest}秒",
    ):
        assert parse_time(text).seconds == seconds


@given(st.integers(0, 9_999), st.integers(1, 9_999))
def test_a_span_is_the_same_in_all_notations(start: int, length: int) -> None:
    end = start + length
    a, b = _clock(start), _clock(end)
    for text in (
        f"{a}-{b}", f"{a} – {b}", f"[{a}, {b}]", f'["{a}", "{b}"]', f"from {a} to {b}", f"{start} s to {end} s",
        f"({start}, {end})",
        f'{{"start_time": {start}, "end_time": "{b}"}}',
    ):  # fmt: skip
        assert parse_spans(text) == ([(float(start), float(end))], True), text


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 50), st.floats(0, 50))
def test_the_value_of_a_timestamp_falls_with_its_error(at: int, found: int, tolerance: float, decay: float) -> None:
    reward = Video(tolerance_s=tolerance, decay_s=decay)
    near, far = (_score(f"{at + error} s", f"{at} s", reward) for error in (found, found + 1))
    assert near.value >= far.value
    assert near.correct == (found <= tolerance + 1e-9)


@given(st.permutations(range(6)))
def test_the_graded_order_is_kendalls_tau(order: list[int]) -> None:
    reward = Video(order="graded", answer_kind="order")
    inversions = sum(order[i] > order[j] for i in range(6) for j in range(i + 1, 6))
    value = _score(" -> ".join(map(str, order)), "0 -> 1 -> 2 -> 3 -> 4 -> 5", reward).value
    assert value == pytest.approx(max(0.0, 1 - 2 * inversions / 15))


def test_the_reversed_order_is_worth_nothing() -> None:
    assert _score("C, B, A", "A, B, C", Video(order="graded")).value == 0.0


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("[3, 9]", Kind.SPANS), ("[9, 3]", Kind.TEXT), ("[1, 2, 3]", Kind.ORDER), ("0:12 - 0:30", Kind.SPANS), ("5-8", Kind.TEXT),
        ("1:23", Kind.TIMESTAMP), ("5 s", Kind.TIMESTAMP), ("83", Kind.TEXT), ("B, A", Kind.ORDER), ("BAC", Kind.TEXT),
        ("5 m", Kind.TEXT), ("3 m - 5 m", Kind.TEXT), ("1m 23s", Kind.TIMESTAMP),
        ("2 min", Kind.TIMESTAMP), ("run -> sit", Kind.ORDER),
        ("he runs, then sits", Kind.TEXT), ("12:30 pm", Kind.TEXT), ("B", Kind.TEXT),
    ],
)  # fmt: skip
def test_the_kind_is_found_only_without_doubt(reference: str, kind: Kind) -> None:
    assert detect_kind(reference) is kind


def test_a_judge_decides_on_other_words_only() -> None:
    class Yes:
        def judge(self, requests: list[JudgeRequest]) -> list[Score | None]:
            return [Score(1.0, correct=True, detail="judged") for _ in requests]

    reward = Video(judge=Yes())
    assert _score("a jogging man", "a man is running", reward).correct
    assert not _score("sometime", "01:23", reward).correct
    assert not _score("84", "83", reward).correct


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        ("", {}), ("the man runs", {"answer_kind": "spans"}), ("[9, 3]", {"answer_kind": "spans"}),
        ("noon", {"answer_kind": "timestamp"}),
        ("A", {"answer_kind": "order"}), ("A, B, A", {"answer_kind": "order"}), ("A, B", {"answer_kind": "list"}),
        ("[3, 9]", {"iou_threshold": 0}), ("1:23", {"tolerance_s": -1}), ("1:23", {"tolerance_s": "1"}),
    ],
)  # fmt: skip
def test_references_that_cannot_be_used_are_found(answer: str, columns: dict[str, Any]) -> None:
    reason = _REWARD.validate(answer, **columns)
    assert reason is not None and "\n" not in reason


@pytest.mark.parametrize(
    "options",
    [{"answer_kind": "x"}, {"mode": "x"}, {"order": "x"}, {"iou_threshold": 0}, {"tolerance_s": -1}, {"max_spans": 0}],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=next(iter(options))):
        Video(**options)


@given(st.text(max_size=60) | st.text(alphabet="0123456789:.-,;[](){} smhto分秒>\n", max_size=60))
def test_no_answer_makes_it_raise(text: str) -> None:
    for answer in (text, text + "\ud800"):
        for reference in ("[3, 9]", "1:23", "A, B", "a man"):
            _score(answer, reference)
        _REWARD.validate(answer)


@pytest.mark.parametrize(
    "text", ["1:" * 50_000, "9" * 100_000, "[" * 10_000, "1m " * 1_600, "1-2," * 1_200, " " * 100_000, "from " * 900]
)
def test_hostile_texts_are_refused(text: str) -> None:
    for read in (parse_spans, parse_time):
        with pytest.raises(LiteralError):
            read(text)


def test_too_many_events_are_refused() -> None:
    with pytest.raises(LiteralError):
        parse_order("a," * 60 + "b")
