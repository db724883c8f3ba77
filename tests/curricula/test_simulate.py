"""The simulated learner, and what the curricula gain on it."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlcs.config import CurriculumConfig
from rlcs.curricula.adaptive import AdaptivePlan
from rlcs.curricula.simulate import simulate
from rlcs.curricula.simulated_learner import ALL_ALIKE, SCENARIOS, Learner, scenario_named
from rlcs.errors import ConfigError

SMALL = replace(scenario_named("base"), num_prompts=4000, gain=0.1)


def test_a_simulation_is_a_function_of_its_arguments() -> None:
    one, two = (simulate("posterior", SMALL, seed=1) for _ in range(2))
    other = simulate("posterior", SMALL, seed=2)
    assert one.accuracy == two.accuracy != other.accuracy
    assert one.rollouts == two.rollouts


def test_responses_have_the_pass_rates_that_the_learner_tells() -> None:
    learner = Learner(replace(SMALL, guess=0.25, verifier_error=0.05), seed=0)
    rows = np.arange(4000)
    _, rewarded = learner.respond(rows, 200)
    np.testing.assert_allclose(rewarded.mean(axis=1), learner.pass_rates(rows), atol=0.15)
    assert rewarded.mean() == pytest.approx(learner.pass_rates(rows).mean(), abs=0.005)


def test_what_is_learned_grows_with_the_signal_and_reaches_other_domains() -> None:
    learner = Learner(SMALL, seed=0)
    rows = np.flatnonzero(learner.domains == 0)[:64]
    before = learner.abilities(np.arange(4000))
    learner.learn(rows, np.full(64, 2.0), 512)
    gained = learner.abilities(np.arange(4000)) - before
    own, others = gained[learner.domains == 0].mean(), gained[learner.domains == 3].mean()
    assert own > 2 * others > 0


def test_without_transfer_other_domains_learn_nothing() -> None:
    learner = Learner(replace(SMALL, transfer=0.0), seed=0)
    other = np.flatnonzero(learner.domains == 3)
    before = learner.abilities(other)
    learner.learn(np.flatnonzero(learner.domains == 0)[:64], np.full(64, 2.0), 512)
    np.testing.assert_array_equal(learner.abilities(other), before)


def test_forgetting_and_relapse() -> None:
    learner = Learner(replace(SMALL, relapse=3, practice=0.0), seed=0)
    for _ in range(3):
        learner.learn(np.arange(64), np.full(64, 2.0), 512)
    assert learner.accuracy == learner.start_accuracy


def test_the_order_of_the_curricula() -> None:
    rollouts = {
        kind: simulate(kind, SMALL, seed=0).rollouts for kind in ("uniform", "dapo", "rlcs", "posterior", "oracle")
    }
    assert rollouts["oracle"] < rollouts["posterior"] < rollouts["rlcs"] < rollouts["uniform"] < rollouts["dapo"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name.replace(" ", "_"))
def test_posterior_is_calibrated_and_near_the_oracle(scenario: object) -> None:
    small = replace(scenario, num_prompts=min(6000, scenario.num_prompts))  # type: ignore[type-var,attr-defined]
    ours, uniform, oracle = (simulate(kind, small, seed=3) for kind in ("posterior", "uniform", "oracle"))
    assert ours.reached and ours.calibration_error <= 0.05 and ours.useful >= 0.8
    assert ours.rollouts <= 0.7 * uniform.rollouts
    assert ours.rollouts <= 1.4 * oracle.rollouts


def test_posterior_finds_what_teaches_where_each_prompt_is_nearly_always_answered_alike() -> None:
    small = replace(ALL_ALIKE, num_prompts=6000)
    uniform, rested = (simulate(kind, small, seed=3) for kind in ("uniform", "posterior"))
    restless = simulate("posterior", small, config=CurriculumConfig(interval=1), seed=3)
    assert restless.reached and restless.rollouts <= 0.4 * uniform.rollouts and restless.useful >= 2 * uniform.useful
    assert rested.reached and rested.rollouts <= 0.65 * uniform.rollouts  # learning by heart costs nothing here


def test_adaptive_responses_are_level_with_the_oracle() -> None:
    adaptive = simulate("posterior", SMALL, seed=0, adaptive=AdaptivePlan())
    assert adaptive.rollouts <= 1.12 * simulate("oracle", SMALL, seed=0).rollouts
    assert adaptive.rollouts / adaptive.steps == pytest.approx(512, abs=1)


def test_a_relapse_and_a_broken_verifier_are_survived() -> None:
    for scenario in (replace(SMALL, relapse=15), replace(SMALL, broken=(10, 20))):
        for kind in ("rlcs", "posterior"):
            assert simulate(kind, scenario, seed=0, max_steps=300).reached


def test_a_plug_in_can_be_simulated(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from rlcs.curricula.uniform import Uniform\nclass Mine(Uniform): pass\n")
    assert simulate(f"{file}:Mine", SMALL, seed=0).rollouts == simulate("uniform", SMALL, seed=0).rollouts


def test_adaptive_responses_need_predictions() -> None:
    with pytest.raises(ConfigError, match="use posterior"):
        simulate("uniform", SMALL, adaptive=AdaptivePlan())


def test_settings_reach_the_curriculum() -> None:
    config = CurriculumConfig(expansion=False)
    result = simulate("rlcs", SMALL, config=config, seed=0)
    assert result.rollouts == result.steps * 512


def test_the_benchmark_prints_its_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "curriculum_simulator.py"
    arguments = [
        "--seeds",
        "1",
        "--scenario",
        "mastered",
        "--kinds",
        "uniform,posterior",
        "--json",
        str(tmp_path / "o.json"),
    ]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    assert "| geometric mean | **1.000** | **0." in capsys.readouterr().out
    assert (tmp_path / "o.json").read_text().startswith("{")
