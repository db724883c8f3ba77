"""Read numbers, strings and lists from a model's text, under limits and without evaluating anything.

Two readers: `parse_json` for strict JSON, and `LiteralReader`, a scanner for what models write as arguments of calls:
`'it\\'s'`, `[[1, 2, 3, 4]]`, `(200, 100)`, `{"label": "cat"}`, `true`. Both take time linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeGuard

MAX_CHARACTERS = 20_000
"""Longer texts are refused unread."""
MAX_DEPTH = 8
"""Brackets within brackets."""
MAX_NUMBER_CHARACTERS = 32
MAX_MAGNITUDE = 1e9
"""Numbers beyond are refused: no coordinate and no time is that large."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_STRINGS = {
    "'": re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL),
    '"': re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL),
}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "/": "/", "\n": ""}
_CLOSING = {"[": "]", "(": ")"}
_WORDS: dict[str, bool | None] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None,
}  # fmt: skip


class LiteralError(ValueError):
    """A text is no literal, or is beyond a limit; the message says why in one line."""


def parse_json(text: str) -> Any:
    """The value of a JSON text: no NaN, no key twice, no more than `MAX_DEPTH` levels.

    Raises:
        LiteralError: it is no JSON, or is beyond a limit.
    """
    check_length(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda word: _refuse(f"{word} is no number"),
            parse_int=_json_number,
            parse_float=_json_number,
        )
    except LiteralError:
        raise
    except json.JSONDecodeError as error:
        raise LiteralError(f"no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise LiteralError("nested too deeply") from None
    _check_depth(value)
    return value


class LiteralReader:
    """A scanner over one text.

    Args:
        text: what to read.

    Raises:
        LiteralError: the text is too long; and from each method, if the text does not go on with what it reads.
    """

    def __init__(self, text: str) -> None:
        check_length(text)
        self.text = text
        self.position = 0

    @property
    def next(self) -> str:
        """The next character that is no blank; empty at the end."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def take(self, character: str) -> bool:
        """Step over `character` if it is next."""
        if self.next != character:
            return False
        self.position += 1
        return True

    def expect(self, character: str) -> None:
        """Step over `character`."""
        if not self.take(character):
            _refuse(f"{character!r} is expected at character {self.position}")

    def expect_end(self) -> None:
        """Only blanks may follow."""
        if self.next:
            _refuse(f"there is text after the end, at character {self.position}")

    def word(self) -> str:
        """A name: letters, digits and underscores."""
        _ = self.next
        match = _WORD.match(self.text, self.position)
        if match is None:
            _refuse(f"a name is expected at character {self.position}")
        self.position = match.end()
        return match.group()

    def string(self) -> str:
        """A string in single or double quotes. An unknown escape keeps its backslash, as in `C:\\dir`."""
        pattern = _STRINGS.get(self.next)
        match = pattern.match(self.text, self.position) if pattern else None
        if match is None:
            _refuse(f"a closed string is expected at character {self.position}")
        self.position = match.end()
        return _ESCAPE.sub(_unescape, match[1])

    def number(self) -> float:
        """A finite number of moderate length and size."""
        _ = self.next
        match = _NUMBER.match(self.text, self.position)
        if match is None:
            _refuse(f"a number is expected at character {self.position}")
        self.position = match.end()
        return to_number(match.group())

    def value(self, depth: int = 0) -> Any:
        """Any literal: number (float), string, list in either bracket, object, true, false or null."""
        first = self.next
        if first in "'\"" and first:
            return self.string()
        if first == "{":
            return self._object(depth)
        if first in _CLOSING:
            return self._list(depth)
        match = _WORD.match(self.text, self.position)
        if match is None:
            return self.number()
        if match.group() not in _WORDS:
            _refuse(f"{match.group()[:20]!r} is no value, at character {self.position}")
        self.position = match.end()
        return _WORDS[match.group()]

    def _list(self, depth: int) -> list[Any]:
        if depth >= MAX_DEPTH:
            _refuse("nested too deeply")
        closing = _CLOSING[self.next]
        self.position += 1
        values: list[Any] = []
        while not self.take(closing):
            if values:
                self.expect(",")
                if self.take(closing):
                    break
            values.append(self.value(depth + 1))
        return values

    def _object(self, depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            _refuse("nested too deeply")
        self.expect("{")
        pairs: list[tuple[str, Any]] = []
        while not self.take("}"):
            if pairs:
                self.expect(",")
            key = self.string()
            self.expect(":")
            pairs.append((key, self.value(depth + 1)))
        return _object(pairs)


def to_number(text: str) -> float:
    """The number that ASCII digits spell.

    Raises:
        LiteralError: it is too long or too large.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        _refuse(f"a number has more than {MAX_NUMBER_CHARACTERS} characters")
    value = float(text)
    if not -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE:
        _refuse(f"a number is beyond {MAX_MAGNITUDE:g}")
    return value


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a literal is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_length(text: str) -> None:
    """Raise LiteralError if a text is longer than `MAX_CHARACTERS`."""
    if len(text) > MAX_CHARACTERS:
        _refuse(f"the answer is longer than {MAX_CHARACTERS} characters")


def _refuse(reason: str) -> NoReturn:
    raise LiteralError(reason)


def _json_number(text: str) -> int | float:
    value = to_number(text)
    return int(value) if value.is_integer() else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("a key is given twice")
    return found


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    return _ESCAPED.get(escape, match.group())


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, list | dict)]
        if not containers:
            return
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    _refuse("nested too deeply")
