"""The choice that an answer names: `B`, `(b)`, `Option B`, `答案是B`, `B. Paris`, `Paris`, `A, C`, `["A", "C"]`.

A label is a letter A to Z or a number of one or two digits. What names two choices where one is asked for, or a label
beside the text of another choice, names none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.items import ItemsError, read_json, scalar_text
from rlcs.rewards.text import MAX_CHARACTERS, same_words, unwrap, words_of

_MAX_CHOICES = 26
_LABEL = r"(?:[A-Za-z]|[0-9]{1,2})"
_BARE = re.compile(rf"[(\[]?\s*({_LABEL})\s*[)\].:,]?")
_INTRODUCTION = re.compile(
    r"(?:(?:so,? )?(?:the |my )?(?:(?:correct|right|final|best) )?(?:answer|option|choice)(?: is(?: option| choice)?|:)?:?\s"
    r"|(?:所以|因此|故)?(?:(?:正确|最终)?(?:答案|选项)(?:[是为选]|应为)?|[应我]?选择?)\s*:?\s*|answer:)",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    rf"(?:\(\s*({_LABEL})\s*\)\s*|({_LABEL})\s*[.):]\s+|([A-Z])(?:\s*[.):](?=[^\s\d])|\s-\s))(.+)", re.DOTALL
)
_CHINESE_LABEL = re.compile(r"^\s*([A-Z])、(?=[\u3400-\u9fff])")
"""`B、巴黎`; elsewhere the mark joins labels."""
_RUN = re.compile(r"[A-Z]{2,10}")
_BETWEEN_LABELS = re.compile(r"\s*(?:[,;]\s*(?:and\s|和)?|\sand\s|\s&\s|和|\s)\s*")
_OTHER_LABEL = re.compile(r"(?<![\w'])(?:[B-HJ-Z]|\([A-Za-z]\))(?![\w'])|(?<![\w'])A(?=\s*(?:$|[.,;):]|or\b|and\b))")
_BOTH = re.compile(r"\b(?:or|either|both|not|nor|neither|wrong|incorrect)\b|或|不|错", re.IGNORECASE)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Choices = Mapping[str, str]
"""The text of each choice by its label."""


def read_choices(value: Any) -> Choices | None:
    """The `choices` column: a list of texts, labelled from A, or a mapping of labels to texts, or JSON of one of them.

    Raises:
        RewardError: it is none of them.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = read_json(value, max_characters=20_000)
        except ItemsError as error:
            raise RewardError(f"column choices must be a list or an object of texts: {error}") from None
    if isinstance(value, Mapping):
        # Data sets with one type a column give absent labels as null.
        found = {unwrap(str(label)).upper(): scalar_text(text) for label, text in value.items() if text is not None}
    elif isinstance(value, Sequence):
        found = {_LETTERS[index]: scalar_text(text) for index, text in enumerate(value[:_MAX_CHOICES])}
    else:
        raise RewardError(f"column choices must be a list or a mapping of texts, not {value!r}")
    if not 2 <= len(value) <= _MAX_CHOICES or not all(re.fullmatch(_LABEL, label) for label in found):
        raise RewardError("column choices must hold 2 to 26 texts, labelled by letters or small numbers")
    return {label: _without_label(text, label) for label, text in found.items()}


def read_labels(text: str, choices: Choices | None = None) -> frozenset[str] | None:
    """The labels of the choices that an answer names, upper case; None if it names none, or hedges. Never raises."""
    if len(text) > MAX_CHARACTERS:
        return None
    text = unwrap(_CHINESE_LABEL.sub(r"\1. ", text))
    if choices:
        named = _labels_of_text(text, choices)
        if named is not None:
            return named
    introduction = _INTRODUCTION.match(text)
    if introduction:
        text = unwrap(text[introduction.end() :])
    else:
        text = text.removesuffix("项") if not text.endswith("选项") else text[:-2]
    bare = _BARE.fullmatch(text)
    if bare:
        return _known({bare[1].upper()}, choices)
    if text.startswith("["):
        try:
            items = [scalar_text(item) for item in read_json(text)]
        except ItemsError:
            items = text[1:-1].split(",") if text.endswith("]") else []
        return _labels_of_items(items, choices) if len(items) <= _MAX_CHOICES else None
    if _RUN.fullmatch(text):
        return _known(set(text), choices) if len(set(text)) == len(text) else None
    labelled = _LABELLED.fullmatch(text)
    if labelled:
        label = (labelled[1] or labelled[2] or labelled[3]).upper()
        rest = labelled[4].strip()
        if choices:
            if label in choices and same_words(rest, choices[label], plurals=False):
                return frozenset({label})
        elif (rest.isdigit() or not _BARE.fullmatch(rest)) and not _OTHER_LABEL.search(rest) and not _BOTH.search(rest):
            return frozenset({label})
    parts = _BETWEEN_LABELS.split(text) if len(text) <= 200 else []
    return _labels_of_items(parts, choices) if len(parts) > 1 else None


def _labels_of_items(items: list[str], choices: Choices | None) -> frozenset[str] | None:
    labels = []
    for item in items:
        bare = _BARE.fullmatch(unwrap(item))
        if not bare:
            return None
        labels.append(bare[1].upper())
    is_one_kind = len({label.isdigit() for label in labels}) == 1
    return _known(set(labels), choices) if is_one_kind and len(set(labels)) == len(labels) else None


def _labels_of_text(text: str, choices: Choices) -> frozenset[str] | None:
    """The one choice whose text this is. A text that is a label means the label, unless it is the very text of one."""
    wanted = words_of(text)
    found = [label for label, choice in choices.items() if wanted and words_of(choice) == wanted]
    if not found:
        return None
    bare = _BARE.fullmatch(text)
    if bare and bare[1].upper() in choices:
        return None
    return frozenset(found) if len(found) == 1 else None


def _known(labels: set[str], choices: Choices | None) -> frozenset[str] | None:
    return frozenset(labels) if not choices or labels <= set(choices) else None


def _without_label(text: str, label: str) -> str:
    """`A. Paris` as the text of choice A is `Paris`."""
    text = unwrap(text)
    match = re.match(rf"\(?{re.escape(label)}\s*[.):,]\s*(?=\S)", text, re.IGNORECASE)
    return text[match.end() :] if match else text
