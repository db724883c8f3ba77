"""JSON that others may have written: what it holds, or a ValueError, whatever it is."""

from __future__ import annotations

import json
import math
from numbers import Real
from pathlib import Path
from typing import Any

_HALVES = ("\\ud", "\\uD")
"""How a surrogate begins as an escape."""


def parse_json(text: str | bytes) -> Any:
    """What a JSON text, in UTF-8 where it is bytes, holds.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or has a number of thousands of digits.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_record(text: str | bytes) -> dict[str, Any]:
    """The object of a JSON text.

    Raises:
        ValueError: as `parse_json`, or it is something else, or holds half a surrogate pair, which no screen can show.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if any(half in text for half in _HALVES):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file, or an empty one where the file is missing or damaged."""
    try:
        return parse_record(path.read_bytes())
    except (OSError, ValueError):
        return {}


def finite(value: object) -> float | None:
    """A value as a finite float; None where it is no number or none that a float holds."""
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's numbers too
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
