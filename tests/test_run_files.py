"""The files of a run outlive `kill -9`, are readable while written, and are compacted without losing or doubling a row."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import LoggingConfig
from rlcs.errors import CheckpointError
from rlcs.run_compaction import compact, cut_parts
from rlcs.run_files import LineReader, append_lines, read_lines, read_parquet, step_files, step_path, write_parquet
from rlcs.runlog import RunLog, read_draws, read_metrics, read_prompt_text
from rlcs.types import Group, Prompt

WRITER = """
import sys
from pathlib import Path
import numpy as np
import pyarrow.parquet  # before it says that it is ready
from rlcs.config import LoggingConfig
from rlcs.run_compaction import compact
from rlcs.runlog import RunLog
from rlcs.types import FinishReason, Group, Prompt, Response, Score

folder = Path(sys.argv[1])
(folder / "config.yaml").touch()
log = RunLog(folder, LoggingConfig(tensorboard=False), {})
prompt = Prompt(id="p", messages=[{"role": "user", "content": "Q"}], answer="1", domain="d", tier=2)
ids, logprobs, mask = np.asarray([1, 2], np.int32), np.zeros(2, np.float32), np.ones(2, bool)
def response(value):
    return Response(ids, logprobs, mask, "text " * 50, FinishReason.STOP, 0, Score(value, correct=value == 1))
print("ready", flush=True)
for step in range(int(sys.argv[2]), 100_000):
    log.write_rollouts(step, [Group(prompt, ids, [response(0.0), response(1.0)])], [0])
    log.flush()
    log.write_metrics(step, {"reward/mean": 0.5, "text/length": 1.0 * step})
    for name in ("rollouts", "curriculum"):
        compact(folder / name, files_a_part=5, kept_loose=3)
