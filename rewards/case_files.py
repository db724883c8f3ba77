"""Cases: responses whose worth is known, which a reward must get right.

A cases file is JSONL, one case a line:

    {"response": "\\\\frac12", "answer": "0.5", "correct": true, "note": "a fraction for a decimal"}

| key | holds |
|---|---|
| `response` | a whole response, or, if it has no marker of the response format, the text in the box |
| `answer` | the reference answer |
| `correct` | whether the reward must find it right; may be left out where `value` is given |
| `value` | the value that the reward must give, within 1e-6; may be left out |
| `valid` | false if the reward must refuse the reference (`validate`); true if left out |
| `note` | what the case is about |
| anything else | further columns, handed to the reward by name |

`reference` is another name for `answer`, and `expected` for `correct` (true or false) or `value` (a number).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from rlcs.errors import DataError
from rlcs.response_format import render_response
from rlcs.rewards.extract import holds_format_markers
from rlcs.types import Score

_VALUE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Case:
    """A response and what a reward must say about it."""

    response: str
    answer: str
    correct: bool | None = None
    value: float | None = None
    note: str = ""
    valid: bool = True
    """Whether the reward can use the reference; if not, `validate` must say why."""
    columns: dict[str, Any] = field(default_factory=dict)
    line: int = 0
    """Where it stands in its file, from 1."""

    @property
    def completion(self) -> str:
        """The response as a reward gets it: a bare answer is put into a box."""
        return self.response if holds_format_markers(self.response) else render_response("", self.response)

    def is_met_by(self, score: Score | None) -> bool:
        """Whether a score is the expected one."""
        if score is None:
            return False
        if self.value is not None and abs(score.value - self.value) > _VALUE_TOLERANCE:
            return False
        if self.correct is None:
            return True
        found = score.correct if score.correct is not None else score.value >= 1 - _VALUE_TOLERANCE
        return found == self.correct


def load_cases(path: str | Path) -> list[Case]:
    """The cases of a file.

    Raises:
        DataError: there is no such file, or a line of it is no case.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cases file {path} cannot be read: {error.strerror}") from error
    return _parse(text, str(path))


def builtin_cases(name: str) -> list[Case]:
    """The cases that ship with a built-in reward.

    Raises:
        DataError: there are none of this name.
    """
    file = resources.files("rlcs.rewards").joinpath("cases", f"{name}.jsonl")
    if not file.is_file():
        raise DataError(f"there are no built-in cases for {name!r}")
    return _parse(file.read_text(encoding="utf-8"), f"{name}.jsonl")


def _parse(text: str, where: str) -> list[Case]:
    return [_case(line, f"{where}, line {number}", number) for number, line in _lines(text)]


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines: JSON strings may hold U+2028 and the like.
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _case(line: str, where: str, number: int) -> Case:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a case is a JSON object")
    _rename_aliases(row, where)
    columns = {key: value for key, value in row.items() if key not in Case.__slots__ or key in ("columns", "line")}
    correct, value = row.get("correct"), row.get("value")
    if not isinstance(row.get("response"), str) or not isinstance(row.get("answer"), str):
        raise DataError(f"{where}: `response` and `answer` must be texts")
    if correct is None and value is None:
        raise DataError(f"{where}: say what is expected, as `correct` (true or false) or `value` (a number)")
    if correct is not None and not isinstance(correct, bool):
        raise DataError(f"{where}: `correct` must be true or false, not {correct!r}")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"{where}: `value` must be a number, not {value!r}")
    valid = row.get("valid", True)
    if not isinstance(valid, bool):
        raise DataError(f"{where}: `valid` must be true or false, not {valid!r}")
    return Case(row["response"], row["answer"], correct, value, str(row.get("note", "")), valid, columns, number)


def _rename_aliases(row: dict[str, Any], where: str) -> None:
    """Give `reference` and `expected` our names. Beside one of ours they are columns like any other."""
    if "reference" in row and "answer" not in row:
        row["answer"] = row.pop("reference")
    if "expected" in row and "correct" not in row and "value" not in row:
        expected = row.pop("expected")
        if not isinstance(expected, bool | int | float):
            raise DataError(f"{where}: `expected` must be true, false or a number, not {expected!r}")
        row["correct" if isinstance(expected, bool) else "value"] = expected
