"""What happens when in a video: spans, timestamps, the order of events; other answers exactly, else by a judge.

Spans are matched one to one as boxes are (`rlcs.rewards.grounding`), by the length of their intersection over that of their
union; dividing by the larger number of spans makes a span too many a loss.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np

from rlcs.errors import RewardError
from rlcs.rewards.boxes import assign, assign_over
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.literals import LiteralError, LiteralReader, is_number
from rlcs.rewards.mathtext.normalize import plain_words
from rlcs.rewards.short_numbers import read_amount, same_amount
from rlcs.rewards.time_spans import Form, Span, Time, parse_spans, parse_time, span_iou
from rlcs.rewards.verifier import Judge, Match, Verifier

_TINY = 1e-9
_MAX_EVENTS = 50
_MAX_TEXT = 2_000
"""Characters of an answer that is an order or a text."""
_ARROWS = re.compile(r"\s*(?:[-=]+>|→|⇒|>)\s*")
_SEPARATORS = re.compile(r"\s*[,;、，；\n]\s*")
_NUMBERING = re.compile(r"[0-9]{1,2}[.)]\s+")
_LETTERS = re.compile(r"[A-Z]{2,20}|[A-Z](?: [A-Z]){1,19}")
_METRES = re.compile(r"[0-9]\s?[mh](?![0-9a-zA-Z])(?!\s?[0-9])")
"""`5 m`, `3 h`: minutes and hours, or metres and heights."""


class Kind(StrEnum):
    """What an answer is."""

    AUTO = "auto"
    """Found from the reference (see `detect_kind`)."""
    SPANS = "spans"
    TIMESTAMP = "timestamp"
    ORDER = "order"
    TEXT = "text"
    """The same words or the same number, else the judge."""


class Video(Verifier):
    """Temporal grounding and questions about videos.

    Args:
        extract: how the answer is found in a response.
        judge: decides on texts that are not the reference's.
        answer_kind: `auto`, `spans`, `timestamp`, `order` or `text`.
        mode: `graded` gives a pair of spans its IoU, `threshold` 1 from `iou_threshold` on; `correct` follows the threshold.
        iou_threshold: overlap at which two spans match.
        tolerance_s: how far a timestamp may be off and be right, in seconds.
        decay_s: where the value of a timestamp beyond the tolerance reaches 0, in seconds beyond it; 0 is all or nothing.
        order: `exact` gives 1 for the right order and 0 for any other; `graded` gives Kendall's tau if it is positive.
        max_spans: an answer with more spans is worth 0.

    A row's columns `answer_kind`, `iou_threshold` and `tolerance_s` override the arguments.

    Raises:
        RewardError: an argument is none of the values above.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        answer_kind: str = Kind.AUTO,
        mode: str = "graded",
        iou_threshold: float = 0.5,
        tolerance_s: float = 1.0,
        decay_s: float = 0.0,
        order: str = "exact",
        max_spans: int = 50,
    ) -> None:
        super().__init__(extract, judge=judge)
        for is_right, wanted in (
            (answer_kind in tuple(Kind), f"answer_kind must be one of {', '.join(Kind)}, not {answer_kind!r}"),
            (mode in ("graded", "threshold"), f"mode must be graded or threshold, not {mode!r}"),
            (order in ("exact", "graded"), f"order must be exact or graded, not {order!r}"),
            (0 < iou_threshold <= 1, f"iou_threshold must be over 0 and up to 1, not {iou_threshold!r}"),
            (0 <= tolerance_s < 1e6, f"tolerance_s must be from 0 on, not {tolerance_s!r}"),
            (0 <= decay_s < 1e6, f"decay_s must be from 0 on, not {decay_s!r}"),
            (1 <= max_spans <= 500, f"max_spans must be between 1 and 500, not {max_spans!r}"),
        ):
            if not is_right:
                raise RewardError(f"reward 'video': {wanted}")
        self._kind = Kind(answer_kind)
        self._is_graded, self._order_is_graded = mode == "graded", order == "graded"
        self._iou_threshold = iou_threshold
        self._tolerance_s, self._decay_s = tolerance_s, decay_s
        self._max_spans = max_spans

    def setup(self) -> None:
        assign(np.zeros((1, 1)))  # imports scipy, which takes a second

    def validate(self, answer: str, **columns: Any) -> str | None:
        kind = columns.get("answer_kind") or self._kind
        if kind not in tuple(Kind):
            return f"answer_kind must be one of {', '.join(Kind)}, not {kind!r}"
        for name, low, high in (("iou_threshold", 1e-6, 1.0), ("tolerance_s", 0.0, 1e6)):
            value = columns.get(name)
            if value is not None and not (is_number(value) and low <= value <= high):
                return f"{name} must be a number between {low:g} and {high:g}, not {value!r}"
        if not answer.strip():
            return "the reference answer is empty"
        try:
            asked = Kind(kind)
            kind, reference = _read_reference(answer, asked, self._max_spans)
            if asked is Kind.AUTO and kind is Kind.TEXT and _is_backward(answer, self._max_spans):
                return "a reference span ends before its start; if it is none, say so by answer_kind"
            if kind is Kind.TEXT and len(answer) > _MAX_TEXT:
                return f"the reference answer is longer than {_MAX_TEXT} characters"
        except LiteralError as error:
            return f"the reference answer cannot be read as {kind}: {error}"
        if kind is Kind.SPANS and not all(start < end for start, end in reference):
            return "a reference span does not end after its start"
        if kind is Kind.ORDER and (len(reference) < 2 or len(set(reference)) != len(reference)):
            return "an order has two events or more, each once"
        return None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        try:
            asked = Kind(columns.get("answer_kind") or self._kind)
            kind, expected = _read_reference(reference, asked, self._max_spans)
        except ValueError as error:  # a LiteralError, or no Kind
            return Match(0.0, f"the reference answer cannot be read: {error}", event="bad_reference")
        try:
            if kind is Kind.SPANS:
                return self._compare_spans(parse_spans(answer, self._max_spans)[0], expected, columns)
            if kind is Kind.TIMESTAMP:
                return self._compare_times(parse_time(answer), expected, columns)
            if kind is Kind.ORDER:
                return self._compare_orders(parse_order(answer), expected)
        except LiteralError as error:
            return Match(0.0, f"the answer cannot be read as {kind}: {error}", event="unreadable")
        return _compare_texts(answer, reference)

    def _compare_spans(self, found: list[Span], expected: list[Span], columns: dict[str, Any]) -> Match:
        threshold = columns.get("iou_threshold")
        threshold = self._iou_threshold if threshold is None else float(threshold)
        overlaps = np.array([[span_iou(a, b) for b in expected] for a in found])  # [P, R]
        matched, _ = assign_over(overlaps, threshold)
        larger = max(len(found), len(expected))
        mean_iou = min(float(overlaps[assign(overlaps)].sum()) / larger, 1.0) if overlaps.size else 0.0
        return Match(
            mean_iou if self._is_graded else matched / larger,
            f"{matched} of {len(expected)} spans matched, {len(found)} predicted, mean IoU {mean_iou:.3f}",
            correct=matched == larger,
            parts={"matched": matched / larger, "mean_iou": mean_iou},
        )

    def _compare_times(self, found: Time, expected: Time, columns: dict[str, Any]) -> Match:
        tolerance = columns.get("tolerance_s")
        tolerance = self._tolerance_s if tolerance is None else float(tolerance)
        if {found.form, expected.form} == {Form.BARE, Form.UNITS}:
            return Match(0.0, "a number has no unit, the reference has minutes or hours")
        error = abs(found.seconds - expected.seconds)
        beyond = error - tolerance
        if beyond <= _TINY:
            return Match(1.0, f"{error:g} s off")
        value = max(0.0, 1.0 - beyond / self._decay_s) if self._decay_s else 0.0
        return Match(min(value, 1.0), f"{error:g} s off", correct=False)

    def _compare_orders(self, found: list[str], expected: list[str]) -> Match:
        if found == expected:
            return Match(1.0, "the same order")
        if len(found) != len(expected) or set(found) != set(expected):
            return Match(0.0, "other events than the reference's")
        place = {event: index for index, event in enumerate(expected)}
        places = np.array([place[event] for event in found])
        first, second = np.triu_indices(len(places), 1)
        tau = float(np.sign(places[second] - places[first]).mean())
        value = max(0.0, tau) if self._order_is_graded else 0.0
        return Match(value, f"another order, tau {tau:.2f}", correct=False, parts={"tau": max(0.0, tau)})


