"""Rows of `rlcs score`: a prompt, a response, a reference answer and other columns, one after another.

| column | holds |
|---|---|
| `response` | the response, text, special tokens kept |
| `answer` | the reference; whatever is neither text nor a number becomes JSON text; may be missing if the reward needs none |
| `prompt` | text, or chat messages; handed to the reward as `messages`; may be missing |
| `id` | names the row in the output; else its number, counted from 0 |
| `domain`, `tier` and any other | handed to the reward by name |

JSONL, JSON (an array of objects), CSV, Parquet, and JSONL on standard input (`-`). JSON arrays are read whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcs.data_files import BadRow, Row, RowSource, _json_row, open_rows
from rlcs.data_rows import RowProblem, to_prompt
from rlcs.errors import DataError, one_line
from rlcs.json_text import parse_json
from rlcs.types import Prompt

_COLUMNS = {name: name for name in ("prompt", "answer", "domain", "tier")}


@dataclass(frozen=True, slots=True)
class Sample:
    """A row that can be scored."""

    id: Any
    """The row's `id`, else its number in the file, counted from 0."""
    where: str
    """File and line or row, for messages."""
    prompt: Prompt
    response: str
    has_answer: bool


def read_samples(name: str) -> Iterator[Sample | DataError]:
    """The rows of a file, or of standard input if `name` is `-`; a row that cannot be used is the error that says why.

    Raises:
        DataError: the file is missing, of an unknown kind, empty or damaged.
    """
    source = _open(name)
    index = -1
    for index, row in enumerate(source.rows):
        where = f"{source.name}, {source.unit} {row.number}"
        if isinstance(row, BadRow):
            yield DataError(f"{where}: {row.reason}")
            continue
        try:
            yield _sample(row.values, index, where)
        except RowProblem as problem:
            yield DataError(f"{where}: {problem}")
    if index < 0:
        raise DataError(f"{source.name} has no rows")


def _sample(values: Mapping[str, Any], index: int, where: str) -> Sample:
    """Raises RowProblem if a column is missing or of a wrong kind."""
    columns = dict(values)
    response = columns.pop("response", None)
    if response is None:
        raise RowProblem(f"response is missing; the row has {', '.join(map(repr, values)) or 'no columns'}")
    if not isinstance(response, str):
        raise RowProblem(f"response must be text, but is a {type(response).__name__}")
    identity = columns.get("id")
    has_prompt = columns.get("prompt") not in (None, "", [])
    answer = columns.pop("answer", None)
    checked = to_prompt({**columns, "prompt": columns["prompt"] if has_prompt else "-", "answer": "-"}, _COLUMNS, None)
    if "solution" in columns:  # renamed in training, where the cold start takes it
        checked.metadata["solution"] = checked.metadata.pop("original_solution")
    prompt = Prompt(
        id=where,
        messages=checked.messages if has_prompt else [],
        answer=_answer_text(answer),
        domain=checked.domain,
        tier=checked.tier,
        metadata=checked.metadata,
    )
    return Sample(index if identity is None else identity, where, prompt, response, answer is not None)


def _answer_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowProblem(f"answer must be text, a number or JSON, but is a {type(value).__name__}") from error


def _open(name: str) -> RowSource:
    if name == "-":
        return RowSource("standard input", "line", None, _stdin_rows())
    path = Path(name).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        return RowSource(name, "row", None, _array_rows(path))
    if not path.is_file():
        raise DataError(f"--data: there is no file {name}" if not path.is_dir() else f"--data: {name} is a folder")
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".csv", ".parquet", ".pq"):
        raise DataError(f"--data: {name} must end in .jsonl, .json, .csv or .parquet; `-` reads JSONL from a pipe")
    return open_rows(name, "--data", split="train")


def _stdin_rows() -> Iterator[Row | BadRow]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if line.strip():
            yield _json_row(number, line)


def _array_rows(path: Path) -> Iterator[Row | BadRow]:
    try:
        values = parse_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {one_line(error, 100)}") from error
    if not isinstance(values, list):
        raise DataError(f"{path} must hold a JSON array of objects; name it .jsonl if it has an object a line")
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            yield Row(number, value)
        else:
            yield BadRow(number, f"not a JSON object but a {type(value).__name__}")
