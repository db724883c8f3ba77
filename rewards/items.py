"""Lists and label: value pairs in short answers, as JSON or as text.

    ["a", "b"]   [a, b]   a, b and c   a、b、c   - a<newline>- b
    {"a": 1, "b": 2}   {'a': 1}   a: 1, b: 2   a = 1; b = 2   a：1<newline>b：2

Items stay texts, numbers in their own spelling, for their readers to compare. Nothing is evaluated: JSON is read by
`json`, everything else is split at its separators by a scanner that takes time linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rlcs.rewards.text import MAX_CHARACTERS, folded, plain

MAX_DEPTH = 8
MAX_ITEMS = 256

_BULLET = re.compile(r"^\s*(?:[-*•·]\s+|\(?\d{1,3}[.)]\s+)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_AND = re.compile(r"\s+(?:and|&)\s+|\s*[和与及]\s*")
_PAIR = re.compile(r"\s*(?P<key>[^:：=]{1,200}?)\s*(?:[:：]|=>?)\s*(?P<value>.+?)\s*", re.DOTALL)

_SENTENCE = re.compile(
    r"(?P<name>[^\W\d_]\w{0,40}) is (?:an? )?(?P<value>(?!not\b)[^\W\d_]{1,40})"
    r"|(?P<name_zh>[^\W\d_]{1,8}?)(?<!不)是(?P<value_zh>[^\W\d_]{1,8})"
)


class ItemsError(ValueError):
    """A text is no JSON, or beyond a limit."""


def read_json(text: str, max_characters: int = MAX_CHARACTERS) -> Any:
    """The value of a JSON list or object, numbers as the texts that spell them.

    Raises:
        ItemsError: it is no JSON, names a key twice, or is beyond a limit.
    """
    text = text.strip()
    if len(text) > max_characters or text[:1] not in ("[", "{"):
        raise ItemsError("no JSON list or object, or too long a one")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_int=str, parse_float=str)
    except (json.JSONDecodeError, RecursionError):
        raise ItemsError("no JSON") from None
    _check(value, MAX_DEPTH)
    return value


def scalar_text(value: Any) -> str:
    """A JSON scalar as text."""
    return value if isinstance(value, str) else json.dumps(value)


def read_list(text: str, *, split_and: bool = True) -> list[str] | None:
    """The items of a list; None if the text is no list of two or more, or of JSON scalars.

    Args:
        text: the answer.
        split_and: `a and b` is a list of two.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        return None
    if text.startswith("["):
        try:
            value = read_json(text)
        except ItemsError:
            value = None
        if value is not None:
            is_flat = not any(isinstance(item, list | dict) for item in value)
            return [plain(scalar_text(item)) for item in value] if is_flat else None
        if not text.endswith("]") or "[" in text[1:]:
            return None
        items = [_unquoted(item) for item in split(text[1:-1])]
        return items if all(items) and len(items) <= MAX_ITEMS else None
    items = [_unquoted(item) for item in split(text)]
    if len(items) > 1:
        for prefix in ("and ", "& ", "和", "与", "以及"):
            if items[-1].startswith(prefix):
                items[-1] = items[-1].removeprefix(prefix).strip()
                break
        else:
            # `a, b and c`
            last = _AND.split(items[-1]) if split_and else items[-1:]
            items = items[:-1] + (last if len(last) == 2 else items[-1:])
    elif split_and:
        items = _AND.split(plain(text))
    return items if len(items) > 1 and all(items) and len(items) <= MAX_ITEMS else None


def read_pairs(text: str) -> dict[str, str] | None:
    """The values by their labels, as `folded` texts; None if an item is no pair, or a label comes twice."""
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        return None
    pairs: list[tuple[str, str]] = []
    if text.startswith("{"):
        try:
            value = read_json(text)
        except ItemsError:
            if not text.endswith("}") or "{" in text[1:]:
                return None
            text = text[1:-1]
        else:
            if any(isinstance(item, list | dict) for item in value.values()):
                return None
            pairs = [(label, scalar_text(item)) for label, item in value.items()]
    if not pairs:
        for item in split(text):
            match = _PAIR.fullmatch(item) if len(item) <= 1_000 else None
            if match is None:
                return None
            pairs.append((_unquoted(match["key"]), _unquoted(match["value"])))
    found = {folded(label): plain(value) for label, value in pairs}
    return found if found and len(found) == len(pairs) <= MAX_ITEMS and all(found) else None


