"""Whatever is in a file, a reader gives what it read or one clear error: never another exception.

Whole files are changed at random places, which goes deeper than random bytes. RLCS_FUZZ_EXAMPLES sets how many a test tries;
`make fuzz` tries many.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlcs.checkpoint import Progress, find_damage, latest_checkpoint, load_progress, save_checkpoint
from rlcs.config import DataConfig
from rlcs.config_loading import load_config
from rlcs.data import load_splits
from rlcs.errors import RLCSError
from rlcs.rewards.extract import Extraction, ExtractOptions, Fallback, extract_answer
from rlcs.run_files import append_lines, step_path, write_parquet
from rlcs.run_tables import draws_table
from rlcs.runlog import read_draws, read_evaluations, read_metrics
from rlcs.types import FinishReason, Group, Prompt, Response, Score

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = int(os.environ.get("RLCS_FUZZ_EXAMPLES", "150"))
fuzz = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

Edit = tuple[str, float, float, bytes]
BITS = [b"\x00", b"\xff", b'"', b"\n", b"{", b"}", b"[", b"]", b":", b": ", b"- ", b"null", b"nan", b"1e999", b"-1"]
BITS += [b"!!python/object:os.system", b"&a", b"*a", b"\xed\xa0\x80"]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]),
        st.floats(0, 1),
        st.floats(0, 0.2),
        st.one_of(st.sampled_from(BITS), st.binary(max_size=12)),
    ),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, edits: list[Edit]) -> bytes:
    """`data` with parts of it replaced, dropped or doubled; places and lengths are shares of its length."""
    for kind, place, length, new in edits:
        start = int(place * len(data))
        end = start + int(length * len(data) * 0.2) + 1
        if kind == "replace":
            data = data[:start] + new + data[start + len(new) :]
        elif kind == "insert":
            data = data[:start] + new + data[start:]
        elif kind == "delete":
            data = data[:start] + data[end:]
        elif kind == "repeat":
            data = data[:end] + data[start:end] + data[end:]
        else:
            data = data[:start]
    return data


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


CONFIGS = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]


@fuzz
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
@fuzz
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


@fuzz
@given(
    text=st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=40).map("".join),
    fallbacks=st.lists(st.sampled_from(list(Fallback)), max_size=2, unique=True),
    thinking=st.booleans(),
)
def test_an_answer_is_found_or_a_reason_why_not(text: str, fallbacks: list[Fallback], thinking: bool) -> None:
    found = extract_answer(text, ExtractOptions(fallbacks=tuple(fallbacks), thinking_is_open=thinking))
    assert isinstance(found, Extraction)
    assert found.answer is None or found.answer in text


def response(value: float) -> Response:
    ids = np.arange(3, dtype=np.int32)
    made = Response(ids, np.zeros(3, np.float32), np.ones(3, np.bool_), "<think>a</think>", FinishReason.STOP, 0)
    made.reward = Score(value=value, correct=value == 1, parts={"math": value}, detail="")
    return made


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two iterations as a run writes them, with a checkpoint."""
    run_dir = tmp_path_factory.mktemp("fuzz") / "run"
    (run_dir / "curriculum").mkdir(parents=True)
    (run_dir / "config.yaml").write_text("name: run\n")
    row = {"schema": 2, "step": 1, "domain": "sums", "tier": 0, "num_prompts": 2, "num_samples": 4, "k": 4}
    rates = {"pass_at_1": 0.5, "pass_at_k": 0.8, "mean_reward": 0.5, "parsed": 1.0}
    for step in (1, 2):
        append_lines(run_dir / "metrics.jsonl", [{"schema": 2, "step": step, "reward/mean": 0.5, "time/total": 1.0}])
        append_lines(run_dir / "evaluations.jsonl", [row | rates | {"step": step}])
        groups = [
            Group(Prompt(str(i), [], "", domain="sums"), np.arange(2, dtype=np.int32), [response(0.0), response(1.0)])
            for i in range(3)
        ]
        write_parquet(draws_table(step, groups, {0}), step_path(run_dir / "curriculum", step))

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"weights")

    save_checkpoint(
        run_dir, Progress(2, 20, 1.5), {"curriculum": {"seen": np.arange(4), "seed": 1}}, fill, fill, keep_last=2
    )
    return run_dir


READERS: dict[str, Callable[[Path], Any]] = {
    "metrics.jsonl": read_metrics,
    "evaluations.jsonl": read_evaluations,
    "curriculum/step-000001.parquet": read_draws,
}


@pytest.mark.parametrize("name", list(READERS))
@fuzz
@given(edits=EDITS)
@example(edits=[("replace", 0.0, 0.0, b"\x00"), ("replace", 0.296875, 0.0, b"\x80")])
def test_a_runs_file_is_read_or_named(tmp_path: Path, whole_run: Path, name: str, edits: list[Edit]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder, dirs_exist_ok=True)
    path = folder / name
    path.write_bytes(changed(path.read_bytes(), edits))
    try:
        READERS[name](folder)
    except RLCSError as error:
        assert path.name in str(error)


@fuzz
@given(edits=EDITS, which=st.floats(0, 1, exclude_max=True))
def test_a_changed_checkpoint_is_never_taken_for_a_whole_one(
    tmp_path: Path, whole_run: Path, edits: list[Edit], which: float
) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole_run, folder)
    checkpoint = latest_checkpoint(folder)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    path = files[int(which * len(files))]
    before = path.read_bytes()
    path.write_bytes(changed(before, edits))
    if path.read_bytes() == before:
        assert find_damage(checkpoint) is None
    elif path.name != "manifest.json":
        assert path.name in str(find_damage(checkpoint))
    elif find_damage(checkpoint) is None:  # what the manifest says is the same: a blank more or less
        assert latest_checkpoint(folder) == checkpoint and load_progress(checkpoint) == Progress(2, 20, 1.5)
    else:
        with pytest.raises(RLCSError, match="no whole checkpoint"):
            latest_checkpoint(folder)
