"""Charts: values within a relative tolerance; years, counts and labels exactly.

What a reference is decides how near an answer must be (GLM-4.1V-Thinking, arXiv 2507.01006, section 5, has 2.5 % for
charts; here it is for values only):

| reference | is | an answer must be |
|---|---|---|
| `2015` | a year: a whole number from 1000 to 3000, in digits only | equal |
| `7`, or `how many ...?` | a count: up to 20, or up to 1,000 if the question asks for a count | equal |
| `12.5`, `1,500`, `$3 million`, `40 %` | a value | within the tolerance, in its unit |
| `Asia`, `Q3 2020` | a label | the same, in any case |
| `Asia, Europe`, `["Asia", 3]` | a list | one for one; labels in any order, with a number in the given order |
| `Asia: 4, Europe: 5` | pairs | the same labels, each with its value |
"""

from __future__ import annotations

import re
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.items import match_items, read_list, read_pairs
from rlcs.rewards.short_numbers import Amount, read_amount, same_amount, tolerance_of
from rlcs.rewards.text import MAX_CHARACTERS, flag_of, folded, is_no_number, same_label
from rlcs.rewards.verifier import Judge, Match, Verifier, question_of

_FIRST_YEAR, _LAST_YEAR = 1000, 3000
_SMALL_COUNT, _LARGE_COUNT = 20, 1_000
_ASKS_FOR_COUNT = re.compile(
    r"\bhow many\b|\b(?:number|count) of\b|\bcount the\b|多少个|几个|几条|几种|数量", re.IGNORECASE
)


class Kind(StrEnum):
    """What a reference is."""

    YEAR = "year"
    COUNT = "count"
    VALUE = "value"
    LABEL = "label"


class Chart(Verifier):
    """1 if the answer is the reference, by the kind of the reference, else 0. The judge is not asked.

    Args:
        extract: how the answer is found in a response.
        judge: not asked.
        tolerance: relative error that a value may have.
        ordered: whether lists keep their order; None: those that hold a number do.

    Columns:
        kind: `year`, `count`, `value` or `label`: what the reference, or every item of it, is; guessed if absent.
        tolerance: in place of the option.
        ordered: in place of the option.
        question: tells counts; the last message if absent. Not needed for years.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        tolerance: float = 0.025,
        ordered: bool | None = None,
    ) -> None:
        super().__init__(extract, judge=judge)
        self._tolerance = tolerance_of(tolerance, "option tolerance")
        self._ordered = flag_of({"ordered": ordered}, "ordered", None)

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            kind = _kind_of(columns)
            self._tolerance_of(columns)
            flag_of(columns, "ordered", None)
        except RewardError as error:
            return str(error)
        fault = _fault_of(answer)
        if fault is None and kind not in (None, Kind.LABEL):
            other = next((item for item in _items_of(answer) if read_amount(item) is None), None)
            fault = other and f"the reference {other[:60]!r} is no number, but column kind says that it is a {kind}"
        return fault or None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        if len(answer) > MAX_CHARACTERS:
            return Match(0.0, f"the answer is longer than {MAX_CHARACTERS} characters")
        if is_no_number(answer):
            return Match(0.0, "the answer is no value and no label")
        fault = _fault_of(reference)
        if fault is not None:
            return Match(0.0, fault)
        answer, reference = _lone_item(answer), _lone_item(reference)
        kind, tolerance = _kind_of(columns), self._tolerance_of(columns)
        asks_for_count = bool(_ASKS_FOR_COUNT.search(question_of(columns)[:MAX_CHARACTERS]))

        def same(mine: str, theirs: str) -> bool:
            return same_scalar(mine, theirs, tolerance, kind=kind, asks_for_count=asks_for_count)

        if same(answer, reference):
            return Match(1.0, "the same value or label")
        if read_amount(reference) is not None:
            return Match(0.0, "another value")
        expected_pairs = _pairs(reference)
        if expected_pairs:
            pairs = _pairs(answer)
            if not pairs or pairs.keys() != expected_pairs.keys():
                return Match(0.0, "the answer has not the labels of the reference")
            wrong = [label for label, value in expected_pairs.items() if not same(pairs[label], value)]
            return Match(float(not wrong), f"wrong at {wrong[0][:60]!r}" if wrong else "the same labels and values")
        expected = read_list(reference)
        items = read_list(answer) if expected else None
        if not expected or not items:
            return Match(0.0, "another label")
        ordered = flag_of(columns, "ordered", self._ordered)
        if ordered is None:
            ordered = any(read_amount(item) is not None for item in expected)
        is_same = match_items(items, expected, same, ordered=ordered)
        return Match(float(is_same), "the same list" if is_same else "another list")

    def _tolerance_of(self, columns: dict[str, Any]) -> Fraction:
        value = columns.get("tolerance")
        return self._tolerance if value is None else tolerance_of(value, "column tolerance")


def same_scalar(
    answer: str, reference: str, tolerance: Fraction, *, kind: Kind | None = None, asks_for_count: bool = False
) -> bool:
    """Whether one value or label is the reference's.

    Args:
        answer: of the response.
        reference: decides the kind if none is given.
        tolerance: relative error that a value may have.
        kind: what the reference is.
        asks_for_count: the question asks for a count.
    """
    if kind is Kind.LABEL:
        return same_label(answer, reference)
    expected = read_amount(reference)
    if expected is None:
        return same_label(answer, reference)
    found = read_amount(answer)
    if found is None:
        return False
    if kind is None:
        kind = kind_of_amount(expected, asks_for_count=asks_for_count)
    if kind is Kind.VALUE:
        return same_amount(found, expected, tolerance)
    return not found.is_percent and found.value == expected.value and same_amount(found, expected)


def kind_of_amount(amount: Amount, *, asks_for_count: bool = False) -> Kind:
    """Whether a number is a year, a count or a value."""
    if not amount.is_plain:
        return Kind.VALUE
    if _FIRST_YEAR <= amount.value <= _LAST_YEAR:
        return Kind.YEAR
    limit = _LARGE_COUNT if asks_for_count else _SMALL_COUNT
    return Kind.COUNT if 0 <= amount.value <= limit else Kind.VALUE


@lru_cache(maxsize=16_384)
def _fault_of(reference: str) -> str | None:
    """Why a reference cannot be used, whatever the columns say; None if it can."""
    if not folded(reference) or len(reference) > MAX_CHARACTERS:
        return f"the reference answer is empty or longer than {MAX_CHARACTERS} characters"
    for item in _items_of(reference):
        if not folded(item) or is_no_number(item):
            return f"the reference {item[:60]!r} is no value and no label"
    return None


def _items_of(reference: str) -> list[str]:
    pairs = _pairs(reference)
    return list(pairs.values()) if pairs else read_list(reference, split_and=False) or [reference]


def _lone_item(text: str) -> str:
    """The item of a JSON list of one, as ChartQA has its labels; any other text as it is."""
    items = read_list(text) if text.lstrip().startswith("[") else None
    return items[0] if items and len(items) == 1 else text


def _pairs(text: str) -> dict[str, str] | None:
    """The pairs of a text, unless it is a time such as 12:30."""
    pairs = read_pairs(text)
    return None if pairs and len(pairs) == 1 and re.fullmatch(r"\s*[\d:]+\s*(?:[ap]\.?m\.?)?", text.lower()) else pairs


def _kind_of(columns: dict[str, Any]) -> Kind | None:
    value = columns.get("kind")
    if value is None:
        return None
    if value not in list(Kind):
        raise RewardError(f"column kind must be one of {', '.join(Kind)}, not {value!r}")
    return Kind(value)