def read_sentences(text: str) -> dict[str, str] | None:
    """The pairs of `Alice is a knight, and Bob is a knave.`; None unless each of two parts or more says one."""
    sentences = [_SENTENCE.fullmatch(plain(item).rstrip(".")) for item in read_list(text) or ()]
    pairs: dict[str, str] = {}
    for sentence in sentences:
        if sentence is None:
            return None
        pairs[folded(sentence["name"] or sentence["name_zh"])] = sentence["value"] or sentence["value_zh"]
    return pairs if len(pairs) == len(sentences) > 1 else None


def split(text: str) -> list[str]:
    """The parts between separators: line ends, else semicolons, else commas; none within quotes and brackets.

    A comma between a digit and three digits belongs to a number. Bullets and list numbers before lines are dropped.
    """
    text = text.strip()
    lines = [_BULLET.sub("", line).strip().rstrip(",;，；") for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        return lines
    text = lines[0] if lines else ""
    for separators in (";；", ",，、"):
        parts = _split_at(text, separators)
        if len(parts) > 1:
            return parts
    return [text]


def match_items(
    answers: Sequence[str], references: Sequence[str], same: Callable[[str, str], bool], *, ordered: bool
) -> bool:
    """Whether the items are the references, one for one."""
    if len(answers) != len(references) or len(answers) > MAX_ITEMS:
        return False
    if ordered or all(same(mine, theirs) for mine, theirs in zip(answers, references, strict=True)):
        return all(same(mine, theirs) for mine, theirs in zip(answers, references, strict=True))
    return _assign([[same(mine, theirs) for theirs in references] for mine in answers])


def _assign(fits: list[list[bool]]) -> bool:
    """Whether each row can have a column of its own that fits it (augmenting paths, without recursion)."""
    size = len(fits)
    owner = [-1] * size
    for row in range(size):
        came_from: dict[int, int] = {}  # column to the row that wants it
        queue, free = [row], -1
        while queue and free < 0:
            wanting = queue.pop()
            for column in range(size):
                if fits[wanting][column] and column not in came_from:
                    came_from[column] = wanting
                    if owner[column] < 0:
                        free = column
                        break
                    queue.append(owner[column])
        if free < 0:
            return False
        while free >= 0:
            wanting = came_from[free]
            previous = next((column for column in range(size) if owner[column] == wanting), -1)
            owner[free] = wanting
            free = previous
    return True


def _split_at(text: str, separators: str) -> list[str]:
    parts, start, quote, expected = [], 0, "", []
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character == '"' or (character == "'" and not text[start:index].strip()):
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
        elif character in separators and not expected and not _is_thousands(text, index):
            parts.append(text[start:index])
            start = index + 1
    if quote or expected:
        # What is never closed was no quote and no bracket.
        return [part.strip() for part in re.split(f"[{separators}]", text)]
    return [part.strip() for part in [*parts, text[start:]]]


def _is_thousands(text: str, index: int) -> bool:
    after = text[index + 1 : index + 5]
    before = text[max(0, index - 1) : index]
    return (
        text[index] in ",，"
        and before.isdigit()
        and after[:3].isdigit()
        and len(after) >= 3
        and not after[3:].isdigit()
    )


def _unquoted(text: str) -> str:
    text = plain(text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ItemsError("a key is given twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise ItemsError(f"{word} is no number")


def _check(value: Any, levels: int) -> None:
    if isinstance(value, list | dict):
        if levels == 0:
            raise ItemsError("nested too deeply")
        if len(value) > MAX_ITEMS:
            raise ItemsError("too many items")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, levels - 1)
