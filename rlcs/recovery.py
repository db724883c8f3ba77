"""Back to a good checkpoint within the same process: after the learner was lost, and where training went wrong.

Engines and scorers that live are kept. What came after the checkpoint is done again: its lines and files are dropped, so
that no update is in the run twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlcs.checkpoint import (
    explain_damage,
    latest_checkpoint,
    list_checkpoints,
    load_arrays,
    load_part,
    newest_whole,
    step_of,
)
from rlcs.config_health import HealthConfig
from rlcs.curricula.base import Curriculum
from rlcs.errors import HealthError, LearnerLostError
from rlcs.faults import Faults
from rlcs.health import Finding
from rlcs.leftovers import LeftoverGroups
from rlcs.runlog import read_faults
from rlcs.types import Prompt

logger = logging.getLogger(__name__)


class HasLengths(Protocol):
    """Engines that hand out requests by the lengths that they expect."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""


def load_states(
    checkpoint: Path,
    curriculum: Curriculum,
    leftovers: LeftoverGroups,
    rollouts: HasLengths,
    prompts: Sequence[Prompt],
) -> None:
    """Bring what the trainer's process holds to the state of a checkpoint; `prompts` are the run's.

    Raises:
        CheckpointError: the checkpoint holds something else, or is of other prompts.
    """
    with explain_damage(checkpoint):
        curriculum.load_state_dict(load_arrays(checkpoint / "curriculum"))
        if (groups := load_part(checkpoint, "leftovers")) is not None:
            leftovers.load_state_dict(groups, prompts)
        if (lengths := load_part(checkpoint, "rollouts")) is not None:
            rollouts.load_state_dict(lengths)


def recover(
    error: LearnerLostError, run_dir: Path, faults: Faults, restore: Callable[[Path], int], note: Callable[[str], None]
) -> None:
    """Call `restore` with the newest whole checkpoint, which returns its iteration; again where that loses a learner too.

    Raises:
        TooManyFaultsError: it was lost too often before an iteration ended.
        CheckpointError: there is no whole checkpoint.
    """
    begun = time.monotonic()
    while True:
        faults.restart("learner_restarts", "the learner", f"was lost: {error}")
        try:
            step = restore(latest_checkpoint(run_dir))
        except LearnerLostError as another:
            error = another
            continue
        note(f"the run goes on from iteration {step} with a new learner, after {time.monotonic() - begun:.0f} s")
        return


def heed(findings: Sequence[Finding], run_dir: Path, faults: Faults) -> Path | None:
    """Write the findings of an iteration down; the checkpoint to roll back to, where one of them asks for that.

    Raises:
        HealthError: a finding asks for a stop, or for a roll-back and no whole checkpoint is from before it.
    """
    for finding in findings:
        faults.note("health_findings", f"health.{finding.watch}", finding.text)
    first = next((finding for finding in findings if finding.action != "warn"), None)
    if first is None:
        return None
    good = newest_whole([folder for folder in list_checkpoints(run_dir) if step_of(folder) <= first.good_step])
    if first.action == "roll_back" and good is not None:
        return good
    kept = f"{good} is from before it" if good is not None else "no checkpoint that is left is from before it"
    raise HealthError(f"health.{first.watch} stopped the run: {first.text}; {kept}")


def lower_rate(factor: float, roll_backs: int, config: HealthConfig) -> tuple[float, int]:
    """The factor of the learning rates, and the number of roll-backs, after one more.

    Raises:
        HealthError: it would be more than `health.max_roll_backs`.
    """
    if roll_backs >= config.max_roll_backs:
        raise HealthError(
            f"training goes wrong again after {roll_backs} roll-backs (health.max_roll_backs); start anew with a lower "
            "learner.learning_rate, or look at the rewards"
        )
    return factor * config.learning_rate_factor, roll_backs + 1


def set_aside_before(run_dir: Path) -> dict[str, str]:
    """The prompts that engines failed over in earlier starts of the run, by id, and why they are set aside."""
    faults = [fault for fault in read_faults(run_dir) if fault.get("kind") == "poison_prompts"]
    return {str(fault.get("who")).removeprefix("prompt "): str(fault.get("reason")) for fault in faults}
