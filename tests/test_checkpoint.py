"""Checkpoints are whole or absent, and damaged ones are passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlcs.checkpoint import (
    Progress,
    find_damage,
    latest_checkpoint,
    list_checkpoints,
    load_arrays,
    load_progress,
    save_checkpoint,
)
from rlcs.errors import CheckpointError


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights")


def save(run_dir: Path, step: int, keep_last: int = 5) -> Path:
    run_dir.joinpath("config.yaml").write_text("")
    state = {"weights": np.arange(3) + step, "flags": np.asarray([True, False]), "seed": 2**100, "name": "x"}
    return save_checkpoint(
        run_dir, Progress(step, 10 * step, 1.5), {"curriculum": state}, fill, fill, keep_last=keep_last
    )


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    folder = save(tmp_path, 4)
    assert find_damage(folder) is None
    assert latest_checkpoint(tmp_path) == folder
    assert load_progress(folder) == Progress(4, 40, 1.5)
    state = load_arrays(folder / "curriculum")
    assert state["seed"] == 2**100
    np.testing.assert_array_equal(state["weights"], [4, 5, 6])
    np.testing.assert_array_equal(state["flags"], [True, False])


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save(tmp_path, step, keep_last=2)
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step-000002", "step-000010"]


@pytest.mark.parametrize("name", ["policy/weights.bin", "curriculum.safetensors", "manifest.json", "state.json"])
def test_a_damaged_checkpoint_is_named_and_passed_over(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    (bad / name).write_bytes(b"{}")
    assert latest_checkpoint(tmp_path) == good
    assert "step-000002" in caplog.text


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    (folder / "learner" / "weights.bin").unlink()
    damage = find_damage(folder)
    assert damage is not None and "learner/weights.bin is missing" in damage
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        latest_checkpoint(tmp_path)


def test_a_failed_save_leaves_the_old_checkpoints(tmp_path: Path) -> None:
    good = save(tmp_path, 1)

    def fail(folder: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, Progress(2), {}, fill, fail, keep_last=1)
    assert latest_checkpoint(tmp_path) == good
    assert list_checkpoints(tmp_path) == [good]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run's folder"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        '{"format": 1}',
        '{"format": 1, "sha256": []}',
        '{"format": 1, "sha256": "x"}',
        '{"format": 1, "sha256": {}}',
        '{"format": 1, "sha256": {"../../config.yaml": null}}',
        '{"format": 1, "sha256": {"\\u0000": "x"}}',
        "[" * 200_000,
    ],
)
def test_a_manifest_that_says_nothing_makes_no_checkpoint(tmp_path: Path, manifest: str) -> None:
    folder = save(tmp_path, 1)
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"step": "a"}', '{"step": null}', "[" * 200_000])
def test_counters_that_somebody_changed_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    folder = save(tmp_path, 1)
    (folder / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"state\.json is not what this version of RLCS wrote") as caught:
        load_progress(folder)
    assert "\n" not in str(caught.value)


def test_a_state_that_somebody_changed_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    for name, content in (("curriculum.json", b"[1]"), ("curriculum.safetensors", b"\x00" * 20)):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as caught:
            load_arrays(folder / "curriculum")
        assert "\n" not in str(caught.value)
        (folder / name).write_bytes(before)
