"""Times and spans of time in a video, read from text: `01:23`, `1:02:03.5`, `83 s`, `1分23秒`, `[12.5, 30]`, `0:12 - 0:30`.

A time is in seconds; a span is (start, end). Each regex looks at a bounded number of characters, so that the time taken is
linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rlcs.rewards.literals import LiteralError, LiteralReader, is_number

Span = tuple[float, float]

_MAX_CHARACTERS = 3_000
_HOURS = r"(?:hours|hour|hrs|hr|h|小时|时)"
_MINUTES = r"(?:minutes|minute|mins|min|m|分钟|分)"
_SECONDS = r"(?:seconds|second|secs|sec|s|秒)"
_AMOUNT = r"[0-9]{1,7}(?:\.[0-9]{1,6})?"
_TIME = re.compile(
    r"(?:(?:(?P<hh>[0-9]{1,3}):)?(?P<mm>[0-9]{1,3}):(?P<ss>[0-5][0-9](?:\.[0-9]{1,6})?)(?![0-9:.a-z]|\s[ap]\.?m)"
    rf"|(?:(?P<h>{_AMOUNT})\s?{_HOURS}\s?)?(?:(?P<m>{_AMOUNT})\s?{_MINUTES}\s?(?:and\s)?)?(?P<s>{_AMOUNT})\s?{_SECONDS}(?![a-z])"
    rf"|(?:(?P<h2>{_AMOUNT})\s?{_HOURS}\s?)?(?P<m2>{_AMOUNT})\s?{_MINUTES}(?![a-z])"
    rf"|(?P<h3>{_AMOUNT})\s?{_HOURS}(?![a-z])"
    rf"|(?P<bare>{_AMOUNT})(?![0-9:.]))"
)
_TO = re.compile(r"\s?(?:-|to\b|至|到)\s?")
_COMMA = re.compile(r"\s?,\s?")
_BETWEEN = re.compile(r"\s?(?:[,;、]|\band\b|和)\s?|\s(?=[\[(]|from\b)")
_FROM = re.compile(r"(?:from|between|从)\s?")
_DASHES = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "~": "-", "〜": "-", "‐": "-", "‑": "-", "\u200e": "", "\u200f": ""}
)
_KEYS = (("start", "end"), ("start_time", "end_time"), ("begin", "end"), ("from", "to"))


class Form(StrEnum):
    """How a time is written."""

    CLOCK = "clock"
    SECONDS = "seconds"
    UNITS = "units"
    """With minutes or hours."""
    BARE = "bare"
    """A number alone; it counts seconds."""


@dataclass(frozen=True, slots=True)
class Time:
    """A time and how it was written."""

    seconds: float
    form: Form


def plain_time_text(text: str) -> str:
    """One spelling of dashes, digits and blanks.

    Raises:
        LiteralError: the text is too long.
    """
    if len(text) > _MAX_CHARACTERS:
        raise LiteralError(f"the answer is longer than {_MAX_CHARACTERS} characters")
    return " ".join(unicodedata.normalize("NFKC", text).translate(_DASHES).replace("第", "").lower().split())


def parse_time(text: str) -> Time:
    """The one time that a text spells, after an optional `at`.

    Raises:
        LiteralError: it is none.
    """
    plain = plain_time_text(text).removeprefix("at ").removeprefix("在").removesuffix(".")
    time, position = _time_at(plain, 0)
    if position != len(plain):
        raise LiteralError("there is text after the time")
    return time


def parse_spans(text: str, max_spans: int = 50) -> tuple[list[Span], bool]:
    """The spans that a text spells and nothing else, and whether they can only be spans of time.

    `5-8` may be a score as well; brackets, clock times and units leave no doubt.

    Raises:
        LiteralError: it is something else, or holds more than `max_spans` spans.
    """
    plain = plain_time_text(text)
    if plain.startswith(("[", "{", "(")):
        try:
            spans = _spans_of_literal(_read_literal(plain))
        except LiteralError:
            spans, _ = _scan(plain)
        certain = True
    else:
        spans, certain = _scan(plain)
    if len(spans) > max_spans:
        raise LiteralError(f"there are {len(spans)} spans, more than the limit of {max_spans}")
    return spans, certain


def span_iou(a: Span, b: Span) -> float:
    """Length of the intersection over length of the union, in [0, 1]; 0 if either has no finite length."""
    if not (a[0] < a[1] and b[0] < b[1]):
        return 0.0
    common = min(a[1], b[1]) - max(a[0], b[0])
    # The distance of the outer ends is the length of the union only if the spans overlap; if not, the result is 0 anyhow.
    union = max(a[1], b[1]) - min(a[0], b[0])
    return common / union if 0 < common <= union < float("inf") else 0.0


def _time_at(text: str, position: int) -> tuple[Time, int]:
    match = _TIME.match(text, position)
    if match is None:
        raise LiteralError(f"a time is expected at character {position}")
    part = {name: float(value) for name, value in match.groupdict().items() if value is not None}
    if "mm" in part:
        if "hh" in part and part["mm"] >= 60:
            raise LiteralError("a time has less than 60 minutes beside hours")
        seconds, form = 3600 * part.get("hh", 0) + 60 * part["mm"] + part["ss"], Form.CLOCK
    elif "bare" in part:
        seconds, form = part["bare"], Form.BARE
    else:
        hours = part.get("h", part.get("h2", part.get("h3", 0.0)))
        minutes = part.get("m", part.get("m2", 0.0))
        seconds = 3600 * hours + 60 * minutes + part.get("s", 0.0)
        form = Form.SECONDS if len(part) == 1 and "s" in part else Form.UNITS
    return Time(seconds, form), match.end()


def _scan(text: str) -> tuple[list[Span], bool]:
    """Spans one after the other; whether none of them is just two bare numbers with a dash."""
    spans: list[Span] = []
    certain = True
    text = text.removesuffix(".")
    position = 0
    while position < len(text):
        if spans:
            between = _BETWEEN.match(text, position)
            if between is None:
                raise LiteralError(f"a separator of spans is expected at character {position}")
            position = between.end()
        opening = text[position : position + 1]
        closing = {"[": "]", "(": ")"}.get(opening)
        position += closing is not None
        lead = _FROM.match(text, position)
        start, position = _time_at(text, lead.end() if lead else position)
        joint = _TO.match(text, position) or (_COMMA.match(text, position) if closing else None)
        if joint is None and lead and lead.group().startswith("between") and text.startswith(" and ", position):
            position += len(" and ")
        elif joint is None:
            raise LiteralError(f"the end of a span is expected at character {position}")
        else:
            position = joint.end()
        end, position = _time_at(text, position)
        if closing:
            if text[position : position + 1] != closing:
                raise LiteralError(f"{closing!r} is expected at character {position}")
            position += 1
        spans.append(_span(start, end))
        certain &= closing is not None or (start.form, end.form) != (Form.BARE, Form.BARE)
    if not spans:
        raise LiteralError("there is no span")
    return spans, certain


def _span(start: Time, end: Time) -> Span:
    if {start.form, end.form} == {Form.BARE, Form.UNITS}:
        raise LiteralError("a number has no unit beside one that has")
    return start.seconds, end.seconds


def _read_literal(text: str) -> Any:
    reader = LiteralReader(text)
    values = [reader.value()]
    while reader.take(","):
        values.append(reader.value())
    reader.expect_end()
    return values[0] if len(values) == 1 else values


def _spans_of_literal(value: Any) -> list[Span]:
    if isinstance(value, dict):
        for first, last in _KEYS:
            if value.keys() >= {first, last}:
                return [_span(_time_of(value[first]), _time_of(value[last]))]
        raise LiteralError("a span has `start` and `end`")
    if not isinstance(value, list):
        raise LiteralError("a span has a start and an end")
    if len(value) == 2 and not any(isinstance(item, list | dict) for item in value):
        return [_span(_time_of(value[0]), _time_of(value[1]))]
    return [span for item in value for span in _spans_of_literal(item)]


def _time_of(value: Any) -> Time:
    if isinstance(value, str):
        return parse_time(value)
    if not is_number(value) or value < 0:
        raise LiteralError("a time is a number of seconds from 0 on")
    return Time(float(value), Form.BARE)
