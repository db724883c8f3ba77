"""Alarms go off at their limits and not before; the rooms that the dashboard may know."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config_logging import AlarmConfig
from rlcs.dashboard.alarms import find_alarms
from rlcs.dashboard.columns import Columns, thin
from rlcs.dashboard.figures.curriculum import coverage, set_aside
from rlcs.dashboard.responses import answer_of, is_mixed, is_repetitive, newest
from rlcs.dashboard.store import Run
from rlcs.runlog import EvaluationRow


def a_run(tmp_path: Path, lines: list[dict[str, Any]], accuracies: dict[int, float] | None = None) -> Run:
    run = Run(tmp_path, "run")
    run.columns = Columns()
    run.columns.add(lines)
    run.evaluations = [EvaluationRow(s, "d", 1, 10, 4, a, 1.0, 4, a, 1.0) for s, a in (accuracies or {}).items()]
    return run


def titles(run: Run) -> list[str]:
    return [alarm.title for alarm in find_alarms(run)]


def constant(name: str, value: float, n: int = 30) -> list[dict[str, Any]]:
    return [{"step": i, name: value} for i in range(1, n + 1)]


@pytest.mark.parametrize(
    ("name", "good", "bad", "title"),
    [
        ("rollout/useful", 0.21, 0.19, "Few groups teach anything."),
        ("learner/logprob_gap_mean", 0.019, 0.021, "Engine and learner disagree."),
        ("learner/loss", 1.0, math.nan, "Values that are not finite."),
    ],
)
def test_a_number_beyond_its_limit_is_told(tmp_path: Path, name: str, good: float, bad: float, title: str) -> None:
    assert titles(a_run(tmp_path, constant(name, good))) == []
    assert titles(a_run(tmp_path, constant(name, bad))) == [title]


def test_entropy_gradient_and_failures(tmp_path: Path) -> None:
    lines = [{"step": i, "learner/entropy": 1.0 if i < 10 else 0.05} for i in range(1, 20)]
    assert titles(a_run(tmp_path, lines)) == ["The policy is nearly certain."]
    lines = [{"step": i, "learner/grad_norm": 1.0 if i < 19 else 11.0} for i in range(1, 20)]
    assert titles(a_run(tmp_path, lines)) == ["The gradient jumped."]
    lines = [{"step": i, "scoring/timeouts": 2.0, "rollout/responses": 100.0} for i in range(1, 5)]
    assert titles(a_run(tmp_path, lines)) == ["A reward fails."]


def test_the_verifier_that_fails_is_named(tmp_path: Path) -> None:
    both = {"scoring/samples/math": 100.0, "scoring/samples/code": 10.0, "scoring/timeouts/math": 1.0}
    lines = [{"step": i, **both, "scoring/timeouts/code": 1.0, "scoring/errors/code": 0.5} for i in range(1, 5)]
    (alarm,) = find_alarms(a_run(tmp_path, lines))
    assert alarm.text.startswith("“code” timed out on 10.0% and failed on 5.0% of its responses")


def test_counts_of_the_curriculum_are_shown_as_recorded(tmp_path: Path) -> None:
    counted = {"never": 50, "wrong": 10, "between": 20, "mastered": 15, "forgotten": 5, "retired": 8}
    lines = [{"step": i, **{f"curriculum/prompts/{k}": v for k, v in counted.items()}} for i in (1, 2)]
    run = a_run(tmp_path, lines)
    assert {s.name: s.y[-1] for s in coverage(run).series} == {
        "mastered": 15,
        "between": 20,
        "all wrong so far": 10,
        "forgotten": 5,
        "never drawn": 50,
    }
    assert {s.name: s.y[-1] for s in set_aside(run).series} == {"mastered": 15, "retired": 8, "forgotten": 5}


def test_a_reward_that_rises_alone_is_told(tmp_path: Path) -> None:
    lines = [{"step": i, "reward/mean": 0.3 + 0.01 * i} for i in range(1, 41)]
    assert titles(a_run(tmp_path, lines, {0: 0.4, 40: 0.4})) == ["The reward rises, accuracy does not."]
    assert titles(a_run(tmp_path, lines, {0: 0.4, 40: 0.45})) == []
    assert titles(a_run(tmp_path, lines, {30: 0.4, 40: 0.4})) == []  # too near to each other


def test_one_answer_and_a_constant_reward_are_told(make_run: Callable[..., Path]) -> None:
    run = Run(make_run(), "first").refresh(force=True)
    found = titles(run)
    assert "One answer takes over." in found  # 7 is right, and most responses say so
    assert "A reward does not vary." in found  # style is always 1
    assert newest(run, 3).first == 10


def test_answers_repetition_and_mixed_languages() -> None:
    assert answer_of("<answer><|begin_of_box|> A  b <|end_of_box|></answer>") == "a b"
    assert answer_of("<answer>Seven</answer>") == "seven"
    assert answer_of("seven") == ""
    assert is_repetitive("wait, " * 200) and not is_repetitive("wait, " * 5)
    assert is_mixed("答案是七因为三加四等于七 because three and four") and not is_mixed("because three 七")


def test_the_length_that_doubles_is_told(make_run: Callable[..., Path]) -> None:
    run = Run(make_run(), "first").refresh(force=True)
    run.columns = Columns()
    run.columns.add({"step": i, "rollout/mean_length": 10.0 * 2.5 ** (i / 20)} for i in range(1, 41))
    assert "Responses grow long." in titles(run)


def test_every_alarm_names_a_setting_that_exists(make_run: Callable[..., Path]) -> None:
    for alarm in find_alarms(Run(make_run(), "first").refresh(force=True)):
        key = alarm.setting.removeprefix("logging.alarms.").partition("=")[0]
        assert key in AlarmConfig.model_fields


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    import numpy as np

    y = np.array(values)
    kept = thin(np.arange(len(y), dtype=float), y, most)
    assert len(kept) <= max(most, 2) and kept[0] == 0 and kept[-1] == len(y) - 1
    assert y[kept].max() == y.max() and y[kept].min() == y.min()
    assert (np.diff(kept) > 0).all()


def test_the_dashboard_knows_nothing_of_ours_but_run_files_types_errors_and_the_configuration() -> None:
    allowed = {"runlog", "types", "errors", "config", "config_loading", "config_logging", "dashboard"}
    allowed |= {"json_text", "terminal_text"}
    folder = Path(__file__).resolve().parents[2] / "rlcs" / "dashboard"
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlcs."):
                assert (node.module or "").split(".")[1] in allowed, f"{file}: {node.module}"
