"""Rows of datasets: JSONL, Parquet and CSV files, and Hugging Face datasets, one after another in constant memory.

A row that cannot be read is a `BadRow` with its number, never an exception, so that the caller decides what to do with
it. Row numbers count from 1 as a person would find them: the line of a JSONL file, the record of the others (a CSV
file's header is not counted).
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rlcs.errors import DataError, first_line, one_line
from rlcs.json_text import parse_json

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 1024

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the file has it."""

    number: int
    values: dict[str, Any]
    """Column names and values: JSON's types, and whatever Parquet knows beside them (dates, bytes)."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class RowSource:
    """An open dataset."""

    name: str
    """The file or dataset, for messages."""
    unit: str
    """What a row's number counts: `line` or `row`."""
    columns: list[str] | None
    """All columns, or None if each row brings its own (JSONL)."""
    rows: Iterable[Row | BadRow]
    folder: Path = Path()
    """Paths in the rows are relative to it."""


def is_file_name(name: str) -> bool:
    """Whether a dataset's name means a file or folder on disk and not a Hugging Face dataset."""
    path = Path(name)
    known = path.suffix.lower() in _FORMATS
    return known or path.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") > 1 or _exists(path)


def check_exists(name: str, key: str) -> None:
    """Check that the dataset of setting `key`, where it is a file or folder, is there and of a known kind.

    Raises:
        DataError: it is missing, or of a kind that cannot be read.
    """
    if not is_file_name(name):
        return
    path = Path(name).expanduser()
    if not _exists(path):
        raise DataError(f"{key}: there is no file {name}")
    if path.is_dir():
        if path.suffix.lower() in _FORMATS:
            raise DataError(f"{key}: {name} is a folder, not a file")
    elif path.suffix.lower() not in _FORMATS:
        raise DataError(
            f"{key}: {name} is no JSONL, Parquet or CSV file; its name must end in .jsonl, .parquet or .csv"
        )


def open_rows(name: str, key: str, *, split: str, subset: str | None = None) -> RowSource:
    """Open the dataset that setting `key` names: a file, a folder that `datasets` reads, or a hub dataset.

    Raises:
        DataError: it is missing or cannot be opened at all.
    """
    check_exists(name, key)
    path = Path(name).expanduser()
    if not is_file_name(name) or path.is_dir():
        return _open_hub(name, key, split, subset)
    try:
        return {"jsonl": _open_jsonl, "parquet": _open_parquet, "csv": _open_csv}[_FORMATS[path.suffix.lower()]](path)
    except OSError as error:
        raise DataError(f"{key}: {name} cannot be read: {error.strerror or error}") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long or holds a NUL
        return False


# JSONL


def _open_jsonl(path: Path) -> RowSource:
    path.open("rb").close()
    return RowSource(str(path), "line", None, _jsonl_rows(path), path.parent)


def _jsonl_rows(path: Path) -> Iterator[Row | BadRow]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> Row | BadRow:
    try:
        values = parse_json(line)
    except UnicodeDecodeError:
        return BadRow(number, "not UTF-8 text")
    except json.JSONDecodeError as error:
        return BadRow(number, f"not JSON: {error.msg} at column {error.colno}")
    except ValueError as error:  # numbers of thousands of digits, brackets without end
        return BadRow(number, f"not usable JSON: {one_line(error, 80)}")
    if not isinstance(values, dict):
        return BadRow(number, f'not a JSON object like {{"prompt": ..., "answer": ...}} but a {type(values).__name__}')
    return Row(number, values)


# CSV: every value stays text, so that an answer "007" or "1.50" is not turned into another number.


def _open_csv(path: Path) -> RowSource:
    with path.open("rb") as stream:
        reader = _csv_reader(stream)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, header: {error}") from error
    if header is None:
        raise DataError(f"{path} is empty: a CSV file begins with a line of column names")
    _check_columns(header, path)
    return RowSource(str(path), "row", header, _csv_rows(path, len(header)), path.parent)


def _csv_reader(stream: BinaryIO) -> Any:
    csv.field_size_limit(sys.maxsize)
    # Bytes that are no UTF-8 become surrogates, which are found row by row.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    return csv.reader(text, strict=True)


