"""Find the thinking, the answer segment and the one marked answer in a response.

The format is GLM-4.1V-Thinking's (arXiv 2507.01006, section 4; `rlcs.response_format`). A small state machine walks
over the markers; every way in which a response can break the format has an `Outcome` of its own, and none is repaired
by guessing: a repair would teach the policy to break the format.

Rules
- `<think>` and `<answer>` are optional, once each, in this order. Without `<answer>` the answer segment is everything
  after `</think>`; without either it is the whole text. A `</think>` without `<think>` closes a thinking that the chat
  template opened.
- With segment markers, text outside of the segments is refused, save blanks.
- The answer segment holds exactly one `<|begin_of_box|>...<|end_of_box|>`. Boxes in the thinking do not count.
- Only when the answer segment holds no box marker at all are the fallbacks tried, in their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from rlcs.response_format import ANSWER_CLOSE, ANSWER_OPEN, BOX_CLOSE, BOX_OPEN, FORMAT_TOKENS, THINK_CLOSE, THINK_OPEN


class Outcome(StrEnum):
    """What became of a response's format."""

    OK = "ok"
    """One marked answer was found."""
    EMPTY_RESPONSE = "empty_response"
    """The response is blank."""
    UNCLOSED_THINKING = "unclosed_thinking"
    """`<think>` is never closed: there is no answer segment."""
    UNCLOSED_ANSWER = "unclosed_answer"
    """`<answer>` is never closed."""
    MISPLACED_MARKER = "misplaced_marker"
    """A think or answer marker is repeated, or out of order, or inside of another segment."""
    TEXT_OUTSIDE = "text_outside"
    """There is text before, between or after the segments."""
    NO_BOX = "no_box"
    """The answer segment has no marked answer."""
    UNCLOSED_BOX = "unclosed_box"
    """A box is opened and not closed."""
    UNOPENED_BOX = "unopened_box"
    """A box is closed that was not opened."""
    NESTED_BOX = "nested_box"
    """A box is opened inside of a box."""
    SEVERAL_BOXES = "several_boxes"
    """There is more than one box."""
    EMPTY_BOX = "empty_box"
    """The box is blank."""


class Fallback(StrEnum):
    """Other ways of marking the answer, tried only if asked for."""

    BOXED = "boxed"
    r"""One LaTeX `\boxed{...}`, with nested braces."""
    FINAL_ANSWER = "final_answer"
    """One line such as `Final answer: 42`, `The final answer is 42.`, `最终答案：42`."""


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """How a reward reads responses."""

    fallbacks: tuple[Fallback, ...] = ()
    """Tried in this order where there is no box marker."""
    thinking_is_open: bool = False
    """The chat template ends with `<think>`, so that a response starts inside of the thinking."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The parts of a response."""

    outcome: Outcome
    answer: str = ""
    """The marked answer, stripped; empty unless `outcome` is OK."""
    thinking: str = ""
    """The thinking segment, as far as it goes."""
    segment: str = ""
    """The answer segment as a whole; what a judge or a reward model reads."""
    detail: str = ""
    """What is wrong, for a person."""

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.outcome is Outcome.OK


