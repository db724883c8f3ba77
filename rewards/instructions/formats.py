"""How an answer is laid out: lists, highlights, sections, titles, JSON, and how it starts and ends."""

from __future__ import annotations

import json
import re
from typing import NoReturn

_HIGHLIGHT = re.compile(r"\*[^\n*]*\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*[^\n*]*\*\*")
_POSTSCRIPTS = {"p.s.": re.compile(r"(?<![\w.])p\.\s?s\."), "p.p.s": re.compile(r"(?<![\w.])p\.\s?p\.\s?s\b\.?")}
_DIGITS = re.compile(r"\s?(\d+)")
_FENCE_LANGUAGES = ("```json", "```Json", "```JSON", "```")
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def number_placeholders(answer: str, *, num_placeholders: int) -> bool:
    """At least so many `[...]`, each on one line and not blank."""
    found = 0
    for line in answer.split("\n"):
        position = 0
        while (start := line.find("[", position)) >= 0 and (end := line.find("]", start)) >= 0:
            found += bool(line[start + 1 : end].strip())
            position = end + 1
    return found >= num_placeholders


def postscript(answer: str, *, postscript_marker: str) -> bool:
    """The marker is there, with a text after it."""
    folded, marker = answer.lower(), postscript_marker.lower()
    pattern = _POSTSCRIPTS.get(marker)
    if pattern is None:
        return any(character.isalnum() for character in folded.partition(marker)[2])
    match = pattern.search(folded)
    return match is not None and any(character.isalnum() for character in folded[match.end() :])


def number_bullet_lists(answer: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that start with `*` or `-`; lines of these marks only are rules, no bullets."""
    found = 0
    for line in answer.split("\n"):
        text = line.strip()
        if text.startswith("-") or (text.startswith("*") and not text.startswith("**")):
            found += bool(text.strip("-* "))
    return found == num_bullets


def constrained_response(answer: str) -> bool:
    """One of the three sentences, and not another of them."""
    return sum(1 for choice in _CHOICES if choice in answer) == 1


def number_highlighted_sections(answer: str, *, num_highlights: int) -> bool:
    """At least so many `*...*` or `**...**`, each on one line and not blank."""
    found = sum(1 for match in _HIGHLIGHT.finditer(answer) if match.group().strip("*").strip())
    found += sum(1 for match in _DOUBLE_HIGHLIGHT.finditer(answer) if match.group()[2:-2].strip())
    return found >= num_highlights


def multiple_sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many different numbers follow the section mark."""
    numbers, position = set(), 0
    while (start := answer.find(section_spliter, position)) >= 0:
        position = start + len(section_spliter)
        match = _DIGITS.match(answer, position)
        if match is not None:
            numbers.add(match.group(1)[:20])
            position = match.end()
    return len(numbers) >= num_sections


def json_format(answer: str) -> bool:
    """The whole answer is a JSON object or array, bare or in one code block."""
    text = answer.strip()
    for fence in _FENCE_LANGUAGES:
        if text.startswith(fence):
            text = text.removeprefix(fence).removesuffix("```")
            break
    try:
        return isinstance(json.loads(text.strip(), parse_constant=_refuse), dict | list)
    except (ValueError, RecursionError):
        return False


def title(answer: str) -> bool:
    """A `<<title>>` on one line, not blank."""
    for line in answer.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end and line[start + 2 : end].strip("<> \t\r"):
            return True
    return False


def end_checker(answer: str, *, end_phrase: str) -> bool:
    """The answer ends with the phrase, quotes around the answer and case aside."""
    return answer.strip().strip('"').lower().endswith(end_phrase.lower())


def quotation(answer: str) -> bool:
    """The answer stands between double quotation marks."""
    text = answer.strip()
    return len(text) > 2 and text.startswith('"') and text.endswith('"') and bool(text.strip('" \n'))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