"""


def table(step: int, rows: int = 3) -> pa.Table:
    return pa.table({"step": [step] * rows, "prompt_id": [f"{step}-{row}" for row in range(rows)]})


def ids(folder: Path) -> list[str]:
    return [name for file in step_files(folder) for name in read_parquet(file.path)["prompt_id"].to_pylist()]


def test_a_run_that_is_killed_at_any_moment_stays_readable_and_can_go_on(tmp_path: Path) -> None:
    rng, step = random.Random(0), 1
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(step)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
            until, deadline = step + rng.randint(6, 15), time.monotonic() + 60
            while time.monotonic() < deadline:  # a reader beside it never meets a torn record
                if (tmp_path / "metrics.jsonl").exists() and len(read_metrics(tmp_path)) >= until:
                    break
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.03))
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        done = [line["step"] for line in read_metrics(tmp_path)] if (tmp_path / "metrics.jsonl").exists() else []
        assert done == list(range(1, len(done) + 1))
        if done:
            drawn = read_draws(tmp_path)["step"].to_pylist()
            assert drawn[: len(done)] == done and len(set(drawn)) == len(drawn)
        log = RunLog(tmp_path, LoggingConfig(tensorboard=False), {})
        log.rewind(len(done))
        assert not list((tmp_path / "rollouts").glob("*.tmp"))
        step = len(done) + 1
    assert step > 20
    assert read_draws(tmp_path)["step"].to_pylist() == list(range(1, step))


@given(cut=st.integers(0, 60))
def test_a_torn_line_is_dropped_before_the_next_is_appended(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    append_lines(path, [{"step": 1, "text": "é"}, {"step": 2, "text": "é" * 10}])
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    append_lines(path, [{"step": 3}])
    steps = [line["step"] for line in read_lines(path)]
    assert steps in ([1, 2, 3], [1, 3], [3])
    assert cut > 1 or steps == [1, 2, 3]  # without its end of line a record is still whole


def test_a_reader_follows_a_file_that_grows_is_torn_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste')
    reader = LineReader(path)
    assert reader.read_new() == [{"step": 1}]
    assert reader.is_torn
    path.open("a").write('p": 2}')
    assert reader.read_new() == [{"step": 2}]
    path.open("a").write('\nnonsense\n{"step": 3}\n')
    assert reader.read_new() == [{"step": 3}]
    assert [number for number, _ in reader.damaged] == [3]
    other = tmp_path / "other"
    other.write_text('{"step": 1}\n')
    other.replace(path)
    assert reader.read_new() == [{"step": 1}]
    assert reader.restarts == 1


ODD_LINES = {
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "half a pair": b'{"a": "\\ud800"}',
    "no UTF-8": b"\xff",
    "a list": b"[1]",
}


@pytest.mark.parametrize("line", ODD_LINES.values(), ids=ODD_LINES.keys())
def test_a_line_that_cannot_be_read_is_named_passed_over_or_cut_off(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2: damaged record") as caught:
        read_lines(path)
    assert "\n" not in str(caught.value)
    reader = LineReader(path)
    assert [record["step"] for record in reader.read_new()] == [1, 2] and reader.damaged[0][0] == 2
    path.write_bytes(b'{"step": 1}\n' + line)
    assert read_lines(path) == [{"step": 1}]
    append_lines(path, [{"step": 2}])
    assert read_lines(path) == [{"step": 1}, {"step": 2}]


def test_what_is_no_unicode_is_written_as_a_question_mark(tmp_path: Path) -> None:
    append_lines(tmp_path / "faults.jsonl", [{"reason": "no file \udcff"}])
    assert read_lines(tmp_path / "faults.jsonl") == [{"reason": "no file ?"}]


@pytest.mark.parametrize("step", ["null", '"1"', "-1", "true", "1.5", "1e400", str(10**30)])
def test_metrics_of_no_iteration_are_refused(tmp_path: Path, step: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": {step}, "reward/mean": 1}}\n')
    with pytest.raises(CheckpointError, match="has no iteration"):
        read_metrics(tmp_path)


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"schema": 99, "step": 1}\n')
    with pytest.raises(CheckpointError, match=r"schema 99.*upgrade rlcs"):
        read_metrics(tmp_path)
    file = tmp_path / "step-000001.parquet"
    write_parquet(table(1).replace_schema_metadata({}), file)
    import pyarrow.parquet as pq

    pq.write_table(table(1).replace_schema_metadata({"rlcs.schema": "99"}), file)
    with pytest.raises(CheckpointError, match=r"schema 99.*upgrade rlcs"):
        read_parquet(file)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    file = step_path(tmp_path, 1)
    file.write_bytes(b"PAR1 nonsense")
    with pytest.raises(CheckpointError, match=r"step-000001\.parquet cannot be read"):
        read_parquet(file)


def test_compaction_keeps_every_row_once_and_in_order(tmp_path: Path) -> None:
    for step in range(1, 24):
        write_parquet(table(step), step_path(tmp_path, step))
    before = ids(tmp_path)
    assert compact(tmp_path, files_a_part=10, kept_loose=2) == 2
    assert len(list(tmp_path.iterdir())) == 5
    assert ids(tmp_path) == before


def test_files_whose_rows_a_part_has_too_are_not_counted(tmp_path: Path) -> None:
    for step in range(1, 5):
        write_parquet(table(step), step_path(tmp_path, step))
    before, copies = ids(tmp_path), {path: path.read_bytes() for path in tmp_path.iterdir()}
    compact(tmp_path, files_a_part=3, kept_loose=0)
    for path, data in copies.items():  # as if killed before they were removed
        path.write_bytes(data)
    assert ids(tmp_path) == before


def test_rewinding_into_a_part_keeps_its_beginning(tmp_path: Path) -> None:
    for step in range(1, 9):
        write_parquet(table(step), step_path(tmp_path, step))
    compact(tmp_path, files_a_part=6, kept_loose=0)
    cut_parts(tmp_path, 4)
    assert {name.split("-")[0] for name in ids(tmp_path)} == {"1", "2", "3", "4"}
    write_parquet(table(5), step_path(tmp_path, 5))
    assert ids(tmp_path)[-1] == "5-2"


def test_a_prompt_is_found_after_its_iteration_was_compacted(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    for step in range(1, 4):
        data = table(step).append_column("prompt", pa.array([f"text {step} {row}" for row in range(3)]))
        write_parquet(data, step_path(folder, step))
    compact(folder, files_a_part=3, kept_loose=0)
    assert read_prompt_text(tmp_path, "2-1", 2) == "text 2 1"
    assert read_prompt_text(tmp_path, "2-1", 3) is None


def test_tokens_are_kept_for_the_first_groups_only(tmp_path: Path) -> None:
    import numpy as np

    from rlcs.types import FinishReason, Response, Score

    def group(name: str) -> Group:
        tokens = np.asarray([4, 5, 6], dtype=np.int32)
        chosen = np.asarray([True, False, True])
        response = Response(tokens, np.full(3, -0.5, np.float32), chosen, "x", FinishReason.STOP, 0, Score(1.0))
        return Group(Prompt(name, [{"role": "user", "content": "?"}], "1"), tokens, [response])

    log = RunLog(tmp_path, LoggingConfig(tensorboard=False, token_groups=1), {})
    log.write_rollouts(1, [group("a"), group("b")], [0])
    log.flush()
    rows = read_parquet(tmp_path / "rollouts" / "step-000001.parquet").to_pylist()
    assert rows[0]["token_ids"] == [4, 5, 6] and rows[0]["loss_mask"] == [True, False, True]
    assert rows[0]["logprobs"] == [-0.5] * 3
    assert rows[1]["token_ids"] is None
