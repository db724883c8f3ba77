"""Files that are appended to and replaced while others read them, and that `kill -9` leaves whole.

A JSON Lines file grows by whole lines, each written with one call and flushed to the disk; what a crash tore is cut off
before the next line is appended, and passed over by readers. A Parquet file is written under another name, flushed and
renamed. The rows of iterations lie in `step-000001.parquet`, one an iteration, until `rlcs.run_compaction` joins them
into `part-000001-000200.parquet`: see `step_files`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from rlcs.errors import CheckpointError, first_line
from rlcs.json_text import parse_record

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
"""Of the files of a run. It grows when an older reader would misread them, not when a column or a metric is added."""

_SCHEMA_KEY = b"rlcs.schema"
_STEP_FILE = re.compile(r"step-(\d{6,})\.parquet")
_PART_FILE = re.compile(r"part-(\d{6,})-(\d{6,})\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class StepFile:
    """A Parquet file with the rows of iterations `first` to `last`."""

    first: int
    last: int
    path: Path = field(compare=False)


def step_files(folder: Path) -> list[StepFile]:
    """The files of a folder that count, by iteration: no two of them hold the same iteration.

    A crash in the middle of a compaction leaves files whose rows a part has too; those are left out.
    """
    found = []
    for path in folder.glob("*.parquet"):
        if match := _STEP_FILE.fullmatch(path.name):
            found.append(StepFile(int(match[1]), int(match[1]), path))
        elif match := _PART_FILE.fullmatch(path.name):
            found.append(StepFile(int(match[1]), int(match[2]), path))
    found.sort(key=lambda file: (file.first, -file.last, file.path.name.startswith("step-")))
    kept: list[StepFile] = []
    for file in found:
        if not kept or file.first > kept[-1].last:
            kept.append(file)
    return kept


def step_path(folder: Path, step: int) -> Path:
    """Where the rows of one iteration are written."""
    return folder / f"step-{step:06d}.parquet"


def part_path(folder: Path, first: int, last: int) -> Path:
    """Where the rows of iterations `first` to `last` are joined."""
    return folder / f"part-{first:06d}-{last:06d}.parquet"


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a JSON Lines file, whole or, after a crash, torn in the last one only."""
    data = _as_lines(records)
    is_new = not path.exists()
    if not is_new:
        _cut_torn_line(path)
    with path.open("ab", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(path.parent)


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSON Lines file."""
    replace_file(path, _as_lines(records))


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file under another name and rename it; `durable`: it also outlives a power cut."""
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(beside, path)
    if durable:
        _sync_folder(path.parent)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file; a torn last line is passed over with a warning.

    Raises:
        CheckpointError: a line before the last is damaged, or a record has a newer schema.
    """
    reader = LineReader(path)
    records = reader.read_new()
    if reader.damaged:
        number, reason = reader.damaged[0]
        raise CheckpointError(f"{path}, line {number}: damaged record ({reason}); remove the line")
    if reader.is_torn:
        logger.warning("%s: the last line is torn and was passed over", path)
    return records


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file, each of an iteration, `step`.

    Raises:
        CheckpointError: as `read_lines`, or a record has no iteration.
    """
    records = read_lines(path)
    for record in records:
        if not is_step(record.get("step")):
            raise CheckpointError(
                f"{path}: a record has no iteration (step: {str(record.get('step'))[:40]}); remove the line"
            )
    return records


def is_step(value: object) -> TypeGuard[int]:
    """Whether a value can be the number of an iteration."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


class LineReader:
    """Reads a JSON Lines file while it grows: `read_new` gives what came since the last call.

    A last line without an end, or one that cannot be read and has none after it, is not given: it may still be written.
    Damaged lines before it are passed over and kept in `damaged`, as (line number, reason).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[tuple[int, str]] = []
        self.is_torn = False
        self.restarts = 0
        """How often the file was replaced, so that all of it was read anew."""
        self._offset = 0
        self._line = 0
        self._inode = -1

    def read_new(self) -> list[dict[str, Any]]:
        """The records that came since the last call; all of them where the file was replaced.

        Raises:
            CheckpointError: a record has a newer schema.
            OSError: the file cannot be opened.
        """
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                if self._inode >= 0:
                    self.restarts += 1
                self._offset, self._line, self._inode = 0, 0, status.st_ino
                self.damaged.clear()
            file.seek(self._offset)
            data = file.read()
        records: list[dict[str, Any]] = []
        lines = data.split(b"\n")
        self.is_torn = bool(lines[-1])
        for index, line in enumerate(lines[:-1]):
            if not line.strip():
                self._offset += len(line) + 1
                self._line += 1
                continue
            try:
                record = parse_record(line)
            except ValueError as error:
                if index == len(lines) - 2 and not self.is_torn:
                    self.is_torn = True
                    break
                self.damaged.append((self._line + 1, first_line(error)))
            else:
                check_schema(record.get("schema", 1), self.path)
                records.append(record)
            self._offset += len(line) + 1
            self._line += 1
        if lines[-1] and (whole := _whole_record(lines[-1])) is not None:
            # A file that another tool wrote may lack the last end of line.
            check_schema(whole.get("schema", 1), self.path)
            records.append(whole)
            self._offset += len(lines[-1])
            self.is_torn = False
        return records


def check_schema(version: object, path: Path) -> None:
    """Raises CheckpointError if a file was written by a newer version of RLCS."""
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} has schema {version!r}, and this version of RLCS reads schemas up to {SCHEMA_VERSION}: upgrade rlcs"
        )


