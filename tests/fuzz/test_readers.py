"""Whatever is in a file, a reader gives what it read or one clear error: never another exception.

Whole files are changed at random places, which goes deeper than random bytes. Each of five targets (configurations, datasets,
responses, a run's files, checkpoints) is tried for RLCS_FUZZ_SECONDS of a processor, in rounds of examples whose seeds count up
from RLCS_FUZZ_SEED: a shorter time tries a part of the same, and `make fuzz` goes on for an hour each from a seed of its own.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import DataConfig
from rlcs.config_loading import load_config
from rlcs.data import load_splits
from rlcs.errors import RLCSError
from rlcs.rewards.extract import Extraction, ExtractOptions, Fallback, extract_answer
from tests.fuzz.damage import EDITS, Edit, changed, fuzz

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]


@fuzz()
@given(data=st.sampled_from(CONFIGS), edits=EDITS, override=st.none() | st.text(max_size=30))
def test_a_configuration_is_read_or_refused(
    tmp_path: Path, data: bytes, edits: list[Edit], override: str | None
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(changed(data, edits))
    try:
        load_config(path, [] if override is None else [override])
    except RLCSError as error:
        assert "\n" not in str(error).strip()[:20] and str(error)


ROWS: list[dict[str, Any]] = [
    {"prompt": "What is 1 + 1?", "answer": "2", "domain": "sums", "tier": 0},
    {"prompt": "Was ist 2 + 3? \u00e4\u4e2d", "answer": "5", "domain": "sums", "tier": 4},
    {"prompt": [{"role": "user", "content": "Name a prime."}], "answer": "7", "domain": "primes", "tier": None},
] * 3


def jsonl() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def table(folder: Path) -> bytes:
    path = folder / "rows.parquet"
    text = [{**row, "prompt": str(row["prompt"])} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(text), path)
    return path.read_bytes()


def sheet(folder: Path) -> bytes:
    path = folder / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows([{**row, "prompt": str(row["prompt"])} for row in ROWS])
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@fuzz(1 / 3)
@given(edits=EDITS, on_bad_row=st.sampled_from(["error", "skip"]))
def test_a_dataset_is_read_or_refused(tmp_path: Path, suffix: str, edits: list[Edit], on_bad_row: Any) -> None:
    data = {"jsonl": lambda: jsonl(), "csv": lambda: sheet(tmp_path), "parquet": lambda: table(tmp_path)}[suffix]()
    path = tmp_path / f"changed.{suffix}"
    path.write_bytes(changed(data, edits))
    config = DataConfig(train=str(path), eval_fraction=0.2, on_bad_row=on_bad_row)
    try:
        splits = load_splits(config, seed=0)
    except RLCSError:
        return
    assert all(prompt.messages and isinstance(prompt.domain, str) for prompt in splits.train)


PIECES = ["<think>", "</think>", "<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>", "\\boxed{", "}", "{"]
PIECES += ["The final answer is ", "42", "\n", "\\", "\u0000", "\ud800"]


@fuzz()
@given(
    text=st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=40).map("".join),
    fallbacks=st.lists(st.sampled_from(list(Fallback)), max_size=2, unique=True),
    thinking=st.booleans(),
)
def test_an_answer_is_found_or_a_reason_why_not(text: str, fallbacks: list[Fallback], thinking: bool) -> None:
    found = extract_answer(text, ExtractOptions(fallbacks=tuple(fallbacks), thinking_is_open=thinking))
    assert isinstance(found, Extraction)
    assert found.answer is None or found.answer in text
