"""After the learner was lost: a new one, and the whole run back at its last good checkpoint, within the same process.

Engines and scorers that live are kept. What came after the checkpoint is done again: its lines and files are dropped, so
that no update is in the run twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from rlcs.checkpoint import latest_checkpoint
from rlcs.errors import LearnerLostError
from rlcs.faults import Faults
from rlcs.runlog import read_faults

logger = logging.getLogger(__name__)


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


def set_aside_before(run_dir: Path) -> dict[str, str]:
    """The prompts that engines failed over in earlier starts of the run, by id, and why they are set aside."""
    faults = [fault for fault in read_faults(run_dir) if fault["kind"] == "poison_prompts"]
    return {fault["who"].removeprefix("prompt "): fault["reason"] for fault in faults}
