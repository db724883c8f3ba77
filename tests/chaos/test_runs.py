"""Runs that are hurt on purpose end as if nothing had been; Ray and vLLM are real."""

from __future__ import annotations

import json
from typing import Any

from rlcs.runlog import read_faults, read_metrics


def test_a_run_survives_an_engine_a_learner_a_scorer_and_a_poison_prompt(
    run_with_faults: Any, assert_nothing_is_lost: Any
) -> None:
    steps = 14
    outcome = run_with_faults(steps=steps, faults=["kill engine", "kill learner", "kill scoring"], poison=1)
    print(json.dumps(outcome.report(), indent=1))
    assert_nothing_is_lost(outcome, steps=steps)
    assert len(outcome.injected) == 3
    noted = [fault["kind"] for fault in read_faults(outcome.run)]
    assert noted.count("learner_restarts") >= 1
    assert read_metrics(outcome.run)[-1]["faults/engine_restarts"] >= 1
