"""Answers that hedge, found by rule before a judge is asked.

The paper saw a lenient judge reward "a correct number between 0 and 10" (GLM-4.1V-Thinking, arXiv 2507.01006, section
5). A hedge covers the reference without committing to it: several alternatives, a range, a condition, a phrase that any
value fits, or so much text that the reference is bound to be in it. What the reference does itself is no hedge. All
rules but the one on length are for short references: alternatives and ranges in a page of prose are the judge's to weigh.
"""

from __future__ import annotations

import re
import unicodedata

from rlcs.rewards.number_words import TEENS, TENS, UNITS, WORD_VALUES

_SHORT_WORDS, _SHORT_CHARACTERS = 12, 80
"""A reference up to both is short."""
_FREE_LENGTH = {"counting": 200, "spatial": 400, "multiple_choice": 200}
_PAGE = 2000
"""Characters that an answer may have however short the reference is, by domain and elsewhere."""

_WORD = rf"(?:(?:{'|'.join(TENS)})(?:[- ](?:{'|'.join(UNITS[1:])}))?|{'|'.join(TEENS + UNITS)}|hundred|dozen)"
_DIGITS = r"(?<![\d,.])\d[\d,.]*+"  # possessive and never from the middle: linear however many digits there are
_NUMBER = rf"(?:{_DIGITS}|\b{_WORD}\b)"

_ALTERNATIVES = re.compile(r"(?<!['’])\b(?:or|either|alternatively)\b|或者|或是|或|要么")
_SLASH = re.compile(r"(?<![\w/:.])[^\W\d_]{3,30}\s?/\s?[^\W\d_]{3,30}(?![\w/])")
_RANGE = re.compile(
    rf"\bbetween\s+{_NUMBER}\s+and\s+{_NUMBER}"
    rf"|\bfrom\s+{_NUMBER}\s+to\s+{_NUMBER}"
    rf"|(?<![\w.,/:–-]){_DIGITS}\s*(?:[–—~〜-]|to\b|至|到)\s*{_DIGITS}(?![\w/:–-])"
    rf"|\b(?:at least|at most|more than|fewer than|less than|no more than|no less than|up to)\s+{_NUMBER}"
    rf"|{_DIGITS}\s*(?:以上|以下|之间)|(?:至少|最多|不超过|超过|介于)\s*{_DIGITS}"
)
_CONDITION = re.compile(r"\b(?:it|that|this|which)\s+depends\b|\bdepend(?:s|ing|ent)\s+(?:up)?on\b|取决于|而定|看情况")
_EMPTY_PHRASE = re.compile(
    r"(?:it(?:'s| is)\s+|the answer is\s+)?(?:the|a|an|any|some)\s+"
    r"(?:correct|right|true|valid|accurate|expected|reference|appropriate)\s+"
    r"(?:answer|number|value|count|option|choice|result|one|response)\W*"
    r"|(?:the )?same as (?:the )?reference(?: answer)?\W*|正确答案\W*|正确的?数字\W*"
)
_TALKS_OF_NUMBER = re.compile(rf"\d|\b(?:{_WORD}|none|no|a|an|single|pair|couple)\b|[零〇一二两三四五六七八九十百千]")
_COUNT = re.compile(_NUMBER)

_NOTATION = frozenset({"geo", "chemistry", "physics", "math"})
"""Domains in which a slash is a fraction, a unit or an address, and `x = 1 or x = 2` a way to write the list `1, 2`."""

_RULES = (
    (_ALTERNATIVES, "it gives alternatives"),
    (_RANGE, "it gives a range"),
    (_CONDITION, "it gives a condition"),
)


def find_hedge(answer: str, reference: str, *, domain: str = "general", max_length_ratio: float = 20.0) -> str | None:
    """Why the answer hedges, or None. Linear in the length of the texts.

    Args:
        answer: what the policy answers.
        reference: the reference answer; what it does itself is no hedge.
        domain: counting has stricter rules than others.
        max_length_ratio: an answer longer than this many times the reference, and longer than a page (2,000 characters;
            200 where a number is asked for), is a hedge.
    """
    limit = max(_FREE_LENGTH.get(domain, _PAGE), int(max_length_ratio * len(reference.strip())))
    if len(answer) > limit:
        return f"it has {len(answer):,} characters, the reference {len(reference):,}"
    if not _is_short(reference):
        return None
    text, known = _plain(answer), _plain(reference)
    for rule, reason in _RULES:
        found = rule.search(text)
        if found and not rule.search(known):
            if rule is _ALTERNATIVES and domain in _NOTATION and re.search(r"[,;]|\band\b", known):
                continue
            return f"{reason} ({found.group()[:40]!r})"
    may_slash = domain in _NOTATION or "/" in known or len(text.split()) > 6
    found = None if may_slash else _SLASH.search(text)
    if found:
        return f"it gives alternatives ({found.group()!r})"
    if _EMPTY_PHRASE.fullmatch(text) and not _EMPTY_PHRASE.fullmatch(known):
        return "it names no answer, only that it is the right one"
    return _find_uncommitted_count(text, known) if domain == "counting" else None


def _find_uncommitted_count(text: str, known: str) -> str | None:
    """A count is one number."""
    if not _TALKS_OF_NUMBER.search(known):
        return None
    if not _TALKS_OF_NUMBER.search(text):
        return "it names no number"
    if len(_counts(known)) <= 1 and len(_counts(text)) > 1:
        return "it names several numbers"
    return None


def _counts(text: str) -> set[str]:
    """The different numbers in a text; `one` may be a pronoun, so it counts only if it is alone."""
    counts = set()
    for match in _COUNT.finditer(text):
        word = match.group()
        tens, _, unit = word.replace("-", " ").partition(" ")
        value = WORD_VALUES.get(tens)
        counts.add(word.rstrip(".,") if value is None else str(value + WORD_VALUES.get(unit, 0)))
        if word == "one":
            counts.discard("1")
    return counts or ({"1"} if re.search(r"\bone\b", text) else set())


def _is_short(reference: str) -> bool:
    text = reference.strip()
    return len(text) <= _SHORT_CHARACTERS and len(text.split()) <= _SHORT_WORDS


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
