"""Questions on long documents: exact, numeric and list answers, `not answerable`, and a judge for the rest.

That a document does not answer a question is an answer: where it is the reference, only it is right; elsewhere it is
wrong, and no judge is asked.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.items import match_items, read_list
from rlcs.rewards.short_answers import compare_short, validate_short
from rlcs.rewards.short_numbers import read_amount, tolerance_of
from rlcs.rewards.text import MAX_CHARACTERS, flag_of, words_of
from rlcs.rewards.verifier import Judge, Match, Verifier

_NOT_ANSWERABLE = frozenset(
    """not answerable|unanswerable|cannot be answered|can not be answered|can't be answered|not mentioned|none mentioned
    |question cannot be answered|question is not answerable|question is unanswerable|it is not answerable
    |question cannot be answered from document|not mentioned in document|not stated|not given|not provided|not specified
    |not in document|no answer|cannot be determined|can not be determined|not enough information|insufficient information
    |not available|not found|document does not mention it|document does not mention this
    |document does not say|document doesn't say|n/a|fail to answer
    |无法回答|不能回答|未提及|文中未提及|没有提及|文档中未提及|文中没有提到|无法从文档中得出""".replace(
        "\n    ", ""
    ).split("|")
)


class LongDocument(Verifier):
    """1 if the answer is the reference, else 0; other words than the reference's are the judge's to decide.

    Args:
        extract: how the answer is found in a response.
        judge: decides on words that no rule settles.
        tolerance: relative error of numbers that are not whole; 0: what rounds to a decimal reference is right.
        ordered: whether lists keep their order.

    Columns:
        tolerance: in place of the option.
        ordered: in place of the option.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        tolerance: float = 0.0,
        ordered: bool = False,
    ) -> None:
        super().__init__(extract, judge=judge)
        self._tolerance = tolerance_of(tolerance, "option tolerance")
        self._ordered = bool(flag_of({"ordered": ordered}, "ordered", False))

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            self._tolerance_of(columns)
            flag_of(columns, "ordered", None)
        except RewardError as error:
            return str(error)
        items = read_list(answer) if answer.strip().startswith("[") else None
        return next((reason for reason in map(validate_short, items or [answer]) if reason), None)

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        if is_not_answerable(reference):
            return Match(float(is_not_answerable(answer)), "the question cannot be answered")
        if is_not_answerable(answer):
            return Match(0.0, "the question can be answered")
        tolerance = self._tolerance_of(columns)

        def compare(mine: str, theirs: str) -> Match:
            return compare_short(mine, theirs, tolerance=tolerance, domain="long_document", count=True)

        verdict = compare(answer, reference)
        if verdict.value >= 1.0 or read_amount(reference) is not None or len(answer) > MAX_CHARACTERS:
            return verdict
        expected = read_list(reference)
        if not expected:
            return verdict
        items = read_list(answer) or [answer]
        ordered = bool(flag_of(columns, "ordered", self._ordered))
        if match_items(items, expected, lambda mine, theirs: compare(mine, theirs).value >= 1.0, ordered=ordered):
            return Match(1.0, "the same list")
        if len(items) != len(expected) or all(read_amount(item) is not None for item in expected):
            return Match(0.0, f"a list of {len(items)} for one of {len(expected)}, or other numbers")
        return Match(0.0, "other items than the reference", is_open=verdict.is_open)

    def _tolerance_of(self, columns: dict[str, Any]) -> Fraction:
        value = columns.get("tolerance")
        return self._tolerance if value is None else tolerance_of(value, "column tolerance")


def is_not_answerable(text: str) -> bool:
    """Whether a text says that the document does not answer the question, and nothing else."""
    return len(text) <= 100 and (words_of(text) in _NOT_ANSWERABLE or text.strip().casefold() in _NOT_ANSWERABLE)
