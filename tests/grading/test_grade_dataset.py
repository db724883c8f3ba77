"""The graded dataset holds the rows as they were, and `load_splits` reads the tiers from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlcs.config import DataConfig
from rlcs.data import load_splits
from rlcs.errors import DataError
from rlcs.grading.dataset import GRADE_KEY, PREVIOUS_TIER, dataset_source, write_graded
from rlcs.types import Prompt


def config(path: Path, **settings: Any) -> DataConfig:
    return DataConfig.model_validate({"train": str(path), "eval_fraction": 0.0, **settings})


def regrade(source: DataConfig, output: Path, drop: int = 0) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts before, and those of the graded dataset; row i gets tier i mod 5. The first `drop` are not graded."""
    before = load_splits(source, seed=0).train[drop:]
    row_of = {prompt.id: row for row, prompt in enumerate(before)}
    rows = np.arange(len(before))
    grades = {"tier": (rows % 5).astype(np.int8), "pass_rate": rows / len(rows), "pass_at_1": rows / len(rows)}
    write_graded(dataset_source(source), row_of, grades, output, {"samples": 4})
    return before, load_splits(source.model_copy(update={"train": str(output)}), seed=0).train


def same_but_graded(before: list[Prompt], after: list[Prompt], *, tier_before: bool = False) -> None:
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (new.id, new.messages, new.answer, new.domain) == (old.id, old.messages, old.answer, old.domain)
        assert new.tier == row % 5
        metadata = dict(new.metadata)
        assert metadata.pop("pass_rate") == row / len(before)
        assert metadata.pop("pass_at_1") == row / len(before)
        if tier_before:
            metadata.pop(PREVIOUS_TIER)
        # A column that a row does not have is empty in it.
        assert {name: value for name, value in metadata.items() if value is not None} == {
            name: value for name, value in old.metadata.items() if value is not None
        }


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_jsonl_keep_what_verifiers_read(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"{i} + {i}?",
            "answer": 2 * i,
            "topic": "sums",
            "hints": ["a", "b"][: i % 3],
            "score": i / 7,
            "ok": bool(i % 2),
            "note": None if i % 2 else "文",
        }
        for i in range(23)
    ]
    source = config(write_jsonl(tmp_path / "d.jsonl", rows), columns={"prompt": "question", "domain": "topic"})
    before, after = regrade(source, tmp_path / "g.parquet")
    same_but_graded(before, after)
    schema = pq.read_schema(tmp_path / "g.parquet")
    assert schema.names == [*rows[0], "tier", "pass_rate", "pass_at_1"]
    assert schema.field("answer").type == pa.int64() and schema.field("hints").type == pa.list_(pa.string())
    assert json.loads(schema.metadata[GRADE_KEY]) == {"samples": 4}


def test_tiers_that_were_there_are_kept_beside(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "answer": str(i), "level": "hard", "tier": 7} for i in range(6)]
    source = config(write_jsonl(tmp_path / "d.jsonl", rows), columns={"tier": "level"})
    before, after = regrade(source, tmp_path / "g.parquet")
    assert [prompt.tier for prompt in before] == [3] * 6 and [prompt.tier for prompt in after] == [0, 1, 2, 3, 4, 0]
    table = pq.read_table(tmp_path / "g.parquet").to_pylist()
    assert table[1] == {
        "prompt": "1?", "answer": "1", "tier": 7, PREVIOUS_TIER: "hard", "level": 1, "pass_rate": 1 / 6, "pass_at_1": 1 / 6
    }  # fmt: skip


def test_grading_again_replaces_the_grades(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "answer": str(i)} for i in range(7)]
    source = config(write_jsonl(tmp_path / "d.jsonl", rows))
    regrade(source, tmp_path / "once.parquet")
    _, after = regrade(config(tmp_path / "once.parquet"), tmp_path / "twice.parquet", drop=2)
    assert [prompt.tier for prompt in after] == [0, 1, 2, 3, 4]
    assert pq.read_schema(tmp_path / "twice.parquet").names == [
        "prompt", "answer", PREVIOUS_TIER, "tier", "pass_rate", "pass_at_1"
    ]  # fmt: skip


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    messages = [[{"role": "user", "content": f"{i}?", "name": None}] for i in range(5)]
    table = pa.table(
        {
            "prompt": pa.array(messages),
            "answer": pa.array(["x"] * 5, pa.large_string()).dictionary_encode(),
            "when": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 5),
            "data": pa.array([{"bytes": b"\x00", "n": i} for i in range(5)]),
            "small": pa.array([1, 2, None, 4, 5], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "d.parquet")
    before, after = regrade(config(tmp_path / "d.parquet"), tmp_path / "g.parquet")
    same_but_graded(before, after)
    written = pq.read_table(tmp_path / "g.parquet")
    assert written.schema.names[:5] == table.schema.names
    assert written.select(table.schema.names).to_pylist() == table.to_pylist()
    assert [written.schema.field(name).type for name in ("when", "data", "small")] == [
        table.schema.field(name).type for name in ("when", "data", "small")
    ]


def test_repeated_rows_get_the_same_grade_and_rows_that_were_not_graded_are_left_out(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i % 4}?", "answer": "x", "row": i} for i in range(8)]
    source = config(write_jsonl(tmp_path / "d.jsonl", [*rows, {"prompt": ""}]), on_bad_row="skip")
    regrade(source, tmp_path / "g.parquet", drop=1)
    table = pq.read_table(tmp_path / "g.parquet").to_pylist()
    assert [(row["row"], row["tier"]) for row in table] == [(1, 0), (2, 1), (3, 2), (5, 0), (6, 1), (7, 2)]


def test_more_rows_than_a_batch(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "answer": str(i)} for i in range(2500)]
    before, after = regrade(config(write_jsonl(tmp_path / "d.jsonl", rows)), tmp_path / "g.parquet")
    same_but_graded(before, after)


def test_nothing_is_left_where_the_dataset_changed(tmp_path: Path) -> None:
    source = config(write_jsonl(tmp_path / "d.jsonl", [{"prompt": "1?", "answer": "1"}]))
    with pytest.raises(DataError, match="dataset has changed"):
        write_graded(dataset_source(source), {"other": 0}, {"tier": np.zeros(1, np.int8)}, tmp_path / "g.parquet", {})
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]
