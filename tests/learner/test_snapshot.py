"""A snapshot is the learner as of its moment, however long it takes to be written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcs.config import LearnerConfig, ModelConfig
from rlcs.learner.learner import Learner
from rlcs.learner.snapshot import Copies, Piece, Snapshot, Writing, nothing
from rlcs.types import Batch

MakeBatch = Callable[..., Batch]
CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "muon": {"optimizer": "muon"},
    "lora": {"model": {"lora": {"r": 4}}},
    "critic": {"advantage_estimator": "gae"},
    "shared critic": {"advantage_estimator": "gae", "critic": "shared"},
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_a_snapshot_does_not_see_the_updates_after_it(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path, case: str
) -> None:
    settings = dict(CASES[case])
    dtype, model = settings.pop("dtype", "float32"), settings.pop("model", None)
    learner = Learner(
        str(policy_folder),
        LearnerConfig(threads=1, **settings),
        dtype=dtype,
        model=ModelConfig(path=str(policy_folder), **model) if model else None,
    )
    batch = make_random_batch(seed=1)
    rewards = np.arange(batch.num_sequences) % 2.0
    learner.update(batch, num_groups=3, rewards=rewards)
    learner.save_policy(tmp_path / "now" / "policy")
    learner.save_state(tmp_path / "now" / "learner")
    snapshot = learner.snapshot()
    learner.update(batch, num_groups=3, rewards=rewards)
    snapshot.write(tmp_path / "later")
    now, later = files(tmp_path / "now"), files(tmp_path / "later")
    assert now.keys() == later.keys()
    assert [name for name in now if now[name] != later[name]] == []
    written = sum(len(data) for name, data in later.items() if name.endswith(".safetensors"))
    assert snapshot.num_bytes == pytest.approx(written, rel=0.1, abs=20_000)
    learner.save_state(tmp_path / "then")
    assert files(tmp_path / "then")["weights.safetensors"] != later["learner/weights.safetensors"]


def test_a_tensor_is_copied_once() -> None:
    weight = torch.arange(4.0)
    copies = Copies(keep=True, copy=True)
    copy = copies.of(weight)
    assert copies.of(weight.detach()) is copy and copies.of(weight.view(2, 2)) is not copy
    weight[0] = 100
    assert copy.tolist() == [0, 1, 2, 3]
    assert Copies(keep=True, copy=False).of(weight).data_ptr() == weight.data_ptr()


def test_what_a_writer_raises_is_told(tmp_path: Path) -> None:
    go_on = threading.Event()

    def fail(folder: Path) -> None:
        go_on.wait()
        raise OSError(28, "No space left on device")

    writing = Writing(Snapshot(Piece(1, nothing), (Piece(1, fail),)), tmp_path)
    assert not writing.state.is_done
    go_on.set()
    deadline = time.monotonic() + 10
    while not (state := writing.state).is_done and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state.error is not None and "No space left" in state.error
