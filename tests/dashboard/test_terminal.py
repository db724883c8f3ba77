"""`rlcs status`: one screen, from whatever state a run's folder is in."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from rlcs.dashboard.terminal import BARS, doing, duration, show_status, sparkline
from rlcs.dashboard.tiles import spark
from rlcs.errors import CheckpointError


def screen(run_dir: Path, *, watch: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    show_status(run_dir, watch=watch, console=console, every_s=0.01)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_run_without_iterations_says_what_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    assert "no iteration has ended yet" in screen(tmp_path)


def test_reward_and_useful_share_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    lines = [{"step": i, "reward/mean": i / 10, "rollout/useful": 0.5} for i in range(1, 9)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{torn")
    text = screen(tmp_path)
    assert "iteration 8" in text
    assert "▁▂▃▄▅▆▇█" in text and "0.800" in text and "50%" in text


def test_actors_of_a_run_that_goes_on_are_counted(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    actors = [{"name": f"engine-{i}", "role": "rollouts", "state": "busy", "restarts": i} for i in range(3)]
    actors.append({"name": "scorer-0", "role": "scoring", "state": "dead", "restarts": 0})
    (tmp_path / "actors.json").write_text(json.dumps({"actors": actors, "queues": {"rollouts": 7}, "time": 1.0}))
    assert "actors: 4, 3 busy, 1 dead, 3 restarts; waiting: 7 rollouts" in screen(tmp_path)


def test_the_last_fault_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    faults = [
        {"step": step, "who": f"engine-{step}", "reason": "was killed", "kind": "engine_restarts"} for step in (3, 5)
    ]
    (tmp_path / "faults.jsonl").write_text("".join(json.dumps(fault) + "\n" for fault in faults))
    assert "faults: 2, the last after iteration 5: engine-5 was killed" in screen(tmp_path)


def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "summary.json").write_text("{}")
    assert "finished" in screen(tmp_path, watch=True)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run's folder"):
        screen(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "metrics.jsonl").write_text('{"schema": 99, "step": 1}\n')
    with pytest.raises(CheckpointError, match="upgrade rlcs"):
        screen(tmp_path)


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([1.0], "▁"), ([0.0, 1.0], "▁█"), ([0.0, math.nan, 7.0], "▁ █"), ([math.nan], " ")],
)
def test_sparkline(values: list[float], drawn: str) -> None:
    assert sparkline(values, 10) == drawn


def test_a_sparkline_is_no_wider_than_asked() -> None:
    assert len(sparkline([float(i) for i in range(1000)], 60)) == 60


def test_stages_and_durations_are_words() -> None:
    assert doing({"stage": "learn", "time": 100.0}, clock=142.0) == "updating the policy since 42 s"
    assert duration(60 * 125) == "2 h 05 min"
    assert duration(-3) == "0 s"


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
@example([1e308, -1e308])
@example([1e308] * 100)
@example([0.0, 5e-324])
def test_any_numbers_are_drawn(values: list[float]) -> None:
    assert set(sparkline(values, 10)) <= {*BARS, " "}
    assert "nan" not in spark(values) and "inf" not in spark(values)
