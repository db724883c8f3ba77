"""Training health: what the watches find, when they are silent, and what they look back on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.checkpoint import Progress, save_checkpoint
from rlcs.config_health import WATCHES, HealthConfig
from rlcs.errors import HealthError
from rlcs.faults import Faults
from rlcs.health import Finding, HealthWatch
from rlcs.recovery import heed, lower_rate

GOOD = {
    "reward/mean": 0.5,
    "learner/loss": 0.01,
    "learner/grad_norm": 1.0,
    "learner/entropy": 1.0,
    "learner/logprob_gap_mean": 1e-4,
    "learner/skipped_steps": 0.0,
    "rollout/mean_length": 40.0,
}
WINDOW = 5


def watch_run(*changes: dict[str, float], config: HealthConfig | None = None) -> list[tuple[int, Finding]]:
    """What is found in a run of a good window and the iterations of `changes`, with the step of each finding."""
    watch = HealthWatch(config or HealthConfig(window=WINDOW))
    rows = [GOOD] * WINDOW + [{**GOOD, **change} for change in changes]
    return [(step, finding) for step, row in enumerate(rows, 1) for finding in watch.observe(step, row)]


def test_a_healthy_run_is_not_spoken_of() -> None:
    assert watch_run(*[{}] * 50) == []


@pytest.mark.parametrize(
    ("watch", "change", "words"),
    [
        ("reward_collapse", {"reward/mean": 0.1}, "it was 0.5"),
        ("entropy_collapse", {"learner/entropy": 0.001}, "entropy went from 1"),
        ("runaway_length", {"rollout/mean_length": 400.0}, "responses went from 40"),
        ("logprob_gap", {"learner/logprob_gap_mean": 0.9}, "differ by"),
    ],
)
def test_each_watch_speaks_once_a_window_while_its_cause_lasts(
    watch: str, change: dict[str, float], words: str
) -> None:
    found = watch_run(*[change] * (3 * WINDOW))
    assert {finding.watch for _, finding in found} == {watch}
    first = found[0][0]
    assert WINDOW < first <= 2 * WINDOW
    assert [step for step, _ in found] == list(range(first, 4 * WINDOW + 1, WINDOW))
    assert words in found[0][1].text and found[0][1].action == "warn"
    assert found[0][1].good_step == first - WINDOW
    assert watch_run(*[change] * (3 * WINDOW), config=HealthConfig(window=WINDOW, **{watch: "off"})) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("name", ["reward/mean", "learner/loss", "learner/grad_norm", "learner/entropy"])
def test_what_is_not_finite_is_found_at_once(name: str, value: float | None) -> None:
    found = watch_run({}, {name: value})  # type: ignore[dict-item]  # a line of metrics.jsonl has null
    assert [(step, finding.watch) for step, finding in found] == [(WINDOW + 2, "non_finite")]
    assert name in found[0][1].text and found[0][1].good_step == WINDOW + 1


def test_skipped_steps_are_found_when_they_are_new() -> None:
    found = watch_run({"learner/skipped_steps": 2.0}, {"learner/skipped_steps": 2.0})
    assert [(step, finding.watch) for step, finding in found] == [(WINDOW + 1, "non_finite")]
    assert "2 optimizer steps" in found[0][1].text


def test_a_cause_that_goes_and_comes_back_is_spoken_of_again() -> None:
    found = watch_run({"learner/loss": float("nan")}, {}, {"learner/loss": float("nan")})
    assert [step for step, _ in found] == [WINDOW + 1, WINDOW + 3]


def test_the_most_serious_action_comes_first() -> None:
    config = HealthConfig(window=1, reward_collapse="warn", entropy_collapse="roll_back", logprob_gap="stop")
    bad = {"reward/mean": 0.0, "learner/entropy": 0.0, "learner/logprob_gap_mean": 9.0}
    watch = HealthWatch(config)
    watch.observe(1, GOOD)
    found = watch.observe(2, {**GOOD, **bad})
    assert [(finding.action, finding.watch) for finding in found] == [
        ("roll_back", "entropy_collapse"),
        ("stop", "logprob_gap"),
        ("warn", "reward_collapse"),
    ]


@given(
    st.lists(
        st.fixed_dictionaries(
            {name: st.floats(0, 10) | st.sampled_from([None, float("nan"), float("inf")]) for name in GOOD},
        ),
        max_size=40,
    ),
    st.integers(0, 40),
)
def test_a_replayed_watch_goes_on_as_one_that_never_stopped(rows: list[dict[str, float]], cut: int) -> None:
    config = HealthConfig(window=3)
    whole, resumed = HealthWatch(config), HealthWatch(config)
    findings = [whole.observe(step, row) for step, row in enumerate(rows, 1)]
    resumed.replay({"step": step, **row} for step, row in enumerate(rows[:cut], 1))
    for step, row in enumerate(rows[cut:], cut + 1):
        assert resumed.observe(step, row) == findings[step - 1]
    assert all(
        finding.watch in WATCHES and finding.good_step < step for step, of in enumerate(findings, 1) for finding in of
    )


def test_the_newest_checkpoint_from_before_the_trouble_is_good(tmp_path: Path) -> None:
    _, ten, fifteen = (write_checkpoint(tmp_path, step) for step in (5, 10, 15))
    faults = Faults(3)
    assert heed([finding("roll_back", 14)], tmp_path, faults) == ten
    assert heed([finding("roll_back", 15)], tmp_path, faults) == fifteen
    with pytest.raises(HealthError, match="no checkpoint that is left is from before it"):
        heed([finding("roll_back", 4)], tmp_path, faults)


def write_checkpoint(run_dir: Path, step: int) -> Path:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text("")
    return save_checkpoint(run_dir, Progress(step), {"curriculum": {}}, Path.mkdir, Path.mkdir, keep_last=9)


def finding(action: str, good_step: int = 4) -> Finding:
    return Finding("reward_collapse", action, "the mean reward is 0", good_step)  # type: ignore[arg-type]


def test_what_is_found_is_written_down_and_acted_on(tmp_path: Path) -> None:
    faults = Faults(3)
    good, bad = (write_checkpoint(tmp_path, step) for step in (4, 5))
    assert heed([], tmp_path, faults) is None
    assert heed([finding("warn")], tmp_path, faults) is None
    assert faults.metrics()["faults/health_findings"] == 1
    assert heed([finding("roll_back"), finding("warn")], tmp_path, faults) == good
    with pytest.raises(
        HealthError, match=r"reward_collapse stopped the run: the mean reward is 0; .*step-000004 is from"
    ):
        heed([finding("stop")], tmp_path, faults)
    (good / "state.json").unlink()
    with pytest.raises(HealthError, match="no checkpoint that is left is from before it"):
        heed([finding("roll_back")], tmp_path, faults)
    assert heed([finding("roll_back", 5)], tmp_path, faults) == bad


def test_learning_rates_are_lowered_until_that_does_not_help() -> None:
    config = HealthConfig(max_roll_backs=2)
    assert lower_rate(1.0, 0, config) == (0.5, 1)
    assert lower_rate(0.5, 1, config) == (0.25, 2)
    with pytest.raises(HealthError, match="after 2 roll-backs"):
        lower_rate(0.25, 2, config)
