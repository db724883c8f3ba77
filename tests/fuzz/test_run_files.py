"""Whatever is in a file of a run or a checkpoint, its reader gives what it read or one clear error; see test_readers.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlcs.checkpoint import Progress, find_damage, latest_checkpoint, load_progress, save_checkpoint
from rlcs.errors import RLCSError
from rlcs.run_files import append_lines, step_path, write_parquet
from rlcs.run_tables import draws_table
from rlcs.runlog import read_draws, read_evaluations, read_metrics
from rlcs.types import FinishReason, Group, Prompt, Response, Score
from tests.fuzz.damage import EDITS, Edit, changed, fuzz


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
@fuzz(1 / 3)
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


@fuzz()
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
