"""How long an answer is: words, sentences, paragraphs."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")
_PARAGRAPH_MARK = re.compile(r"\s?\*\*\*\s?")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]*_]{0,3}(?=\s|$)|[。！？…｡]+[”’」』）]{0,3}")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e inc ltd co corp no vol fig al approx dept est mt ft u.s u.k a.m p.m".split()
)
_END_OF_WORD = "'\"“”‘’.,;:!?)]*_—-"


def compare(number: int, relation: str, bound: int) -> bool:
    """`less than` or `at least`."""
    return number < bound if relation == "less than" else number >= bound


def number_words(answer: str, *, num_words: int, relation: str) -> bool:
    return compare(sum(1 for _ in _WORD.finditer(answer)), relation, num_words)


def number_sentences(answer: str, *, num_sentences: int, relation: str) -> bool:
    return compare(count_sentences(answer), relation, num_sentences)


def number_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    """Paragraphs are parted by `***`; none but the first and the last may be blank."""
    paragraphs = _PARAGRAPH_MARK.split(answer)
    if any(not paragraph.strip() for paragraph in paragraphs[1:-1]):
        return False
    return sum(1 for paragraph in paragraphs if paragraph.strip()) == num_paragraphs


def nth_paragraph_first_word(answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are parted by a blank line; blank ones do not count."""
    paragraphs = [paragraph.strip() for paragraph in answer.split("\n\n") if paragraph.strip()]
    if len(paragraphs) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    word = paragraphs[nth_paragraph - 1].split(maxsplit=1)[0].strip("'\"“‘*_")
    for mark in ".,?!'\"":
        word = word.partition(mark)[0]
    return word.strip(_END_OF_WORD).casefold() == first_word.strip(_END_OF_WORD).casefold()


def count_sentences(answer: str) -> int:
    """Sentences: what ends in a full stop, a question or exclamation mark, not after an abbreviation or an initial.

    A list item or a heading without a mark at its end is part of the sentence that follows; the rest counts as one.
    """
    sentences, start, end = 0, 0, len(answer.rstrip())
    word = _WORD.search(answer)
    for match in _SENTENCE_END.finditer(answer):
        if word is None or word.start() >= match.start():
            continue  # marks alone
        nearby = answer[max(start, match.start() - 12) : match.start()]
        last = (nearby.split() or [""])[-1].strip("(\"'“‘").casefold()
        is_list_number = match.start() - start <= 12 and nearby.strip().isdigit()
        is_short = last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha() and last not in "ai")
        if match.group().startswith(".") and (is_list_number or (is_short and match.end() < end)):
            continue
        sentences += 1
        start = match.end()
        word = _WORD.search(answer, start)
    return sentences + (word is not None)
