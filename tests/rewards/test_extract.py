"""Extraction: every shape of a response has one outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.response_format import BOX_CLOSE, BOX_OPEN, FORMAT_TOKENS, render_response
from rlcs.rewards.extract import ExtractOptions, Fallback, Outcome, extract_answer

B, E = BOX_OPEN, BOX_CLOSE


@pytest.mark.parametrize(
    ("text", "outcome", "answer"),
    [
        (f"<think>t</think><answer>{B}4{E}</answer>", Outcome.OK, "4"),
        (f"<think>t</think> It is {B} 4 {E}.", Outcome.OK, "4"),
        (f"t</think><answer>{B}4{E}</answer>", Outcome.OK, "4"),
        (f"so {B}4{E}", Outcome.OK, "4"),
        (f"<answer>{B}4{E}</answer>\n", Outcome.OK, "4"),
        (f"<think>{B}5{E}{B}</think><answer>{B}4{E}</answer>", Outcome.OK, "4"),
        ("", Outcome.EMPTY_RESPONSE, ""),
        ("  \n", Outcome.EMPTY_RESPONSE, ""),
        (f"<think>t {B}4{E}", Outcome.UNCLOSED_THINKING, ""),
        (f"<think>t</think><answer>{B}4{E}", Outcome.UNCLOSED_ANSWER, ""),
        (f"<think>t</think></think>{B}4{E}", Outcome.MISPLACED_MARKER, ""),
        (f"<think>t<answer>{B}4{E}</answer>", Outcome.MISPLACED_MARKER, ""),
        (f"<think>t</think><answer>a</answer><answer>{B}4{E}</answer>", Outcome.MISPLACED_MARKER, ""),
        (f"<answer>{B}4{E}</answer><think>t</think>", Outcome.MISPLACED_MARKER, ""),
        (f"4 <think>t</think>{B}4{E}", Outcome.TEXT_OUTSIDE, ""),
        (f"<think>t</think> 4 <answer>{B}4{E}</answer>", Outcome.TEXT_OUTSIDE, ""),
        (f"<think>t</think><answer>{B}4{E}</answer> or 5", Outcome.TEXT_OUTSIDE, ""),
        ("<think>t</think><answer>4</answer>", Outcome.NO_BOX, ""),
        (f"{B}4", Outcome.UNCLOSED_BOX, ""),
        (f"{B}4{E}{B}5", Outcome.UNCLOSED_BOX, ""),
        (f"4{E}", Outcome.UNOPENED_BOX, ""),
        (f"{E}4{B}", Outcome.UNOPENED_BOX, ""),
        (f"{B}{B}4{E}{E}", Outcome.NESTED_BOX, ""),
        (f"{B}4{B}5{E}", Outcome.NESTED_BOX, ""),
        (f"{B}4{E}{B}4{E}", Outcome.SEVERAL_BOXES, ""),
        (f"{B} {E}", Outcome.EMPTY_BOX, ""),
    ],
)
def test_each_shape_has_its_outcome(text: str, outcome: Outcome, answer: str) -> None:
    extraction = extract_answer(text)
    assert (extraction.outcome, extraction.answer) == (outcome, answer)
    assert extraction.ok or extraction.detail


def test_thinking_and_segment_are_handed_over() -> None:
    extraction = extract_answer(f"<think>a</think><answer>b {B}c{E}</answer>")
    assert (extraction.thinking, extraction.segment) == ("a", f"b {B}c{E}")


def test_a_box_in_the_thinking_does_not_count() -> None:
    assert extract_answer(f"<think>{B}4{E}</think>four").outcome is Outcome.NO_BOX


def test_a_template_that_opens_the_thinking_makes_a_bare_text_unclosed() -> None:
    options = ExtractOptions(thinking_is_open=True)
    assert extract_answer(f"t {B}4{E}", options).outcome is Outcome.UNCLOSED_THINKING
    assert extract_answer(f"t</think>{B}4{E}", options).answer == "4"
    assert extract_answer(f"<think>t</think>{B}4{E}", options).answer == "4"


@pytest.mark.parametrize(
    ("text", "outcome", "answer"),
    [
        (r"so \boxed{\frac{1}{2}}", Outcome.OK, r"\frac{1}{2}"),
        (r"so \boxed{\{1, 2\}}", Outcome.OK, r"\{1, 2\}"),
        (r"so \boxed {a\}b}", Outcome.OK, r"a\}b"),
        (r"so \boxed{1", Outcome.UNCLOSED_BOX, ""),
        (r"so \boxed{\boxed{1}}", Outcome.NESTED_BOX, ""),
        (r"\boxed{1} or \boxed{2}", Outcome.SEVERAL_BOXES, ""),
        (r"\boxed{}", Outcome.EMPTY_BOX, ""),
        ("no box", Outcome.NO_BOX, ""),
    ],
)
def test_latex_boxes_are_a_fallback(text: str, outcome: Outcome, answer: str) -> None:
    assert extract_answer(text).outcome is Outcome.NO_BOX
    extraction = extract_answer(text, ExtractOptions(fallbacks=(Fallback.BOXED,)))
    assert (extraction.outcome, extraction.answer) == (outcome, answer)


def test_a_latex_box_does_not_hide_the_real_one() -> None:
    extraction = extract_answer(rf"\boxed{{5}} {B}4{E}", ExtractOptions(fallbacks=(Fallback.BOXED,)))
    assert extraction.answer == "4"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Well.\nFinal answer: 42", "42"),
        ("The final answer is 42.", "42"),
        ("**Final Answer:** 42", "42"),
        ("Answer: x = 3.5", "x = 3.5"),
        ("所以\n最终答案：42。", "42"),
        ("答案是 42", "42"),
    ],
)
def test_a_final_answer_line_is_a_fallback(text: str, answer: str) -> None:
    assert extract_answer(text).outcome is Outcome.NO_BOX
    assert extract_answer(text, ExtractOptions(fallbacks=(Fallback.FINAL_ANSWER,))).answer == answer


def test_two_final_answers_are_none() -> None:
    text = "Final answer: 4\nFinal answer: 5"
    outcome = extract_answer(text, ExtractOptions(fallbacks=(Fallback.FINAL_ANSWER,))).outcome
    assert outcome is Outcome.SEVERAL_BOXES


_PIECES = st.lists(st.sampled_from([*FORMAT_TOKENS, "4", " ", "\\boxed{", "}", "answer: "]), max_size=12).map("".join)


@given(_PIECES)
def test_any_arrangement_of_markers_has_an_outcome(text: str) -> None:
    options = ExtractOptions(fallbacks=(Fallback.BOXED, Fallback.FINAL_ANSWER))
    extraction = extract_answer(text, options)
    assert bool(extraction.answer) == extraction.ok


@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_what_is_rendered_is_extracted(thinking: str, answer: str) -> None:
    extraction = extract_answer(render_response(thinking, answer))
    assert extraction.answer == answer.strip()
