"""Logic: truth values, truth tables, orderings, assignments and puzzle grids, compared by their exact structure."""

from __future__ import annotations

from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.hedging import find_hedge
from rlcs.rewards.logic_forms import FormError, as_set, read_form, with_truths
from rlcs.rewards.short_numbers import read_amount
from rlcs.rewards.text import check_flag, flag_of, is_no_number
from rlcs.rewards.verifier import Judge, Match, Verifier

_MANY_WORDS = 4
"""A reference of so many words is a sentence, which a judge may compare."""


class Logic(Verifier):
    """1 if the answer has the very structure of the reference, else 0: no part of a puzzle is worth anything by itself.

    What is read how is said in `rlcs.rewards.logic_forms`. Only where the reference is a sentence of four words or more
    is a judge asked.

    Args:
        extract: how the answer is found in a response.
        judge: decides on sentences.
        ordered: whether `A, B, C` and JSON lists keep their order; chains such as `A > B` always do.

    Columns:
        ordered: in place of the option.
    """

    def __init__(
        self, extract: ExtractOptions | None = None, *, judge: Judge | None = None, ordered: bool = True
    ) -> None:
        super().__init__(extract, judge=judge)
        self._ordered = check_flag("ordered", ordered)

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            flag_of(columns, "ordered", None)
            read_form(answer)
        except RewardError as error:
            return str(error)
        except FormError as error:
            return f"the reference cannot be read: {error}"
        return f"the reference {answer[:20]!r} is no value" if is_no_number(answer[:100]) else None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        try:
            found = read_form(answer)
        except FormError as error:
            return Match(0.0, f"the answer cannot be read: {error}", event="unreadable_answer")
        try:
            expected = read_form(reference)
        except FormError as error:
            return Match(0.0, f"the reference cannot be read: {error}")
        is_chain = any(mark in reference for mark in "<>→⇒≻≺")
        if not is_chain and not flag_of(columns, "ordered", self._ordered):
            found, expected = as_set(found), as_set(expected)
        found = with_truths(found, expected)
        if found == expected and not is_no_number(answer[:100]):
            return Match(1.0, f"the same {expected[0]}")
        if (
            expected[0] == "rows"
            and found[0] == "number"
            and reference.strip().isascii()
            and reference.strip()[0] != "0"
        ):
            number = read_amount(reference)  # `1010` may be the number after all
            return Match(float(number is not None and number.value == found[1]), "compared as numbers")
        if expected[0] == "words" and len(reference.split()) >= _MANY_WORDS and found[0] == "words":
            hedge = find_hedge(answer, reference, domain="logic")
            return Match(0.0, hedge or "other words than the reference", is_open=hedge is None)
        return Match(0.0, f"another {expected[0]}" if found[0] == expected[0] else f"no {expected[0]}")
