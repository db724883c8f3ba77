"""What the arguments of instructions may be. Each reader returns the value to check with, or raises ValueError."""

from __future__ import annotations

from typing import Any

from rlcs.rewards.instructions.language import LANGUAGES

_MAX_TEXT = 20_000
_MAX_COUNT = 1_000_000
_MAX_WORDS = 200


def count(value: Any) -> int:
    """A whole number from 0; tables of numbers with gaps make floats of them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"must be a whole number, not {value!r:.40}")
    if not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"must lie between 0 and {_MAX_COUNT}, but is {value!r:.40}")
    return int(value)


def position(value: Any) -> int:
    """A whole number from 1."""
    number = count(value)
    if number == 0:
        raise ValueError("must be at least 1")
    return number


def relation(value: Any) -> str:
    """`less than` or `at least`."""
    if value not in ("less than", "at least"):
        raise ValueError(f"must be 'less than' or 'at least', not {value!r:.40}")
    return str(value)


def text(value: Any) -> str:
    """A text that is not blank, without blanks around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text, not {value!r:.40}")
    if len(value) > _MAX_TEXT:
        raise ValueError(f"is longer than {_MAX_TEXT} characters")
    return value.strip()


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts, at least one."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= _MAX_WORDS:
        raise ValueError(f"must be a list of 1 to {_MAX_WORDS} texts")
    return tuple(text(item) for item in value)


def letter(value: Any) -> str:
    """One character."""
    found = text(value)
    if len(found) != 1:
        raise ValueError(f"must be one letter, not {found!r:.40}")
    return found


def language(value: Any) -> str:
    """A language that can be told from others by its script and its commonest words."""
    if not isinstance(value, str) or value not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(sorted(LANGUAGES))}, not {value!r:.40}")
    return value
