"""Whatever is in a run's folder, its pages and commands show what can be read or say what cannot; see test_readers.py."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from starlette.testclient import TestClient

from rlcs.checkpoint import Progress, save_checkpoint
from rlcs.config import HealthConfig
from rlcs.curriculum_commands.show import show_curriculum
from rlcs.dashboard.pages import PAGES
from rlcs.dashboard.report import write_report
from rlcs.dashboard.server import create_app
from rlcs.dashboard.terminal import show_status
from rlcs.errors import RLCSError
from rlcs.health import HealthWatch
from rlcs.recovery import set_aside_before
from rlcs.runlog import read_actors, read_metrics
from tests.dashboard.conftest import write_run
from tests.fuzz.damage import EDITS, JSON_EDITS, Edit, JSONEdit, damage, fuzz


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four iterations that has everything a run can have."""
    run_dir = write_run(tmp_path_factory.mktemp("fuzz") / "whole", 4)

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"weights")

    state = {"curriculum": {"seen": np.arange(4), "seed": 1}}
    save_checkpoint(run_dir, Progress(4, 20, 1.5), state, fill, fill, keep_last=2)
    (run_dir / "summary.json").write_text(json.dumps({"seconds": 1.5, "steps": 4, "accuracy": 0.5}))
    assert read_actors(run_dir) is not None and set_aside_before(run_dir) == {}
    return run_dir


def pages(run_dir: Path) -> None:
    """All of them answer, without an error of the server; the client raises what the server did not expect."""
    with TestClient(create_app(run_dir.parent), base_url="http://127.0.0.1") as site:
        for address in ("/", "/compare?run=run", *(f"/runs/run/{page}" for page, _ in PAGES)):
            assert site.get(address).status_code in (200, 404)


def status(run_dir: Path) -> None:
    show_status(run_dir, watch=False, console=Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8")))


def report(run_dir: Path) -> None:
    write_report([run_dir], run_dir.parent / "report.html")


def curriculum(run_dir: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        show_curriculum(run_dir, as_json=False)
        show_curriculum(run_dir, as_json=False, prompt=f"{0:016x}")


def go_on(run_dir: Path) -> None:
    """What a resumed run reads of its past, but for its checkpoint."""
    set_aside_before(run_dir)
    HealthWatch(HealthConfig()).replay(read_metrics(run_dir))


VIEWS: list[Callable[[Path], None]] = [pages, status, report, curriculum, go_on]


@fuzz(1 / 2)
@given(
    which=st.floats(0, 1, exclude_max=True),
    edits=EDITS,
    json_edits=JSON_EDITS | st.none(),
    is_finished=st.booleans(),
    view=st.sampled_from(VIEWS),
)
def test_a_damaged_run_is_shown_or_refused(
    tmp_path: Path,
    whole_run: Path,
    which: float,
    edits: list[Edit],
    json_edits: list[JSONEdit] | None,
    is_finished: bool,
    view: Callable[[Path], Any],
) -> None:
    folder = tmp_path / "runs" / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole_run, folder)
    if not is_finished:
        (folder / "summary.json").unlink()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[int(which * len(files))]
    damage(path, edits, json_edits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # sums of what is infinite
        try:
            view(folder)
        except RLCSError as error:
            assert "\n" not in str(error).strip()