def _csv_rows(path: Path, width: int) -> Iterator[Row | BadRow]:
    with path.open("rb") as stream:
        reader = _csv_reader(stream)
        header = next(reader)
        number = 0
        while True:
            number += 1
            start = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                lines = f"lines {start} to {reader.line_num}" if reader.line_num > start else f"line {start}"
                yield BadRow(number, f"not CSV: {error} ({lines})")
                continue
            if not fields:
                number -= 1  # a blank line
            elif len(fields) != width:
                yield BadRow(number, f"has {len(fields)} fields, but the header has {width} (line {start})")
            elif not all(field.isascii() or is_unicode(field) for field in fields):
                yield BadRow(number, f"not UTF-8 text (line {start})")
            else:
                yield Row(number, dict(zip(header, fields, strict=True)))


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Parquet


def _open_parquet(path: Path) -> RowSource:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns = list(file.schema_arrow.names)
    except FileNotFoundError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: {first_line(error)}") from error
    _check_columns(columns, path)
    return RowSource(str(path), "row", columns, _parquet_rows(file, path), path.parent)


def _parquet_rows(file: Any, path: Path) -> Iterator[Row | BadRow]:
    import pyarrow

    number = 1
    with file:
        batches = file.iter_batches(batch_size=_BATCH_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                # A page that cannot be decoded hides how many rows it held, so there is no going on after it.
                raise DataError(f"{path} is damaged after row {number - 1}: {first_line(error)}") from error
            if batch is None:
                return
            yield from _batch_rows(batch, number)
            number += batch.num_rows


def _batch_rows(batch: pyarrow.RecordBatch, first: int) -> Iterator[Row | BadRow]:
    import pyarrow

    try:
        records = batch.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        # A value that Python cannot hold (text that is not UTF-8, a date out of range) spoils its own row only.
        if batch.num_rows == 1:
            yield BadRow(first, f"a value cannot be read: {first_line(error)}")
            return
        for offset in range(batch.num_rows):
            yield from _batch_rows(batch.slice(offset, 1), first + offset)
        return
    columns = [field.name for field in batch.schema if isinstance(field.type, pyarrow.JsonType)]
    for offset, values in enumerate(records):
        yield _with_json(first + offset, values, columns) if columns else Row(first + offset, values)


def _with_json(number: int, values: dict[str, Any], columns: list[str]) -> Row | BadRow:
    """The row with what its JSON columns (Arrow's type `arrow.json`) hold instead of their text."""
    for name in columns:
        if values[name] is not None:
            try:
                values[name] = parse_json(values[name])
            except ValueError as error:
                return BadRow(number, f"{name} is not JSON: {one_line(error, 80)}")
    return Row(number, values)


# Hugging Face datasets


def _open_hub(name: str, key: str, split: str, subset: str | None) -> RowSource:
    import datasets

    path = Path(name).expanduser()
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
            if isinstance(loaded, datasets.DatasetDict):
                if split not in loaded:
                    raise DataError(f"{key}: {name} has no split {split!r}; it has {', '.join(loaded)}")
                loaded = loaded[split]
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else name, subset, split=split)
    except DataError:
        raise
    except Exception as error:  # the library, its file systems and the hub's client raise errors of a dozen roots
        where = "" if path.is_dir() else " (no file of that name is here, so it was taken for a hub dataset)"
        raise DataError(
            f"{key}: dataset {name}, split {split}, cannot be loaded{where}: {first_line(error)}"
        ) from error
    for column, feature in loaded.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio | datasets.Video):
            loaded = loaded.cast_column(column, type(feature)(decode=False))
    return RowSource(
        f"{name} ({split})", "row", list(loaded.column_names), _hub_rows(loaded), path if path.is_dir() else Path()
    )


def _hub_rows(dataset: Any) -> Iterator[Row | BadRow]:
    number = 1
    for batch in dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        for record_batch in batch.to_batches():
            yield from _batch_rows(record_batch, number)
            number += record_batch.num_rows


def _check_columns(columns: list[str], path: Path) -> None:
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there twice, so one would be lost: rename one")
    if not all(is_unicode(name) for name in columns):
        raise DataError(f"{path}: a column name is not UTF-8 text")
