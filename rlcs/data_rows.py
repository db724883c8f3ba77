"""One row of a dataset checked and turned into a `Prompt`.

What a row may hold: `prompt`, text or a list of chat messages that ends with the user's; `answer`, text or a number;
`domain`, text (default `default`); `tier`, 0 to 4 or its name, or nothing; `solution`, text or nothing; anything else.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from rlcs.types import NUM_TIERS, TIER_NAMES, Message, Prompt, prompt_id

_ROLES = ("system", "developer", "user", "assistant", "tool")
_RESERVED = {"prompt", "prompts", "completion", "completions", "answer", "domain", "tier", "solution"}
"""Names with a meaning of their own in a reward's signature: a metadata column so called is renamed `original_NAME`."""

_MAX_DEPTH = 100


class RowProblem(ValueError):
    """Why a row cannot be used, in a few words."""


def to_prompt(
    values: Mapping[str, Any],
    columns: Mapping[str, str],
    system_prompt: str | None,
    *,
    answer_required: bool = True,
) -> Prompt:
    """The prompt of a row. `columns` maps each of ours to theirs. The id does not depend on `system_prompt`.

    Where no answer is required, one that is missing or empty is the empty text.

    Raises:
        RowProblem: the prompt, answer, domain or tier is missing or wrong, or a text is not valid Unicode.
    """
    messages = _messages(values.get(columns["prompt"]), columns["prompt"])
    answer = _answer(values.get(columns["answer"]), columns["answer"], answer_required)
    domain = _domain(values.get(columns["domain"]), columns["domain"])
    tier = _tier(values.get(columns["tier"]), columns["tier"])
    metadata = {
        f"original_{name}" if name in _RESERVED else _unicode(name, "a column name"): _json_like(value, name)
        for name, value in values.items()
        if name not in columns.values()
    }
    identity = prompt_id(messages, answer)
    return with_system(Prompt(identity, messages, answer, domain, tier, metadata), system_prompt)


def with_system(prompt: Prompt, system_prompt: str | None) -> Prompt:
    """The prompt with the system prompt before its messages; its id stays."""
    return replace(prompt, messages=_with_system(prompt.messages, system_prompt))


def to_solution(values: Mapping[str, Any], columns: Mapping[str, str]) -> str | None:
    """The worked solution of a row, or None if it has none.

    Raises:
        RowProblem: it is not text.
    """
    solution = values.get(columns["solution"])
    if solution is None:
        return None
    if not isinstance(solution, str):
        raise RowProblem(f"{columns['solution']} must be text, but is {_kind(solution)}")
    return _unicode(solution, columns["solution"]) if solution.strip() else None


def _messages(value: Any, name: str) -> list[Message]:
    if value is None:
        raise RowProblem(f"{name} is missing")
    if isinstance(value, str):
        if not value.strip():
            raise RowProblem(f"{name} is empty")
        return [{"role": "user", "content": _unicode(value, name)}]
    if not isinstance(value, list):
        raise RowProblem(f"{name} must be text or a list of chat messages, but is {_kind(value)}")
    if not value:
        raise RowProblem(f"{name} is an empty list")
    messages = [_message(message, f"{name}[{index}]") for index, message in enumerate(value)]
    last = messages[-1]
    if last["role"] not in ("user", "tool"):
        raise RowProblem(f"{name} must end with a message of the user, but ends with one of the {last['role']}")
    if isinstance(last["content"], str) and not last["content"].strip():
        raise RowProblem(f"{name} is empty: its last message has no text")
    return messages


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise RowProblem(f'{where} must be a chat message {{"role": ..., "content": ...}}, but is {_kind(value)}')
    role, content = value.get("role"), value.get("content")
    if role not in _ROLES:
        raise RowProblem(f"{where}.role must be one of {', '.join(_ROLES)}, but is {_kind(role)}")
    if isinstance(content, list):
        if not content:
            raise RowProblem(f"{where}.content is an empty list")
        for index, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(part, dict) or not isinstance(kind, str):
                raise RowProblem(f'{where}.content[{index}] must be a part {{"type": ...}}, but is {_kind(part)}')
            if kind == "text" and not isinstance(part.get("text"), str):
                raise RowProblem(f"{where}.content[{index}] is of type text, but has no text")
    elif not isinstance(content, str):
        raise RowProblem(f"{where}.content must be text or a list of parts, but is {_kind(content)}")
    # Parquet gives every message all fields of the column, None where there is none: the same message as without them.
    message: Message = _without_none(_json_like(value, where))
    return message


def _answer(value: Any, name: str, is_required: bool) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        if is_required:
            raise RowProblem(f"{name} is {'missing' if value is None else 'empty'}")
        return ""
    if isinstance(value, str):
        return _unicode(value, name)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RowProblem(f"{name} must be text or a number, but is {_kind(value)}")
    if not math.isfinite(value):
        raise RowProblem(f"{name} must be text or a finite number, but is {value}")
    return _number_text(value, name)


def _domain(value: Any, name: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "default"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowProblem(f"{name} must be text, but is {_kind(value)}")
    return _unicode(value, name) if isinstance(value, str) else _number_text(value, name)


def _tier(value: Any, name: str) -> int | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None  # pandas writes a missing whole number as NaN
    if isinstance(value, str):
        text = value.strip().lower()
        if not text:
            return None
        if text in TIER_NAMES:
            return TIER_NAMES.index(text)
        tier = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        tier = None
    else:
        tier = int(value) if math.isfinite(value) and value == int(value) else None
    if tier is None or not 0 <= tier < NUM_TIERS:
        raise RowProblem(
            f"{name} must be 0 ({TIER_NAMES[0]}) to {NUM_TIERS - 1} ({TIER_NAMES[-1]}), but is {_kind(value)}"
        )
    return tier


def _with_system(messages: list[Message], system_prompt: str | None) -> list[Message]:
    """The messages with the system prompt before them; joined to a row's own, as templates take only one."""
    if system_prompt is None:
        return messages
    first = messages[0]
    if first["role"] not in ("system", "developer"):
        return [{"role": "system", "content": system_prompt}, *messages]
    content = first["content"]
    joined = (
        f"{system_prompt}\n\n{content}"
        if isinstance(content, str)
        else [{"type": "text", "text": system_prompt}, *content]
    )
    return [{**first, "content": joined}, *messages[1:]]


def _json_like(value: Any, where: str, depth: int = 0) -> Any:
    """The value with JSON's types only: bytes as base64 text, dates and other scalars as their text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _unicode(value, where)
    if depth > _MAX_DEPTH:
        raise RowProblem(f"{where} is nested too deeply")
    if isinstance(value, Mapping):
        return {_unicode(str(key), where): _json_like(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_like(item, where, depth + 1) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _unicode(text: str, where: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowProblem(f"{where} is not valid Unicode (half of a surrogate pair)") from error
    return text


def _number_text(value: float | Decimal, name: str) -> str:
    try:
        return str(value)
    except ValueError as error:  # Python's limit on the digits of an integer
        raise RowProblem(f"{name} is a number of too many digits") from error


def _kind(value: Any) -> str:
    """A value for a message: its type in words and, of scalars, the beginning of its text."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, int) and abs(value) > 10**40:
        return "a huge number"
    text = str(value)
    return text if isinstance(value, int | float | Decimal) and len(text) <= 40 else f"a {type(value).__name__}"
