"""Spatial questions: relations, choices, yes or no and numbers by rule; descriptions by a judge."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.choices import read_choices, read_labels
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.short_answers import compare_short, validate_short
from rlcs.rewards.short_numbers import tolerance_of
from rlcs.rewards.spatial_words import names_several, read_relation
from rlcs.rewards.text import unwrap
from rlcs.rewards.verifier import Judge, Match, Verifier

_LETTER = re.compile(r"\(?[A-J]\)?\.?")


class Spatial(Verifier):
    """1 if the answer is the reference, else 0; a description that no rule reads is the judge's to decide.

    Relations are compared by meaning (`rlcs.rewards.spatial_words`): `to the left of` is `left`, `upper left` is
    `top-left corner`, `on` is not `above`.

    Args:
        extract: how the answer is found in a response.
        judge: decides on descriptions.
        tolerance: relative error of numbers that are not whole, such as distances.

    Columns:
        choices: the texts of the choices, as in `multiple_choice`.
        tolerance: in place of the option.
    """

    def __init__(
        self, extract: ExtractOptions | None = None, *, judge: Judge | None = None, tolerance: float = 0.0
    ) -> None:
        super().__init__(extract, judge=judge)
        self._tolerance = tolerance_of(tolerance, "option tolerance")

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            choices = read_choices(columns.get("choices"))
            self._tolerance_of(columns)
        except RewardError as error:
            return str(error)
        if choices and not read_labels(answer, choices):
            return f"the reference {answer[:60]!r} names none of the choices {', '.join(choices)}"
        return validate_short(answer)

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        choices = read_choices(columns.get("choices"))
        if choices or _LETTER.fullmatch(unwrap(reference)):
            expected_labels = read_labels(reference, choices)
            if expected_labels and read_labels(answer, choices) == expected_labels:
                return Match(1.0, "the same choice")
            if choices or read_relation(reference) is None:
                return Match(0.0, "another choice, or none")
        expected = read_relation(reference)
        if expected:
            found = read_relation(answer)
            if found:
                return Match(float(found == expected), f"the answer says {' and '.join(sorted(found))}")
            if names_several(answer):
                return Match(0.0, "the answer says one thing and its opposite")
        return compare_short(answer, reference, tolerance=self._tolerance_of(columns), domain="spatial", count=True)

    def _tolerance_of(self, columns: dict[str, Any]) -> Fraction:
        value = columns.get("tolerance")
        return self._tolerance if value is None else tolerance_of(value, "column tolerance")
