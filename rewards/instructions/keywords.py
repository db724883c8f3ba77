"""Which words and letters an answer holds. Case is left aside."""

from __future__ import annotations

import re
import unicodedata

from rlcs.rewards.instructions.length import compare


def existence(answer: str, *, keywords: tuple[str, ...]) -> bool:
    """Every keyword is there, as a word or in one, as IFEval has it."""
    folded = _fold(answer)
    return all(_fold(keyword) in folded for keyword in keywords)


def frequency(answer: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return compare(_fold(answer).count(_fold(keyword)), relation, frequency)


def forbidden_words(answer: str, *, forbidden_words: tuple[str, ...]) -> bool:
    """None is there as a word of its own."""
    folded = _fold(answer)
    return not any(_holds_word(folded, _fold(word)) for word in forbidden_words)


def letter_frequency(answer: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return compare(answer.lower().count(letter.lower()), let_relation, let_frequency)


def no_comma(answer: str) -> bool:
    """No comma, the full-width, the ideographic and the Arabic one included."""
    return not any(comma in answer for comma in ",，、،﹐")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _holds_word(text: str, word: str) -> bool:
    # An end that is no letter needs no boundary: `\b` would want a letter beside it.
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return re.search(before + re.escape(word) + after, text) is not None
