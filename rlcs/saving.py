"""Checkpoints beside the loop: the state is copied in memory, written by the learner and by a thread of the trainer.

`CheckpointSaver.save` returns once everything is copied (`train.background_save: false`: once it is on the disk). What goes
wrong afterwards is raised by `check`, which the trainer calls before each iteration, as one line. A checkpoint that could
not be written whole is removed; those before it stay as they are.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlcs.checkpoint import (
    Progress,
    Scores,
    complete_checkpoint,
    explain_write_error,
    list_checkpoints,
    remove_checkpoints,
    stage_checkpoint,
    step_of,
    to_keep,
)
from rlcs.config import TrainConfig
from rlcs.errors import CheckpointError, EngineError
from rlcs.learner.snapshot import WritingState

logger = logging.getLogger(__name__)

_POLL_S = 0.1


class Learner(Protocol):
    """What the saver needs: see `rlcs.learner.group.LearnerGroup`."""

    def begin_save(self, folder: Path, *, background: bool) -> None:
        """Copy the state, and begin to write it."""

    def saving(self) -> WritingState:
        """How far what was begun is. Raises EngineError where the learner is lost."""


@dataclass(slots=True)
class _Job:
    """A checkpoint on its way."""

    staged: Path
    progress: Progress
    parts: Mapping[str, Mapping[str, Any]]
    scores: Scores
    begun: float = 0.0
    thread: threading.Thread | None = None
    is_given_up: bool = False
    error: BaseException | None = None


class CheckpointSaver:
    """Writes the checkpoints of a run, one at a time; to be used from one thread."""

    def __init__(
        self,
        run_dir: Path,
        config: TrainConfig,
        learner: Learner,
        *,
        scores: Callable[[], Scores],
        publish: Callable[[Scores], None] | None = None,
    ) -> None:
        """`scores`: how good the policies of some iterations are, for `train.keep_best`. `publish`: copies what
        is there to other storage (`rlcs.remote_checkpoints.publisher`), after each new checkpoint.
        """
        self._run_dir = run_dir
        self._config = config
        self._learner = learner
        self._scores = scores
        self._publish = publish
        self._job: _Job | None = None
        self._seconds = {"stall": 0.0, "write": 0.0}
        self.last_s = 1.0
        """How long the last checkpoint took, from its beginning until it was whole."""

    def save(self, progress: Progress, parts: Mapping[str, Mapping[str, Any]]) -> None:
        """Write a checkpoint; waits for the one before where that is not done.

        Raises:
            CheckpointError: this one or the one before cannot be written.
        """
        started = time.perf_counter()
        self.finish()
        staged = stage_checkpoint(self._run_dir, progress.step)
        try:
            self._learner.begin_save(staged, background=self._config.background_save)
        except BaseException as error:
            shutil.rmtree(staged, ignore_errors=True)
            if isinstance(error, CheckpointError):
                raise explain_write_error(self._run_dir, progress.step, error) from error
            raise
        copied = {name: _copied(state) for name, state in parts.items()}
        job = self._job = _Job(staged, replace(progress), copied, dict(self._scores()))
        job.thread = threading.Thread(target=self._run, args=(job,), name="checkpoint", daemon=True)
        job.begun = started
        job.thread.start()
        if not self._config.background_save:
            self.finish()
        self._seconds["stall"] += time.perf_counter() - started

    def check(self) -> None:
        """Raise what went wrong with a checkpoint meanwhile, as CheckpointError; waits for nothing."""
        if self._job is not None and self._job.thread is not None and not self._job.thread.is_alive():
            self.finish()

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait until the checkpoint that is being written is whole; one that takes longer is given up. Raises as `check`."""
        job, self._job = self._job, None
        if job is None or job.thread is None:
            return
        job.thread.join(timeout_s)
        if job.thread.is_alive():
            job.is_given_up = True
            logger.warning(
                "the checkpoint of iteration %d took over %g s and is given up", job.progress.step, timeout_s
            )
        if job.error is not None:
            raise job.error

    def close(self, timeout_s: float) -> None:
        """As `finish`, where the run ends for another reason: what goes wrong is told and no more."""
        try:
            self.finish(timeout_s)
        except CheckpointError as error:
            logger.warning("%s", error)

    def publish(self, scores: Scores | None = None) -> None:
        """Bring what other storage holds, where there is some, up to date; `scores`: if other than the present ones."""
        if self._publish is not None:
            self._publish(self._scores() if scores is None else scores)

    def metrics(self) -> dict[str, float]:
        """Since the last call: `checkpoint/stall_s`, how long the loop waited, and `checkpoint/write_s`, beside it."""
        found = {f"checkpoint/{name}_s": seconds for name, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        return found

    def _run(self, job: _Job) -> None:
        started = time.perf_counter()
        try:
            while not (state := self._learner.saving()).is_done and not job.is_given_up:
                time.sleep(_POLL_S)
            if state.error is not None:
                raise OSError(state.error)
            if not job.is_given_up:
                self._complete(job)
        except EngineError as error:  # the run's way with a learner that is lost is not ours to choose
            logger.warning("the checkpoint of iteration %d is lost with its learner: %s", job.progress.step, error)
        except Exception as error:  # safetensors raises errors of its own; `finish` raises it where the run can end
            job.error = explain_write_error(self._run_dir, job.progress.step, error)
            job.error.__cause__ = error
        shutil.rmtree(job.staged, ignore_errors=True)
        self.last_s = time.perf_counter() - job.begun
        self._seconds["write"] += time.perf_counter() - started

    def _complete(self, job: _Job) -> None:
        """Give a checkpoint its name, then remove those that are not kept."""
        complete_checkpoint(job.staged, job.progress, job.parts)
        folders = list_checkpoints(self._run_dir)
        kept = to_keep(map(step_of, folders), self._config.keep_last, self._config.keep_best, job.scores)
        remove_checkpoints([folder for folder in folders if step_of(folder) not in kept])
        self.publish(job.scores)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in state.items()}
