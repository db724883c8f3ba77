"""The learner of a run and the monitor of its fleets, from the configuration; see `rlcs.trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcs.config import Config
from rlcs.learner.group import LearnerGroup
from rlcs.monitor import Monitor
from rlcs.rollout.fleet import RolloutFleet
from rlcs.runlog import RunLog
from rlcs.scoring import ScoringFleet


def start_learner(policy: str, config: Config, options: Sequence[dict[str, Any]] | None = None) -> LearnerGroup:
    """The ranks of a new learner; `LearnerGroup.start` waits for them."""
    return LearnerGroup(
        policy,
        config.learner,
        options=options,
        dtype=config.model.dtype,
        seed=config.seed,
        max_completion_length=config.rollout.max_completion_length,
        temperature=config.rollout.temperature,
        total_steps=config.train.steps,
        trust_remote_code=config.model.trust_remote_code,
        freeze=config.model.freeze,
        model=config.model,
        deterministic=config.train.deterministic,
    )


def watch_fleets(
    rollouts: RolloutFleet, scoring: ScoringFleet, learner: LearnerGroup, runlog: RunLog, every_s: float
) -> Monitor:
    """Begin to look at all actors and queues, and to write down how they are."""
    monitor = Monitor(
        lambda: [*rollouts.watched(), *scoring.watched(), *learner.watched()],
        lambda: {"rollouts": rollouts.waiting(), "scoring": scoring.waiting()},
        runlog.note_actors,
        every_s,
    )
    monitor.start()
    return monitor
