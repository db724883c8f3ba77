"""Faults of style: each part, what it costs, and texts that are made to break it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.loading import load_reward
from rlcs.rewards.style import (
    Style,
    box_in_open_answer,
    mixed_languages,
    overlong,
    repetition,
    skipped_thinking,
    split_thinking,
)
from rlcs.rewards.style_measures import (
    compression_ratio,
    estimated_tokens,
    most_repeated_window,
    repeated_ngram_share,
    soft_overlong,
)

_CASES = builtin_cases("style")
CHINESE = (
    "这张照片拍摄于一座安静的山间小镇，街道两旁是古老的木屋，屋檐下挂着红色的灯笼，"
    "远处的山峰被薄雾笼罩，几位老人坐在门口聊天，孩子们追逐嬉戏。"
)
ENGLISH = " ".join(f"word{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}{'uvwxyz'[n // 100]}" for n in range(220))


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_style_gets_its_cases_right(case: Case) -> None:
    score = Style().score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.response[:100]!r} ({case.note}): {score}"


def test_there_are_enough_cases_and_hostile_ones() -> None:
    assert len(_CASES) >= 25 and sum("hostile" in case.note for case in _CASES) >= 5


# Parts and weights


def test_each_fault_costs_its_weight_and_has_a_part_and_a_reason() -> None:
    style = Style(weights={"box": 0.25, "thinking": 0.5})
    fine = style.score("<think>I look.</think><answer>A town.</answer>", "")
    assert (fine.value, fine.correct, fine.detail) == (1.0, None, "no fault of style")
    assert fine.parts == {"box": 1.0, "language": 1.0, "repetition": 1.0, "thinking": 1.0}
    boxed = style.score(render_response("I look.", "A town."), "")
    assert boxed.value == 0.75 and boxed.parts["box"] == 0.0 and "open-ended" in boxed.detail
    both = style.score(render_response("", "A town."), "")
    assert both.value == 0.25 and "thinking is empty" in both.detail
    assert style.take_counts() == {"style_box": 2, "style_thinking": 1}


def test_a_part_of_weight_zero_is_not_looked_at() -> None:
    score = Style(weights={"thinking": 0, "repetition": 0}).score("ha " * 200, "1")
    assert score.value == 1.0 and set(score.parts) == {"language"}


def test_more_faults_than_the_value_has_give_zero() -> None:
    assert Style().score("ha " * 200, "").value == 0.0


# Boxes in open-ended answers


@pytest.mark.parametrize(
    ("option", "answer", "columns", "is_open"),
    [
        (None, "", {}, True),
        (None, " \n", {}, True),
        (None, "a town", {}, False),
        (None, "a town", {"open_ended": True}, True),
        (None, "", {"open_ended": False}, False),
        (None, "", {"open_ended": None}, True),
        (True, "a town", {"open_ended": False}, True),
        (False, "", {}, False),
    ],
)
def test_which_prompts_are_open_ended(option: bool | None, answer: str, columns: dict[str, Any], is_open: bool) -> None:
    score = Style(open_ended=option).score(render_response("I look.", "a town"), answer, **columns)
    assert ("box" in score.parts) == is_open and score.value == 1.0 - is_open


def test_a_box_counts_only_in_the_answer() -> None:
    thinking, segment = split_thinking("<think>a <|begin_of_box|>b<|end_of_box|></think><answer>c</answer>")
    assert thinking is not None and "box" in thinking
    assert box_in_open_answer(segment).value == 1.0
    assert box_in_open_answer(segment + "<|end_of_box|>").value == 0.0


# Languages


def test_languages_are_mixed_only_in_whole_paragraphs_of_each() -> None:
    assert mixed_languages(f"{CHINESE}\n \n{ENGLISH}").value == 0.0
    assert mixed_languages(f"<think>{ENGLISH}</think><answer>{CHINESE}</answer>").value == 0.0
    assert mixed_languages(CHINESE + ENGLISH).value == 1.0
    assert mixed_languages(f"{CHINESE[:40]}\n\n{ENGLISH}").value == 1.0
    assert mixed_languages(f"{CHINESE}\n\n{' '.join(ENGLISH.split()[:199])}").value == 1.0
    assert mixed_languages(f"{CHINESE}\n\n{ENGLISH.replace(' ', ' 123456 ')}").value == 1.0


# Repetition


@given(st.text(max_size=300), st.integers(1, 60))
def test_the_commonest_window_is_as_common_as_counting_says(text: str, length: int) -> None:
    windows = [text[start : start + length] for start in range(len(text) - length + 1)]
    times, window = most_repeated_window(text, length)
    assert times == max((windows.count(one) for one in windows), default=0)
    assert windows.count(window) == times or not windows


@given(st.lists(st.sampled_from(["a", "b", "cc", "数"]), max_size=80), st.integers(1, 6))
def test_the_share_of_repeated_ngrams_is_as_counting_says(words: list[str], n: int) -> None:
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    expected = 1 - len(set(grams)) / len(grams) if grams else 0.0
    assert repeated_ngram_share(" ".join(words), n, least=1) == pytest.approx(expected)


def test_chinese_characters_are_words_of_their_own() -> None:
    assert repeated_ngram_share("一二三一二三", 3, least=1) == repeated_ngram_share("a b c a b c", 3, least=1) > 0


def test_ten_times_is_once_too_often() -> None:
    # Forty digits between them, so that no other measure speaks.
    sentence = "This very sentence has more than fifty characters in it."
    nine = "".join(f"{sentence} {hash_like(n)} " for n in range(9))
    assert repetition(nine, compression_ratios=(0, 0), ngram_shares=(1, 1)).value == 1.0
    ten = repetition(nine + sentence, compression_ratios=(0, 0), ngram_shares=(1, 1))
    assert ten.value == 0.0 and "10 times" in ten.detail


def hash_like(n: int) -> str:
    return str((n + 2) ** 97 % 10**40)


def test_rulers_are_ignored_but_a_page_of_them_is_not() -> None:
    ruled = "\n".join(f"{hash_like(n)}\n{'=' * 80}\n| --- | :---: |" for n in range(20))
    assert repetition(ruled).value == 1.0
    assert repetition("=" * 5000).value == 0.0


def test_repetition_falls_in_a_line_between_the_two_shares() -> None:
    page = " ".join(hash_like(n) for n in range(400))
    values = [repetition(f"{page} {page[: int(len(page) * share)]}").value for share in (0.1, 0.5, 0.7, 0.99)]
    assert values[0] == 1.0 and values == sorted(values, reverse=True) and values[1] > values[2] > values[3]


@given(st.text(max_size=500))
def test_measures_keep_their_bounds(text: str) -> None:
    assert 0.0 <= repetition(text).value <= 1.0
    assert 0.0 <= repeated_ngram_share(text, 2, least=1) < 1.0
    assert compression_ratio(text) > 0.0
    assert 0 <= estimated_tokens(text) <= len(text)


# Length


@pytest.mark.parametrize(
    ("length", "value"), [(0, 1.0), (80, 1.0), (85, 0.75), (90, 0.5), (100, 0.0), (101, 0.0), (10**9, 0.0)]
)
def test_overlong_is_dapos_soft_punishment(length: int, value: float) -> None:
    assert overlong(length, 100, 20).value == pytest.approx(value)


@given(st.integers(0, 3000), st.integers(1, 2000), st.integers(0, 1000))
def test_overlong_falls_with_the_length(length: int, longest: int, cache: int) -> None:
    here, there = soft_overlong(length, longest, cache), soft_overlong(length + 1, longest, cache)
    assert 0.0 <= there <= here <= 1.0


def test_tokens_count_where_they_are_known_and_characters_stand_in() -> None:
    style = Style(max_completion_length=100, cache=20, weights={"thinking": 0})
    assert style.score("word", "1", num_tokens=90).parts["overlong"] == 0.5
    assert style.score(hash_like(1) * 9, "1").parts["overlong"] == 0.5
    assert style.score("好" * 90, "1").parts["overlong"] == 0.5
    assert "overlong" not in Style().score("word", "1", num_tokens=90).parts


def test_trl_hands_the_tokens_over_as_completion_ids() -> None:
    style = Style(max_completion_length=100, cache=20, weights={"thinking": 0})
    completions = [[{"role": "assistant", "content": text}] for text in ("a", "b")]
    assert style(["?", "?"], completions, completion_ids=[[1] * 90, [1] * 10]) == [0.5, 1.0]


# Thinking


@pytest.mark.parametrize(
    ("text", "is_open", "value"),
    [
        ("<think>2 + 3</think><answer>5</answer>", False, 1.0),
        ("<think>。。。</think>5", False, 0.0),
        ("<think>想</think>5", False, 1.0),
        ("5", False, 0.0),
        ("5", True, 1.0),
        ("</think>5", True, 0.0),
        ("", False, 0.0),
    ],
)
def test_thinking_must_say_something(text: str, is_open: bool, value: float) -> None:
    assert skipped_thinking(split_thinking(text, is_open)[0]).value == value


def test_thinking_may_be_asked_to_be_longer() -> None:
    assert skipped_thinking("ok...", 3).value == 0.0 and skipped_thinking("okay", 3).value == 1.0


# Options and hostile texts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"boxes": 1}}, "did you mean 'box'"),
        ({"weights": {"box": -1}}, "at least 0"),
        ({"weights": {"box": float("nan")}}, "at least 0"),
        ({"weights": 3}, "mapping"),
        ({"open_ended": "yes"}, "true or false"),
        ({"max_completion_length": 0}, "whole number"),
        ({"cache": 5}, "needs 'max_completion_length'"),
        ({"max_completion_length": 5, "cache": 6}, "more than"),
        ({"window": 1}, "'window'"),
        ({"ngram_shares": [0.1]}, "two numbers"),
        ({"ngram_shares": 0.1}, "two numbers"),
        ({"windoww": 1}, "did you mean 'window'"),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RewardError, match=message) as caught:
        load_reward("style", options=options)
    assert "\n" not in str(caught.value)


_HOSTILE = [
    "", "\0" * 100_000, "\ud800" * 100_000, "\n" * 100_000, "[" * 100_000, "<think>" * 15_000, "= " * 50_000,
    "-------x" * 12_500, ("\n" + " " * 999) * 100, "‮" * 50_000, "９" * 100_000, "数" * 100_000, "\U00020000" * 50_000,
    "</think>" * 12_000, "\\boxed{" * 10_000, "a\n\n" * 30_000,
]  # fmt: skip


@pytest.mark.parametrize("text", _HOSTILE, ids=lambda text: ascii(text[:8]))
def test_hostile_texts_get_a_value_and_a_short_reason(text: str) -> None:
    score = Style(max_completion_length=30_000).score(text, "")
    assert 0.0 <= score.value <= 1.0 and len(score.detail) < 500


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_gets_a_value(text: str) -> None:
    assert 0.0 <= Style(max_completion_length=50).score(text, "").value <= 1.0
