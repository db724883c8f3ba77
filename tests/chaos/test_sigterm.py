"""A machine that is taken away: SIGTERM in the middle of a long generation saves what was learned, in time."""

from __future__ import annotations

from typing import Any

import pytest

from rlcs.checkpoint import find_damage, latest_checkpoint, load_progress

GRACE_S = 12


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [0, 1])
def test_a_run_that_is_terminated_while_it_generates_saves_within_its_grace_time(
    run_with_faults: Any, assert_nothing_is_lost: Any, staleness: int
) -> None:
    settings = [f"train.grace_s={GRACE_S}", "train.save_every=0", "rollout.heartbeat_s=300", "rollout.num_engines=1"]
    if staleness:
        settings += ["rollout.max_staleness=1", "learner.importance_sampling_correction=true"]
    outcome = run_with_faults(*settings, faults=[], terminate_after=3)
    assert_nothing_is_lost(outcome, staleness=staleness)
    checkpoint = latest_checkpoint(outcome.run)
    assert find_damage(checkpoint) is None and load_progress(checkpoint).step >= 3
    assert outcome.terminated is not None
    seconds = (checkpoint / "manifest.json").stat().st_mtime - outcome.terminated
    print(f"the checkpoint was whole {seconds:.1f} s after SIGTERM")
    assert seconds < GRACE_S
    assert "rlcs train --resume" in outcome.output
