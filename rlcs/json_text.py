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
        ValueError: it is no JSON, is nested too deeply, has a number of thousands of digits, or holds half a surrogate
            pair, which can be written to no file and no page.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if any(half in text for half in _HALVES):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("holds half a surrogate pair") from error
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file, or an empty one where the file is missing or damaged."""
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def finite(value: object) -> float | None:
    """A value as a finite float; None where it is no number or none that a float holds."""
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's numbers too
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
