"""The journal of an unfinished grading: a JSON Lines file beside the output, appended to a chunk at a time.

    graded.parquet.unfinished.jsonl
      {"schema": 1, "settings": {"samples": 8, "models": [...], "data": "...", ...}}
      {"model": 0, "id": "0123456789abcdef", "correct": 3, "pass_rate": 0.375, "tokens": 412}

A chunk is one write that is flushed to the disk, so that a kill at any moment loses the chunk that was being made and
no more. A torn last line is cut off when the journal is opened again. One process at a time has it open.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from rlcs.errors import CheckpointError, ConfigError
from rlcs.json_text import parse_json

SCHEMA_VERSION = 1
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Graded:
    """What one model did on one prompt."""

    model: int
    """Its place among the models."""
    id: str
    """Of the prompt."""
    correct: int
    """Responses that are right."""
    pass_rate: float
    """Their share, or the mean reward where right and wrong do not apply."""
    tokens: int
    """Generated for the prompt."""


def journal_path(output: Path) -> Path:
    """Where the journal of `output` lies."""
    return output.with_name(output.name + ".unfinished.jsonl")


class Journal:
    """An open journal. Use `begin` or `reopen`; at last `close`, or `remove` when the output is written."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.records: list[Graded] = []
        self._file = file

    @staticmethod
    def begin(output: Path, settings: Mapping[str, Any]) -> Journal:
        """A new journal; an old one of the same output is forgotten.

        Raises:
            ConfigError: it cannot be written, or another process has it open.
        """
        journal = Journal._open(journal_path(output), "ab")
        journal._file.truncate(0)
        journal._write([{"schema": SCHEMA_VERSION, "settings": dict(settings)}])
        return journal

    @staticmethod
    def reopen(output: Path, settings: Mapping[str, Any]) -> Journal:
        """The journal of a grading that was stopped, if it was begun with the same `settings`.

        Raises:
            CheckpointError: there is none, or it is damaged.
            ConfigError: the settings differ (names the first that does), or another process has it open.
        """
        path = journal_path(output)
        if not path.is_file():
            done = f"{output} is finished" if output.exists() else f"no grading of {output} was begun"
            raise CheckpointError(f"there is nothing to resume: {done} ({path.name} is not there); leave out --resume")
        journal = Journal._open(path, "r+b")
        try:
            journal._read(settings)
        except BaseException:
            journal.close()
            raise
        return journal

    def append(self, records: Iterable[Graded]) -> None:
        """Add a chunk, and wait until it is on the disk."""
        chunk = list(records)
        self._write([asdict(record) for record in chunk])
        self.records += chunk

    def close(self) -> None:
        """Close the file and let others open it."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete it."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    @staticmethod
    def _open(path: Path, mode: str) -> Journal:
        try:
            file = path.open(mode)
        except OSError as error:
            raise ConfigError(f"--output: {path} cannot be written: {error.strerror or error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ConfigError(f"--output: another `rlcs grade` is at work on {path}") from error
        return Journal(path, file)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, settings: Mapping[str, Any]) -> None:
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        header = self._parse(1, lines[0]) if lines else {}
        if header.get("schema") != SCHEMA_VERSION or not isinstance(header.get("settings"), dict):
            raise CheckpointError(f"{self.path} is no journal of this version; begin anew with --overwrite")
        _check_same(header["settings"], json.loads(json.dumps(dict(settings))), self.path)
        graded = TypeAdapter(Graded)
        for number, line in enumerate(lines[1:], start=2):
            try:
                self.records.append(graded.validate_python(self._parse(number, line)))
            except ValidationError as error:
                raise CheckpointError(f"{self.path}, line {number}: no record of a grading; remove the line") from error
        self._file.truncate(whole)
        self._file.seek(whole)

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = parse_json(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise CheckpointError(f"{self.path}, line {number}: damaged ({error}); remove the line") from error
        return record


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Compare two settings. Raises ConfigError that names the first difference."""
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"{path.name} was begun with another {name} ({_short(before.get(name))}, now {_short(now.get(name))}): "
                "resume with the same, or begin anew with --overwrite"
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