def write_parquet(table: Any, path: Path, row_group_size: int | None = None) -> None:
    """Write an Arrow table, whole or not at all."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    table = table.replace_schema_metadata(stamped(table.schema.metadata))
    pq.write_table(table, beside, compression="zstd", row_group_size=row_group_size)
    finish_parquet(beside, path)


def stamped(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    """Metadata of an Arrow schema with the version of the run's schema."""
    return {**(metadata or {}), _SCHEMA_KEY: str(SCHEMA_VERSION).encode()}


def finish_parquet(beside: Path, path: Path) -> None:
    """Give a file that was written beside its place its name."""
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)
    _sync_folder(path.parent)


def read_parquet(path: Path, columns: list[str] | None = None) -> Any:
    """The Arrow table of a file, or of those of `columns` that it has.

    Raises:
        CheckpointError: the file is damaged or of a newer schema.
        FileNotFoundError: it is gone, for example because it was compacted meanwhile.
    """
    file = open_parquet(path)
    wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
    with explain_parquet(path):
        return file.read(columns=wanted)


def open_parquet(path: Path) -> Any:
    """The open Parquet file. Raises as `read_parquet` does."""
    import pyarrow.parquet as pq

    with explain_parquet(path):
        file = pq.ParquetFile(path)
        version = (file.schema_arrow.metadata or {}).get(_SCHEMA_KEY, b"1")
    check_schema(int(version) if version.isdigit() else version.decode(errors="replace"), path)
    return file


@contextmanager
def explain_parquet(path: Path) -> Iterator[None]:
    """Raise CheckpointError, which names `path`, for what reading a damaged Parquet file raises."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # a name in it may be no Unicode
        raise CheckpointError(f"{path} cannot be read ({first_line(error)}): remove the file") from error


def remove_leftovers(folder: Path) -> None:
    """Remove files that a crash left half-written, and step files whose rows a part has too."""
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)
    counted = {file.path for file in step_files(folder)}
    for path in folder.glob("*.parquet"):
        if path not in counted and (_STEP_FILE.fullmatch(path.name) or _PART_FILE.fullmatch(path.name)):
            path.unlink(missing_ok=True)


def _as_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return text.encode(errors="replace")  # half a surrogate pair, as in the name of a file, is no Unicode


def _whole_record(line: bytes) -> dict[str, Any] | None:
    try:
        return parse_record(line)
    except ValueError:
        return None


def _cut_torn_line(path: Path) -> None:
    """Cut off what follows the last end of line, if anything does; a whole record there gets its end of line."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        data = file.read()
        start = data.rfind(b"\n") + 1
        if _whole_record(data[start:]) is not None:
            file.write(b"\n")
            return
        logger.warning("%s: its last line was torn by a crash and is dropped", path)
        file.truncate(start)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