def detect_kind(reference: str, max_spans: int = 50) -> Kind:
    """What a reference must be, where its form leaves no doubt; text otherwise.

    Spans: in brackets, or with clock times or units. Timestamp: a clock time or a number with a unit. Order: with arrows, two or
    more single capital letters in a list, or three or more items in brackets. A bare number, `5-8`, `BAC` or words with commas
    are texts; so is `5 m`, which may be metres.
    """
    if _METRES.search(reference):
        return Kind.TEXT
    try:
        spans, certain = parse_spans(reference, max_spans)
        if certain and all(start < end for start, end in spans):
            return Kind.SPANS
    except LiteralError:
        pass
    try:
        if parse_time(reference).form is not Form.BARE:
            return Kind.TIMESTAMP
    except LiteralError:
        pass
    try:
        events = parse_order(reference)
    except LiteralError:
        return Kind.TEXT
    stripped = reference.strip()
    is_list = stripped.startswith("[") and len(events) >= 3
    is_letters = all(len(event) == 1 and event.isalpha() for event in events) and _SEPARATORS.search(stripped)
    if len(events) >= 2 and (is_list or is_letters or _ARROWS.search(stripped)):
        return Kind.ORDER
    return Kind.TEXT


def _is_backward(reference: str, max_spans: int) -> bool:
    """Whether a text that would be spans has one that does not end after its start."""
    try:
        return not _METRES.search(reference) and parse_spans(reference, max_spans)[1]
    except LiteralError:
        return False


