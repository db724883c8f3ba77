"""Whatever is in a file of a run or a checkpoint, its reader gives what it read or one clear error; see test_readers.py."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from rlcs.checkpoint import Progress, find_damage, latest_checkpoint, load_progress, save_checkpoint
from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, Observation, PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.errors import CheckpointError, RLCSError
from rlcs.learner.snapshot import Copies
from rlcs.learner.state import capture_state, load_state
from rlcs.leftovers import LeftoverGroups
from rlcs.recovery import load_states
from rlcs.rollout.work import LengthEstimator
from rlcs.run_files import append_lines, step_path, write_parquet
from rlcs.run_tables import draws_table
from rlcs.runlog import read_draws, read_evaluations, read_metrics
from rlcs.types import FinishReason, Group, Prompt, Response, Score
from tests.fuzz.damage import EDITS, JSON_EDITS, Edit, JSONEdit, changed, damage, fuzz


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
@fuzz(1 / 6)
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


@fuzz(1 / 2)
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


PROMPTS = [Prompt(str(i), [{"role": "user", "content": f"{i}?"}], str(i), "ab"[i % 2], i % 5) for i in range(20)]
TABLE = PromptTable.of(PROMPTS)


def learner() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


@pytest.fixture(scope="module", params=["rlcs", "posterior"])
def resumable_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint that holds all that a trainer loads, after two draws and an update."""
    run_dir = tmp_path_factory.mktemp("fuzz") / "run"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("name: run\n")
    curriculum = load_curriculum(request.param, TABLE, CurriculumConfig(kind=request.param), seed=1)
    for _ in range(2):
        rows = curriculum.draw(4)
        rates = np.resize([0.0, 0.5, 1.0], len(rows))
        curriculum.observe(Observation(rows, rates, (rates == 0) | (rates == 1), np.full(len(rows), 4)))
    leftovers, lengths = LeftoverGroups(3), LengthEstimator(20)
    groups = [
        Group(prompt, np.arange(2, dtype=np.int32), [response(0.0), response(1.0)], 0.5) for prompt in PROMPTS[:2]
    ]
    leftovers.keep(groups, np.asarray([0]), most=4)
    lengths.observe(PROMPTS[0], np.asarray([3, 5]))
    model, optimizer = learner()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    states = {
        "curriculum": curriculum.state_dict(),
        "leftovers": leftovers.state_dict(),
        "rollouts": lengths.state_dict(),
    }
    write = capture_state(model, optimizer, {"updates": 2}, Copies(keep=True, copy=False)).write
    save_checkpoint(run_dir, Progress(2, 20, 1.5), states, fill, write, keep_last=2)
    (run_dir / "kind.txt").write_text(request.param)
    resume(run_dir)
    return run_dir


def resume(run_dir: Path) -> Curriculum:
    """Load what a trainer loads, and its learner."""
    kind, found = (run_dir / "kind.txt").read_text(), latest_checkpoint(run_dir)
    curriculum = load_curriculum(kind, TABLE, CurriculumConfig(kind=kind), seed=1)
    load_progress(found)
    load_states(found, curriculum, LeftoverGroups(3), LengthEstimator(20), PROMPTS)
    load_state(found / "learner", *learner())
    return curriculum


@fuzz(1 / 4)
@given(edits=EDITS, json_edits=JSON_EDITS | st.none(), which=st.floats(0, 1, exclude_max=True))
def test_a_forged_checkpoint_is_loaded_or_refused(
    tmp_path: Path, resumable_run: Path, edits: list[Edit], json_edits: list[JSONEdit] | None, which: float
) -> None:
    """Its checksums fit what was changed, so that only what the files hold can tell."""
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(resumable_run, folder)
    checkpoint = folder / "checkpoints" / "step-000002"
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != "manifest.json")
    path = files[int(which * len(files))]
    damage(path, edits, json_edits)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["sha256"][str(path.relative_to(checkpoint))] = hashlib.sha256(path.read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    try:
        curriculum = resume(folder)
    except CheckpointError as error:
        assert "\n" not in str(error).strip()
        return
    for _ in range(2):
        rows = curriculum.draw(4)
        rates = np.resize([0.0, 0.5, 1.0], len(rows))
        degenerate = (rates == 0) | (rates == 1)
        curriculum.select(rates, degenerate, 4)
        curriculum.observe(Observation(rows, rates, degenerate, np.full(len(rows), 4)))