_MARKERS = re.compile("|".join(re.escape(token) for token in FORMAT_TOKENS))
_SEGMENT_MARKERS = re.compile(
    "|".join(re.escape(token) for token in (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE))
)
_BOXED = re.compile(r"\\f?boxed\s*\{")
_FINAL_ANSWER = re.compile(
    r"^[\s*#>_]*(?:(?:the|my|so,?\s+the)\s+)?(?:final\s+)?answer\s*(?:is\b\s*:?|[:：=])[\s*_]*(?P<en>\S.*)$"
    r"|^[\s*#>_]*(?:最终|最后)?答案\s*(?:[是为]\s*[:：]?|[:：])[\s*_]*(?P<zh>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_DEFAULT_OPTIONS = ExtractOptions()


def extract_answer(text: str, options: ExtractOptions = _DEFAULT_OPTIONS) -> Extraction:
    """Split a response into thinking and answer segment, and find its one marked answer. Never raises."""
    if not text.strip():
        return Extraction(Outcome.EMPTY_RESPONSE, detail="the response is empty")
    segments = _split(text, options.thinking_is_open)
    if not segments.ok:
        return segments
    outcome, answer, detail = _find_box(segments.segment)
    for fallback in options.fallbacks:
        if outcome is not Outcome.NO_BOX:
            break
        outcome, answer, detail = _FALLBACKS[fallback](segments.segment)
    return Extraction(outcome, answer, segments.thinking, segments.segment, detail)


def holds_format_markers(text: str) -> bool:
    """Whether any marker of the response format is in the text."""
    return _MARKERS.search(text) is not None


class _State(StrEnum):
    START = "before <think>"
    THINKING = "in the thinking"
    BETWEEN = "after </think>"
    ANSWER = "in <answer>"
    END = "after </answer>"


_NEXT = {
    (_State.START, THINK_OPEN): _State.THINKING,
    (_State.START, THINK_CLOSE): _State.BETWEEN,
    (_State.START, ANSWER_OPEN): _State.ANSWER,
    (_State.THINKING, THINK_CLOSE): _State.BETWEEN,
    (_State.BETWEEN, ANSWER_OPEN): _State.ANSWER,
    (_State.ANSWER, ANSWER_CLOSE): _State.END,
}


def _split(text: str, thinking_is_open: bool) -> Extraction:
    """Walk over the segment markers; OK means that `segment` holds the answer segment."""
    state = _State.THINKING if thinking_is_open else _State.START
    text_of = dict.fromkeys(_State, "")
    position = 0
    for match in _SEGMENT_MARKERS.finditer(text):
        marker = match.group()
        text_of[state] += text[position : match.start()]
        position = match.end()
        following = _NEXT.get((state, marker))
        if following is None:
            if thinking_is_open and marker == THINK_OPEN and not text_of[state].strip():
                thinking_is_open = False  # the policy opened the thinking once more: harmless
                continue
            detail = f"{marker} is out of place: {state}"
            return Extraction(Outcome.MISPLACED_MARKER, thinking=text_of[_State.THINKING], detail=detail)
        if (state, marker) == (_State.START, THINK_CLOSE):
            text_of[_State.THINKING], text_of[_State.START] = text_of[_State.START], ""
        state = following
    text_of[state] += text[position:]
    thinking = text_of[_State.THINKING]
    if state is _State.THINKING:
        return Extraction(Outcome.UNCLOSED_THINKING, thinking=thinking, detail="the thinking is never closed")
    if state is _State.ANSWER:
        return Extraction(Outcome.UNCLOSED_ANSWER, thinking=thinking, detail="<answer> is never closed")
    if state is _State.START:
        return Extraction(Outcome.OK, segment=text_of[_State.START])
    inside = _State.BETWEEN if state is _State.BETWEEN else _State.ANSWER
    for outside in (_State.START, _State.BETWEEN, _State.END):
        if outside is not inside and text_of[outside].strip():
            return Extraction(Outcome.TEXT_OUTSIDE, thinking=thinking, detail=f"there is text {outside}")
    return Extraction(Outcome.OK, thinking=thinking, segment=text_of[inside])


_Found = tuple[Outcome, str, str]
"""Outcome, answer, detail."""


def _find_box(segment: str) -> _Found:
    opens, closes = segment.count(BOX_OPEN), segment.count(BOX_CLOSE)
    if opens == closes == 0:
        return Outcome.NO_BOX, "", "the answer has no box"
    if opens == 0:
        return Outcome.UNOPENED_BOX, "", "a box is closed that was not opened"
    if closes == 0:
        if opens > 1:
            return Outcome.NESTED_BOX, "", "a box is opened inside of a box"
        return Outcome.UNCLOSED_BOX, "", "the box is never closed"
    depth, boxes = 0, 0
    for match in _MARKERS.finditer(segment):
        if match.group() == BOX_OPEN:
            depth += 1
            boxes += 1
            if depth > 1:
                return Outcome.NESTED_BOX, "", "a box is opened inside of a box"
        else:
            depth -= 1
            if depth < 0:
                return Outcome.UNOPENED_BOX, "", "a box is closed that was not opened"
    if depth:
        return Outcome.UNCLOSED_BOX, "", "the last box is never closed"
    if boxes > 1:
        return Outcome.SEVERAL_BOXES, "", f"the answer has {boxes} boxes, not one"
    answer = segment[segment.index(BOX_OPEN) + len(BOX_OPEN) : segment.index(BOX_CLOSE)].strip()
    if not answer:
        return Outcome.EMPTY_BOX, "", "the box is empty"
    return Outcome.OK, answer, ""


def _find_boxed(segment: str) -> _Found:
    match = _BOXED.search(segment)
    if match is None:
        return Outcome.NO_BOX, "", r"the answer has no box and no \boxed{}"
    end = _closing_brace(segment, match.end())
    if end is None:
        return Outcome.UNCLOSED_BOX, "", r"the brace of \boxed{ is never closed"
    if _BOXED.search(segment, match.end(), end):
        return Outcome.NESTED_BOX, "", r"a \boxed{} is inside of another"
    if _BOXED.search(segment, end):
        return Outcome.SEVERAL_BOXES, "", r"the answer has more than one \boxed{}"
    answer = segment[match.end() : end].strip()
    if not answer:
        return Outcome.EMPTY_BOX, "", r"the \boxed{} is empty"
    return Outcome.OK, answer, ""


def _closing_brace(text: str, start: int) -> int | None:
    r"""Index of the brace that closes the one before `start`; `\{` and `\}` do not count."""
    depth, index = 1, start
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return index
        index += 1
    return None


def _find_final_answer(segment: str) -> _Found:
    matches = list(_FINAL_ANSWER.finditer(segment))
    if not matches:
        return Outcome.NO_BOX, "", "the answer has no box and no line `Final answer: ...`"
    if len(matches) > 1:
        return Outcome.SEVERAL_BOXES, "", "there is more than one final answer line"
    answer = (matches[0]["en"] or matches[0]["zh"]).strip().rstrip("*_ ").strip()
    if answer.endswith(("。", ".")) and not answer.endswith(".."):
        answer = answer[:-1].rstrip("*_ ")
    return (Outcome.OK, answer, "") if answer else (Outcome.EMPTY_BOX, "", "the final answer line is empty")


_FALLBACKS = {Fallback.BOXED: _find_boxed, Fallback.FINAL_ANSWER: _find_final_answer}