def parse_order(text: str) -> list[str]:
    """The events of a text in their order: joined by arrows, in a list, joined by commas or lines, or letters in a row.

    Raises:
        LiteralError: there are too many of them, or the text is too long.
    """
    if len(text) > _MAX_TEXT:
        raise LiteralError(f"the answer is longer than {_MAX_TEXT} characters")
    text = text.strip()
    if text.startswith("["):
        events = _events_of_list(text)
    elif _ARROWS.search(text):
        events = _ARROWS.split(text)
    elif _SEPARATORS.search(text):
        events = _SEPARATORS.split(text)
        if "\n" in text and all(_NUMBERING.match(event) for event in events):
            events = [_NUMBERING.sub("", event, count=1) for event in events]
    elif _LETTERS.fullmatch(text):
        events = list(text.replace(" ", ""))
    else:
        events = [text]
    if len(events) > _MAX_EVENTS:
        raise LiteralError(f"there are more than {_MAX_EVENTS} events")
    plain = [plain_words(event).strip("()[] ") for event in events]
    if not all(plain):
        raise LiteralError("an event is empty")
    return plain


def _events_of_list(text: str) -> list[str]:
    try:
        reader = LiteralReader(text)
        values = reader.value()
        reader.expect_end()
    except LiteralError:
        if not text.endswith("]"):
            raise
        values = _SEPARATORS.split(text[1:-1])
    return [f"{value:g}" if is_number(value) else str(value) for value in values]


@lru_cache(maxsize=16_384)
def _read_reference(text: str, kind: Kind, max_spans: int) -> tuple[Kind, Any]:
    """The kind of a reference, and its spans, time, or events."""
    if kind is Kind.AUTO:
        kind = detect_kind(text, max_spans)
    if kind is Kind.SPANS:
        return kind, parse_spans(text, max_spans)[0]
    if kind is Kind.TIMESTAMP:
        return kind, parse_time(text)
    return kind, parse_order(text) if kind is Kind.ORDER else None


def _compare_texts(answer: str, reference: str) -> Match:
    if len(answer) > _MAX_TEXT:
        return Match(0.0, f"the answer is longer than {_MAX_TEXT} characters", event="unreadable")
    if plain_words(answer).strip("() ") == plain_words(reference).strip("() "):
        return Match(1.0, "the same words")
    found, expected = read_amount(answer), read_amount(reference)
    if found is not None and expected is not None:
        same = same_amount(found, expected)
        return Match(float(same), "the same number" if same else "another number")
    return Match(0.0, "other words than the reference's", is_open=True)
