"""Counting: one whole number, and the right one.

A judge is never asked. The paper's lenient judge rewarded "a correct number between 0 and 10" (GLM-4.1V-Thinking,
arXiv 2507.01006, section 5); here whatever is not one plain count is worth 0.
"""

from __future__ import annotations

import re
from typing import Any

from rlcs.rewards.short_numbers import Amount, read_amount
from rlcs.rewards.text import same_words, unwrap
from rlcs.rewards.verifier import Match, Verifier

_INTRODUCTION = re.compile(
    r"(?:there (?:are|is)|(?:the )?(?:answer|total|count|number)(?: is|:)|total of|in total"
    r"|(?:总|一)?共有?|总数[是为]?|有|(?:图中|图片中|画面中|图像中)(?:一?共)?有?|答案[是为]?)[\s:]*",
    re.IGNORECASE,
)
_MAX_CHARACTERS = 200


class Counting(Verifier):
    """1 if the answer is the whole number of the reference, else 0.

    Right are digits in any script, number words and Chinese numerals, with the thing counted (`three`, 三个, `３`,
    `3 apples`, `There are 3 apples`), where its name does not contradict that of the reference. Wrong are ranges,
    hedges, several numbers, fractions, percentages and estimates. The judge is not asked.
    """

    def validate(self, answer: str, **columns: Any) -> str | None:
        if _count(answer) is None:
            return f"the reference {answer[:60]!r} is no count: give a whole number of 0 or more"
        return None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        found, expected = _count(answer), _count(reference)
        if found is None or expected is None:
            return Match(0.0, "the answer is not one whole number", event="unreadable_answer")
        if found.unit and expected.unit and not same_words(found.unit, expected.unit):
            return Match(0.0, f"the answer counts {found.unit}, the reference {expected.unit}")
        return Match(float(found.value == expected.value), "compared as whole numbers")


def _count(text: str) -> Amount | None:
    if len(text) > _MAX_CHARACTERS:
        return None
    text = unwrap(text)
    introduction = _INTRODUCTION.match(text)
    if introduction:
        text = text[introduction.end() :]
    amount = read_amount(text)
    if amount is None or not amount.is_whole or amount.currency or amount.value < 0:
        return None
    return amount
