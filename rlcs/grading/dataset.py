"""The graded dataset: the rows that were graded, with all their columns, and the grades beside them, as Parquet.

Prompts read from it are those of the original, so that a verifier finds what it needs. Columns of a Parquet file keep
their types. Of other sources a column gets the type that all its values have; one that holds mappings, or values of
several types, is written as JSON (Arrow's canonical type `arrow.json`), since a Parquet struct would give every row the
fields of all others.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rlcs.config import OUR_COLUMNS, DataConfig
from rlcs.data_files import BadRow, is_file_name, is_unicode, open_rows
from rlcs.data_media import MediaReader, read_prompt
from rlcs.data_rows import RowProblem
from rlcs.errors import DataError
from rlcs.types import Prompt

GRADE_KEY = b"rlcs.grade"
"""Of the file's metadata: how it was graded, as JSON."""
PREVIOUS_TIER = "tier_before"
"""Where the tiers go that the dataset had."""
_BATCH_ROWS = 1024

_SCALARS = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bytes": pa.binary(),
    "other": pa.string(),
}
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

Rows = Callable[[], Iterator[tuple[str, dict[str, Any]]]]
"""Starts over a dataset: prompt id and values of each row."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to grade."""

    rows: Rows
    types: Mapping[str, pa.DataType]
    """Types of columns that are known beforehand."""
    tier: str
    """What the dataset calls the tier."""


def dataset_source(config: DataConfig) -> Source:
    """The rows of `data.train` as they are; those that are no use are left out, since loading told of them."""
    assert config.train is not None
    name, path = config.train, Path(config.train).expanduser()
    columns = {ours: config.columns.get(ours, ours) for ours in OUR_COLUMNS}

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        source = open_rows(name, "--data", split=config.train_split, subset=config.subset)
        media = MediaReader.of(config, source.folder)
        for row in source.rows:
            if isinstance(row, BadRow):
                continue
            try:
                prompt = read_prompt(row.values, columns, None, media, answer_required=config.answer_required)
            except RowProblem:
                continue
            # The graded dataset may stand in another folder.
            shown = {
                name: media.absolute(row.values[name]) for name in (media.images, media.videos) if name in row.values
            }
            yield prompt.id, {**row.values, **shown}

    types: dict[str, pa.DataType] = {}
    if is_file_name(name) and path.suffix.lower() in (".parquet", ".pq"):
        # A JSON column is read as what it holds, and gets a type by that as any other.
        types = {field.name: field.type for field in pq.read_schema(path) if not isinstance(field.type, pa.JsonType)}
    return Source(rows, types, columns["tier"])


def prompts_source(prompts: Iterable[Prompt], system_prompt: str | None) -> Source:
    """Prompts that an environment made as rows of a dataset, without the system prompt that training puts before them."""
    prompts = list(prompts)

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for prompt in prompts:
            messages = prompt.messages[1:] if system_prompt is not None else prompt.messages
            ours = {"prompt": messages, "answer": prompt.answer, "domain": prompt.domain, "tier": prompt.tier}
            shown: dict[str, Any] = {}
            if prompt.images:
                shown["images"] = [{"bytes": image.data} for image in prompt.images]
            if prompt.videos:
                shown["videos"] = [
                    {"frames": [{"bytes": frame.data} for frame in video.frames], "fps": video.fps}
                    for video in prompt.videos
                ]
            yield prompt.id, {**prompt.metadata, **ours, **shown}

    return Source(rows, {}, "tier")


def write_graded(
    source: Source,
    row_of: Mapping[str, int],
    grades: Mapping[str, NDArray[Any]],
    path: Path,
    settings: Mapping[str, Any],
) -> int:
    """Write the rows whose prompt id is in `row_of`, with `grades` (a column name to an array [N], `row_of` the index).

    `grades["tier"]` goes where the dataset has its tiers, which are kept as `PREVIOUS_TIER`. The file is written under
    another name and renamed. Returns the number of rows.

    Raises:
        DataError: it cannot be written, or the dataset has changed so that nothing is left.
    """
    names = {source.tier if name == "tier" else name: name for name in grades}

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for id_, values in source.rows():
            if id_ in row_of:
                yield row_of[id_], _rename(values, source.tier, names)

    types = _column_types((values for _, values in rows()), _rename(dict(source.types), source.tier, names))
    schema = pa.schema([*types.items(), *((name, pa.array(grades[ours]).type) for name, ours in names.items())])
    schema = schema.with_metadata({GRADE_KEY: json.dumps(settings)})
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    count = 0
    try:
        with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
            for batch in _batches(rows()):
                index = np.asarray([row for row, _ in batch], dtype=np.int64)
                arrays = [_to_array([values.get(name) for _, values in batch], type_) for name, type_ in types.items()]
                arrays += [pa.array(grades[ours][index]) for ours in names.values()]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                count += len(batch)
        if not count:
            raise DataError(f"{path} is not written: the dataset has changed, and none of its rows was graded")
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return count


def _batches(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    batch: list[tuple[int, dict[str, Any]]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _rename(values: Mapping[str, Any], tier: str, grades: Mapping[str, str]) -> dict[str, Any]:
    """A row without columns of the names of the grades; its own tier is kept under another name."""
    kept = {name: value for name, value in values.items() if name not in grades}
    if tier in values:
        kept[PREVIOUS_TIER] = values[tier]
    return kept


# Types of columns


def _column_types(rows: Iterable[Mapping[str, Any]], known: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """A type for each column, in the order in which they come up."""
    kinds: dict[str, set[str]] = {}
    for values in rows:
        for name, value in values.items():
            found = kinds.setdefault(name, set())
            if name not in known and value is not None:
                found.add(_kind(value))
    return {name: known.get(name) or _type_of(found) for name, found in kinds.items()}


def _kind(value: Any) -> str:
    """`int`, `str` ..., `list`, `list:int` ..., `messages`, or `json` for what has no type of its own."""
    if isinstance(value, list):
        if value and all(_is_plain_message(item) for item in value):
            return "messages"
        kinds = {_kind(item) for item in value}
        if not kinds:
            return "list"
        kind = kinds.pop()
        return f"list:{kind}" if not kinds and kind in _SCALARS and kind != "other" else "json"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, str):
        return "str" if is_unicode(value) else "json"
    return "json" if value is None or isinstance(value, Mapping | tuple) else "other"


def _is_plain_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"role", "content"}
        and all(isinstance(text, str) and is_unicode(text) for text in value.values())
    )


def _type_of(kinds: set[str]) -> pa.DataType:
    if not kinds:
        return pa.null()
    lists = {kind for kind in kinds if kind.startswith("list:")}
    if kinds - lists <= {"list"} and len(lists) == 1:
        return pa.list_(_SCALARS[lists.pop().removeprefix("list:")])
    if len(kinds) > 1:
        return pa.json_()
    kind = kinds.pop()
    return _MESSAGES if kind == "messages" else _SCALARS.get(kind, pa.json_())


def _to_array(values: list[Any], type_: pa.DataType) -> pa.Array:
    if isinstance(type_, pa.JsonType):
        texts = [None if value is None else json.dumps(value, default=_json_default) for value in values]
        return pa.ExtensionArray.from_storage(type_, pa.array(texts, pa.string()))
    if pa.types.is_string(type_):
        values = [value if value is None or isinstance(value, str) else str(value) for value in values]
    return pa.array(values, type_)


def _json_default(value: Any) -> str:
    """As `rlcs.data_rows` reads such values."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
