"""Runs that are hurt on purpose end as if nothing had been; Ray and vLLM are real."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from rlcs.checkpoint import find_damage, latest_checkpoint
from rlcs.runlog import read_actors, read_faults, read_metrics


def test_a_run_survives_the_loss_of_an_engine_the_learner_and_a_scorer(
    run_with_faults: Any, assert_nothing_is_lost: Any
) -> None:
    outcome = run_with_faults(faults=["kill engine", "kill learner", "kill scoring"])
    print(json.dumps(outcome.report(), indent=1))
    assert_nothing_is_lost(outcome)
    assert len(outcome.injected) == 3
    metrics = read_metrics(outcome.run)[-1]
    assert metrics["faults/engine_restarts"] == metrics["faults/learner_restarts"] == 1
    assert metrics["faults/poison_prompts"] == 0
    # What the dashboard's System page reads.
    snapshot = read_actors(outcome.run)
    assert snapshot is not None
    restarts: Counter[str] = Counter()
    for actor in snapshot.actors:
        restarts[actor.role] += actor.restarts
    assert restarts == {"rollouts": 1, "learner": 1, "scoring": 1}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_poison_prompt_is_set_aside_and_the_run_goes_on(run_with_faults: Any, assert_nothing_is_lost: Any) -> None:
    outcome = run_with_faults(steps=20, faults=[], poison=1, timeout_s=380)
    print(json.dumps(outcome.report(), indent=1))
    assert_nothing_is_lost(outcome)
    (aside,) = [fault for fault in read_faults(outcome.run) if fault["kind"] == "poison_prompts"]
    assert read_metrics(outcome.run)[-1]["faults/engine_restarts"] == 2
    assert aside["who"].removeprefix("prompt ") not in (outcome.run / "metrics.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_survives_the_loss_of_one_rank_of_two(run_with_faults: Any, assert_nothing_is_lost: Any) -> None:
    outcome = run_with_faults("learner.num_ranks=2", faults=["kill learner", "stop learner"])
    print(json.dumps(outcome.report(), indent=1))
    assert_nothing_is_lost(outcome)
    # Not what the last iteration says: the run is stopped once the learner is back, before another has ended.
    assert Counter(fault["kind"] for fault in read_faults(outcome.run)) == {"learner_restarts": 2}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_survives_the_loss_of_the_request_queue(run_with_faults: Any, assert_nothing_is_lost: Any) -> None:
    outcome = run_with_faults(steps=60, faults=["kill queue", "kill queue"])
    assert_nothing_is_lost(outcome)
    assert read_metrics(outcome.run)[-1]["faults/queue_restarts"] == len(outcome.injected) >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_many_restarts_end_a_run_with_one_line_and_leave_its_checkpoint(run_with_faults: Any) -> None:
    outcome = run_with_faults("cluster.max_restarts=0", steps=100_000, faults=["kill engine"], after_checkpoint=True)
    assert outcome.code == 1
    (line,) = [line for line in outcome.output.splitlines() if line.startswith("rlcs: error:")]
    assert "engine-" in line and "failed" in line
    assert f"rlcs train --resume {outcome.run}" in outcome.output
    assert find_damage(latest_checkpoint(outcome.run)) is None
    assert outcome.orphans == [] and outcome.shared_memory == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_survives_a_hundred_faults(run_with_faults: Any, assert_nothing_is_lost: Any) -> None:
    kinds = {
        "kill engine": 20,
        "stop engine": 5,
        "kill scoring": 25,
        "stop scoring": 3,
        "kill learner": 20,
        "stop learner": 3,
        "kill worker": 24,
    }
    faults = [kind for kind, times in kinds.items() for _ in range(times)]
    random.Random(0).shuffle(faults)
    # Patience for a busy machine: a fault may come before the last one's actor is back.
    settings = ["cluster.max_restarts=60", "rollout.heartbeat_s=20", "learner.timeout_s=60"]
    outcome = run_with_faults(
        *settings, faults=faults, poison=1, raises=0.002, hangs=0.0005, timeout_s=3500, pause_s=(0.1, 1.0), wait_s=8
    )
    print(json.dumps(outcome.report(), indent=1))
    assert_nothing_is_lost(outcome)
    assert len(outcome.injected) == 100
