"""Capital and small letters."""

from __future__ import annotations

import re

from rlcs.rewards.instructions.language import is_language
from rlcs.rewards.instructions.length import compare

_TOKEN = re.compile(r"\w+(?:['’.\-&]\w+)*")


def english_capital(answer: str) -> bool:
    """In English, without a small letter."""
    return answer.isupper() and is_language(answer, "en")


def english_lowercase(answer: str) -> bool:
    """In English, without a capital letter."""
    return answer.islower() and is_language(answer, "en")


def capital_word_frequency(answer: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """Words without small letters, `I` and `A` among them; a word with hyphens counts once."""
    found = sum(1 for match in _TOKEN.finditer(answer) if match.group().isupper())
    return compare(found, capital_relation, capital_frequency)
