"""Checkpoints beside the loop: what is kept, what happens when the disk is full, and copies in other storage."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rlcs.checkpoint import (
    Progress,
    check_room,
    find_damage,
    is_disk_full,
    latest_checkpoint,
    list_checkpoints,
    load_arrays,
    load_part,
    save_checkpoint,
    to_keep,
)
from rlcs.config import Config, TrainConfig
from rlcs.errors import CheckpointError, EngineError
from rlcs.learner.snapshot import WritingState
from rlcs.recovery import set_aside_before
from rlcs.remote_checkpoints import RemoteRun, fetch_newer, fetch_run, publisher
from rlcs.run_files import append_lines
from rlcs.saving import CheckpointSaver


class FileLearner:
    """A learner whose state is a few bytes, written in a thread when it is told to go on."""

    def __init__(self, num_bytes: int = 1000) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.num_bytes = num_bytes
        self.lost = False
        self._thread: threading.Thread | None = None
        self._error: str | None = None

    def begin_save(self, folder: Path, *, background: bool) -> None:
        self._error = None
        if self.lost:  # a dead process writes nothing, least of all into the next checkpoint's time
            return
        self._thread = threading.Thread(target=self._write, args=(folder,))
        self._thread.start()
        if not background:
            self._thread.join()

    def saving(self) -> WritingState:
        if self.lost:
            raise EngineError("an actor died")
        assert self._thread is not None
        return WritingState(not self._thread.is_alive(), self._error)

    def _write(self, folder: Path) -> None:
        self.go_on.wait()
        try:
            for name in ("policy", "learner"):
                (folder / name).mkdir()
                (folder / name / "weights.safetensors").write_bytes(b"x" * self.num_bytes)
        except OSError as error:
            self._error = f"OSError: {error}"


Scores = dict[int, tuple[float, ...]]


def make_saver(run_dir: Path, learner: FileLearner, scores: Scores | None = None, **train: object) -> CheckpointSaver:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").touch()
    config = TrainConfig.model_validate({"keep_last": 2, **train})
    return CheckpointSaver(run_dir, config, learner, scores=lambda: scores or {})


PARTS = {"curriculum": {"weights": np.arange(4), "seed": 3}}


def test_the_loop_goes_on_while_a_checkpoint_of_the_moment_is_written(tmp_path: Path) -> None:
    learner = FileLearner()
    saver = make_saver(tmp_path, learner)
    learner.go_on.clear()
    progress, weights = Progress(2, 20, 1.0), np.arange(4)
    saver.save(progress, {"curriculum": {"weights": weights}})
    progress.step, weights[0] = 3, 100
    saver.check()
    assert not list_checkpoints(tmp_path)
    learner.go_on.set()
    saver.finish()
    (folder,) = list_checkpoints(tmp_path)
    assert folder.name == "step-000002" and find_damage(folder) is None
    assert load_arrays(folder / "curriculum")["weights"].tolist() == [0, 1, 2, 3]
    metrics = saver.metrics()
    assert metrics["checkpoint/stall_s"] > 0 and metrics["checkpoint/write_s"] > 0
    assert saver.metrics() == {"checkpoint/stall_s": 0.0, "checkpoint/write_s": 0.0}


def test_a_second_save_waits_for_the_first(tmp_path: Path) -> None:
    learner = FileLearner()
    saver = make_saver(tmp_path, learner)
    learner.go_on.clear()
    saver.save(Progress(1), PARTS)
    threading.Timer(0.3, learner.go_on.set).start()
    saver.save(Progress(2), PARTS)
    assert list_checkpoints(tmp_path)[0].name == "step-000001"
    saver.finish()
    assert len(list_checkpoints(tmp_path)) == 2


def test_without_background_save_the_checkpoint_is_there_at_once(tmp_path: Path) -> None:
    make_saver(tmp_path, FileLearner(), background_save=False).save(Progress(1), PARTS)
    assert find_damage(latest_checkpoint(tmp_path)) is None


def test_an_error_while_writing_is_raised_at_the_next_check_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = make_saver(tmp_path, FileLearner())
    saver.save(Progress(1), PARTS)
    saver.finish()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rlcs.saving.complete_checkpoint", full)
    saver.save(Progress(2), PARTS)
    deadline = time.monotonic() + 10
    with pytest.raises(CheckpointError) as caught:
        while time.monotonic() < deadline:
            saver.check()
            time.sleep(0.01)
    line = str(caught.value)
    assert "iteration 2" in line and "No space left" in line and "step-000001 is the last whole one" in line
    assert "make room" in line and f"rlcs train --resume {tmp_path}" in line and "\n" not in line
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_a_checkpoint_whose_learner_is_lost_is_dropped_without_ending_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = FileLearner()
    saver = make_saver(tmp_path, learner)
    learner.lost = True
    saver.save(Progress(1), PARTS)
    saver.finish()
    assert not list((tmp_path / "checkpoints").iterdir()) and "lost with its learner" in caplog.text
    learner.lost = False
    saver.save(Progress(2), PARTS)
    saver.finish()
    assert len(list_checkpoints(tmp_path)) == 1


def test_a_checkpoint_that_is_given_up_never_appears(tmp_path: Path) -> None:
    learner = FileLearner()
    saver = make_saver(tmp_path, learner)
    learner.go_on.clear()
    saver.save(Progress(1), PARTS)
    saver.finish(timeout_s=0.05)
    learner.go_on.set()
    deadline = time.monotonic() + 10
    while any((tmp_path / "checkpoints").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_the_best_checkpoint_stays_though_it_is_old(tmp_path: Path) -> None:
    scores: Scores = {}
    saver = make_saver(tmp_path, FileLearner(), scores, keep_last=2, keep_best=1)
    saver = CheckpointSaver(tmp_path, TrainConfig(keep_last=2, keep_best=1), FileLearner(), scores=lambda: scores)
    for step, score in [(2, (0.4, 0.1)), (4, (0.6, 0.2)), (6, (0.6, 0.1)), (8, (0.5, 0.3)), (10, (0.5, 0.3))]:
        saver.save(Progress(step), PARTS)
        saver.finish()
        scores[step] = score
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step-000004", "step-000008", "step-000010"]


def test_of_equal_scores_the_later_checkpoint_stays() -> None:
    assert to_keep([4, 1, 2, 3], 1, 1, {1: (0.5,), 2: (0.5,), 3: (0.1,), 9: (1.0,)}) == {2, 4}
    assert to_keep([1, 2, 4], 1, 0, {1: (0.5,)}) == {4}


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")


FILES = [
    "policy/weights.safetensors",
    "policy/config.json",
    "learner/weights.safetensors",
    "learner/config.json",
    "curriculum.safetensors",
    "curriculum.json",
    "rollouts.safetensors",
    "rollouts.json",
    "state.json",
    "manifest.json",
]


@pytest.mark.parametrize("way", ["removed", "emptied", "cut", "changed"])
@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_newest_checkpoint_may_be_damaged(
    tmp_path: Path, name: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.yaml").touch()
    parts = {**PARTS, "rollouts": {"lengths": []}}
    good, bad = (save_checkpoint(tmp_path, Progress(step), parts, fill, fill, keep_last=5) for step in (1, 2))
    assert sorted(str(path.relative_to(bad)) for path in bad.rglob("*") if path.is_file()) == sorted(FILES)
    path = bad / name
    data = path.read_bytes()
    if way == "removed":
        path.unlink()
    else:
        changed = bytes([data[0] ^ 1]) + data[1:]
        path.write_bytes({"emptied": b"", "cut": data[:-1], "changed": changed}[way])
    assert latest_checkpoint(tmp_path) == good
    assert "step-000002 is passed over" in caplog.text and name.rpartition("/")[2] in caplog.text


def test_a_part_that_older_checkpoints_lack_is_none(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, Progress(1), PARTS, fill, fill, keep_last=1)
    assert load_part(folder, "rollouts") is None
    assert load_part(folder, "curriculum") is not None


def test_room_is_looked_for_before_anything_is_written(tmp_path: Path) -> None:
    check_room(tmp_path, 1000)
    with pytest.raises(CheckpointError, match="takes 1.02e\\+03 GiB, and the disk is full but for"):
        check_room(tmp_path, shutil.disk_usage(tmp_path).free * 0 + 2**40)


def test_a_full_disk_is_told_from_other_errors() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_disk_full("SafetensorError: I/O error: No space left on device (os error 28)")
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(small_disk: Path) -> None:
    learner = FileLearner(num_bytes=300_000)
    saver = make_saver(small_disk, learner, keep_last=3)
    with pytest.raises(CheckpointError, match="No space left") as caught:
        for step in range(1, 9):
            saver.save(Progress(step), PARTS)
            saver.finish()
    assert "step-000003 is the last whole one" in str(caught.value)
    assert latest_checkpoint(small_disk).name == "step-000003"
    assert not list((small_disk / "checkpoints").glob(".*"))
    learner.num_bytes = 1000  # there is room for that again
    saver.save(Progress(4), PARTS)
    saver.finish()
    assert latest_checkpoint(small_disk).name == "step-000004"


# Copies in other storage


def make_config(folder: Path, url: str, name: str = "mine") -> Config:
    tree = {
        "name": name,
        "output_dir": str(folder),
        "model": {"path": "x"},
        "data": {"train": "x.jsonl"},
        "train": {"checkpoint_url": url, "keep_last": 2},
    }
    return Config.model_validate_json(json.dumps(tree))


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}/runs" if request.param == "memory" else f"file://{tmp_path}/elsewhere/runs"


def made_run(config: Config, steps: range) -> Path:
    from rlcs.config_loading import dump_config

    run_dir = config.run_dir
    (run_dir / "policy-init").mkdir(parents=True)
    (run_dir / "policy-init" / "config.json").write_text("{}")
    (run_dir / "config.yaml").write_text(dump_config(config))
    (run_dir / "metrics.jsonl").write_text('{"step": 1}\n')
    publish = publisher(config, run_dir)
    saver = CheckpointSaver(run_dir, config.train, FileLearner(), scores=dict, publish=publish)
    for step in steps:
        saver.save(Progress(step), PARTS)
        saver.finish()
    return run_dir


def test_a_fresh_machine_gets_the_newest_whole_copy(tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(tmp_path / "runs", url)
    run_dir = made_run(config, range(1, 5))
    remote = RemoteRun(f"{url}/mine")
    assert remote._checkpoints() == ["step-000003", "step-000004"]
    original = {path.relative_to(run_dir): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    shutil.rmtree(run_dir)
    fetched = fetch_run(f"{url}/mine", lambda line: None)
    assert fetched == run_dir and latest_checkpoint(fetched).name == "step-000004"
    newest = {name: data for name, data in original.items() if "step-000003" not in str(name)}
    assert {path.relative_to(run_dir): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == newest

    # A copy without its manifest is not whole yet, and one that is damaged is named and passed over.
    storage = remote._storage
    shutil.rmtree(run_dir)
    storage.rm_file(remote._path("checkpoints", "step-000004", "manifest.json"))
    assert latest_checkpoint(fetch_run(f"{url}/mine", lambda line: None)).name == "step-000003"
    shutil.rmtree(run_dir)
    storage.pipe_file(remote._path("checkpoints", "step-000003", "curriculum.json"), b"{}")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        fetch_run(f"{url}/mine", lambda line: None)
    assert "step-000003 is passed over: curriculum.json is damaged" in caplog.text


def test_a_fresh_machine_knows_which_prompts_were_set_aside(tmp_path: Path, url: str) -> None:
    config = make_config(tmp_path / "runs", url)
    config.run_dir.mkdir(parents=True)
    aside = {"kind": "poison_prompts", "who": "prompt 0123", "reason": "engines failed over it"}
    append_lines(config.run_dir / "faults.jsonl", [aside])
    run_dir = made_run(config, [1])
    shutil.rmtree(run_dir)
    assert set_aside_before(fetch_run(f"{url}/mine", lambda line: None)) == {"0123": "engines failed over it"}


def test_a_run_fetches_what_is_newer_than_its_own(tmp_path: Path, url: str) -> None:
    config = make_config(tmp_path / "runs", url)
    run_dir = made_run(config, range(1, 4))
    fetch_newer(config, run_dir, lambda line: pytest.fail(line))  # nothing is
    shutil.rmtree(run_dir / "checkpoints" / "step-000003")
    told: list[str] = []
    fetch_newer(config, run_dir, told.append)
    assert latest_checkpoint(run_dir).name == "step-000003" and "step-000003" in told[0]


def test_a_copy_that_failed_is_made_up_for(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path / "runs", url)
    run_dir = made_run(config, range(1, 2))
    remote = RemoteRun(f"{url}/mine")
    storage = type(remote._storage)
    saver = CheckpointSaver(run_dir, config.train, FileLearner(), scores=dict, publish=publisher(config, run_dir))
    with monkeypatch.context() as patched:
        patched.setattr(storage, "put_file", lambda *args, **kwargs: (_ for _ in ()).throw(TimeoutError("no network")))
        saver.save(Progress(2), PARTS)
        saver.finish()
    assert "no network" in caplog.text and not remote._is_whole("step-000002")
    saver.save(Progress(3), PARTS)
    saver.finish()
    assert remote._is_whole("step-000002") and remote._is_whole("step-000003")
    assert remote._checkpoints() == ["step-000002", "step-000003"]


def test_the_best_copy_stays_though_a_fresh_machine_has_only_the_newest(tmp_path: Path, url: str) -> None:
    config = make_config(tmp_path / "runs", url)
    scores: Scores = {1: (0.9,), 4: (0.1,)}
    run_dir = made_run(config, range(1, 2))
    remote = RemoteRun(f"{url}/mine")

    def go_on(steps: range) -> CheckpointSaver:
        saver = CheckpointSaver(
            run_dir, config.train, FileLearner(), scores=lambda: scores, publish=publisher(config, run_dir)
        )
        for step in steps:
            saver.save(Progress(step), PARTS)
            saver.finish()
        return saver

    go_on(range(2, 6))
    assert remote._checkpoints() == ["step-000001", "step-000004", "step-000005"]
    shutil.rmtree(run_dir)
    fetch_run(f"{url}/mine", lambda line: None)
    assert [folder.name for folder in list_checkpoints(run_dir)] == ["step-000005"]
    saver = go_on(range(6, 7))
    assert remote._checkpoints() == ["step-000001", "step-000005", "step-000006"]

    shutil.rmtree(run_dir / "checkpoints" / "step-000006")  # the run was rolled back
    saver.publish()
    assert remote._checkpoints() == ["step-000001", "step-000005"]


def test_storage_that_cannot_be_written_to_is_told_in_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in (f"file://{tmp_path}/file/runs", "nonsense://bucket/runs"):
        config = make_config(tmp_path / "runs", url)
        config.run_dir.mkdir(parents=True, exist_ok=True)
        (config.run_dir / "config.yaml").touch()
        with pytest.raises(CheckpointError) as caught:
            publisher(config, config.run_dir)
        assert url in str(caught.value) and "\n" not in str(caught.value)


def test_an_url_may_hold_no_password() -> None:
    make_config(Path("runs"), "abfss://container@account.dfs.core.windows.net/runs")
    for url in ("ftp://me:secret@host/runs", "bucket/runs"):
        with pytest.raises(ValueError, match="checkpoint_url"):
            make_config(Path("runs"), url)


def test_names_in_storage_cannot_lead_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteRun(f"memory://{tmp_path.name}-evil/mine")
    root = remote._path("policy-init")
    monkeypatch.setattr(remote._storage, "find", lambda path: [f"{root}/../../../outside"])
    with pytest.raises(CheckpointError, match="leads out"):
        remote._get_folder(("policy-init",), tmp_path / "run" / "policy-init")
    assert not (tmp_path / "outside").exists()
