"""Short answers of any kind: yes or no, an amount, words. By rule if a rule decides, else left open for a judge.

The kind of the reference rules. A number or a yes is never left open: what is not read as one is wrong, since a lenient
judge rewards "a correct number between 0 and 10" (GLM-4.1V-Thinking, arXiv 2507.01006, section 5). Words that differ are
open, unless the answer hedges.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rlcs.rewards.hedging import find_hedge
from rlcs.rewards.short_numbers import read_amount, same_amount
from rlcs.rewards.text import MAX_CHARACTERS, is_no_number, plain, same_words, yes_or_no
from rlcs.rewards.verifier import Match

MAX_OPEN_CHARACTERS = 20_000
"""A longer answer goes to no judge."""


def compare_short(
    answer: str,
    reference: str,
    *,
    tolerance: Fraction = Fraction(0),
    plurals: bool = True,
    domain: str = "general",
    count: bool = False,
) -> Match:
    """The verdict on a short answer. Never raises for what the texts hold.

    Args:
        answer: of the response.
        reference: an amount, yes or no, or words.
        tolerance: relative error that an amount may have which is not a whole number.
        plurals: the last word may be singular or plural.
        domain: whose rules on hedges hold.
        count: whole numbers are exact although there is a tolerance.
    """
    if len(answer) > MAX_OPEN_CHARACTERS:
        return Match(0.0, f"the answer is longer than {MAX_OPEN_CHARACTERS:,} characters")
    if is_no_number(answer[:100]):
        return Match(0.0, "the answer is no number and no text")
    is_long = max(len(answer), len(reference)) > MAX_CHARACTERS
    if not is_long and same_words(answer, reference, plurals=plurals and read_amount(reference) is None):
        return Match(1.0, "the same words")
    expected_truth = yes_or_no(reference)
    if expected_truth is not None:
        truth = yes_or_no(answer)
        return Match(float(truth == expected_truth), "compared as yes or no")
    expected = read_amount(reference)
    if expected is not None:
        found = read_amount(answer)
        if found is None:
            return Match(0.0, "the answer is not one number", event="unreadable_answer")
        if count and expected.is_whole:
            tolerance = Fraction(0)
        return Match(float(same_amount(found, expected, tolerance)), "compared as numbers")
    hedge = find_hedge(plain(answer), reference, domain=domain)
    if hedge is not None:
        return Match(0.0, f"the answer hedges: {hedge}")
    return Match(0.0, "other words than the reference", is_open=True)


def compare_any(matches: Sequence[Match]) -> Match:
    """The verdict of several accepted references: the best; open only if none is met and one is open."""
    right = next((match for match in matches if match.value >= 1.0), None)
    is_open = next((match for match in matches if match.is_open), None)
    return right or is_open or matches[0]


def validate_short(reference: str) -> str | None:
    """Why a reference cannot be compared with, or None."""
    if not plain(reference):
        return "the reference answer is empty"
    if len(reference) > MAX_OPEN_CHARACTERS:
        return f"the reference answer is longer than {MAX_OPEN_CHARACTERS:,} characters"
    if is_no_number(reference):
        return f"the reference answer {reference[:20]!r} is no number and no text"
    return None
