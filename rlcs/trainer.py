"""The loop: curriculum, rollouts, rewards, selection, update, sync.

GLM-4.1V-Thinking (arXiv 2507.01006), section 5. One iteration is `Trainer.iterate`, and everything it calls is a room of
its own. All actors are started by `Trainer.start` and ended by `Trainer.close`.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.actors import start_ray, stop_ray
from rlcs.checkpoint import (
    Progress,
    list_checkpoints,
    load_progress,
    remove_checkpoints,
)
from rlcs.config import Config
from rlcs.curricula.base import Curriculum
from rlcs.data import DataSplits
from rlcs.errors import LearnerLostError
from rlcs.evaluation import evaluate
from rlcs.faults import Fault, Faults
from rlcs.fleets import start_learner, watch_fleets
from rlcs.health import Finding, HealthWatch
from rlcs.interrupt import GraceOver, StopRequest
from rlcs.learner.advantages import learning_batch
from rlcs.learner.group import LearnerGroup
from rlcs.learner.limits import limit_lengths
from rlcs.leftovers import LeftoverGroups
from rlcs.look_ahead import LookAhead
from rlcs.models import load_tokenizer
from rlcs.monitor import Monitor
from rlcs.nothink import nothink_metrics
from rlcs.progress import Display
from rlcs.recovery import heed, load_states, lower_rate, recover, set_aside_before
from rlcs.remote_checkpoints import publisher
from rlcs.reservation import Reservation
from rlcs.rollout.episodes import EpisodeSettings
from rlcs.rollout.fleet import RolloutFleet
from rlcs.rounds import Round, Rounds, rollout_metrics, staleness_metrics
from rlcs.runlog import EvaluationRow, RunLog, read_metrics
from rlcs.saving import CheckpointSaver
from rlcs.scoring import ScoringFleet
from rlcs.stopwatch import Stopwatch
from rlcs.types import Group
from rlcs.weight_sync import WeightSync, choose_backend, open_weight_sync, vllm_backend

_ROUND_END_S = 30.0


class Trainer:
    """Trains one policy. Use: `start()`, then `run()`, at last `close()`."""

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        data: DataSplits,
        curriculum: Curriculum,
        policy: str,
        default_reward: str,
        display: Display,
        checkpoint: Path | None = None,
    ) -> None:
        self.config = config
        # Absolute: an actor, on whatever machine of the cluster, has a working directory of its own.
        self.run_dir = run_dir.absolute()
        self.data = data
        self.progress = Progress()
        self._curriculum = curriculum
        self._policy = str(Path(policy).absolute()) if Path(policy).is_dir() else policy
        self._default_reward = default_reward
        self._display = display
        self._checkpoint = checkpoint.absolute() if checkpoint else None
        self._saved_step: int | None = None
        self._leftovers = LeftoverGroups(config.curriculum.leftover_age)
        self._boundary: dict[str, dict[str, Any]] | None = None
        """`_parts` as of the last update: a round that was begun since then has changed the live ones."""
        self._thread = threading.get_ident()
        self.stop = StopRequest(lambda: None)
        self._furthest = 0  # iterations that were done, whether the run went back behind them or not
        self._health = HealthWatch(config.health)
        self._findings: list[Finding] = []
        self._faults = Faults(config.cluster.max_restarts, self._report_fault)
        self._runlog: RunLog | None = None
        self._rollouts: RolloutFleet | None = None
        self._scoring: ScoringFleet | None = None
        self._learner: LearnerGroup | None = None
        self._sync: WeightSync | None = None
        self._saver: CheckpointSaver | None = None
        self._ahead: LookAhead[Round] | None = None
        self._monitor: Monitor | None = None

    def start(self) -> None:
        """Start Ray and the three fleets, and bring them to the state of the checkpoint if there is one."""
        config = self.config
        start_ray(config.cluster)
        tokenizer = load_tokenizer(self._policy, trust_remote_code=config.model.trust_remote_code)
        current = self._policy if self._checkpoint is None else str(self._checkpoint / "policy")
        if self._checkpoint is not None:
            self.progress = load_progress(self._checkpoint)
        reserved, takes_turns = Reservation(config), config.cluster.placement == "colocate"
        version = self.progress.step
        self._rollouts = RolloutFleet(
            current,
            config.model,
            config.rollout,
            tokenizer,
            seed=config.seed,
            version=version,
            options=reserved.engines(),
            takes_turns=takes_turns,
            transfer=vllm_backend(choose_backend(config)),
            faults=self._faults,
            spare_path=self._policy,
            episodes=EpisodeSettings.of(config),
            deterministic=config.train.deterministic,
        )
        if takes_turns:
            self._rollouts.start()  # an engine measures what is free of its GPU: before the learner takes its part
        # From the initial policy also on resume, since that is the reference of the KL penalty.
        self._learner = start_learner(self._policy, config, reserved.learners())
        self._scoring = ScoringFleet(config.reward, self._default_reward)
        self._rollouts.start()
        self._learner.start()
        self._runlog = RunLog(self.run_dir, config.logging, config.model_dump(mode="json"))
        self._runlog.write_prompts(self.data.train)
        self._saver = CheckpointSaver(
            self.run_dir,
            config.train,
            self._learner,
            scores=self._runlog.scores,
            publish=publisher(config, self.run_dir),
        )
        if self._checkpoint is not None:
            self._load(self._checkpoint)
            self._rollouts.set_aside.update(set_aside_before(self.run_dir))
        self._rollouts.lend_weights = None if config.rollout.max_staleness else self._learner.weights
        self._sync = open_weight_sync(config, self._learner, self._rollouts, version=version)
        self._display.note(f"weights go to the engines by {self._sync.name}")
        self._ahead = self._rounds()
        self._monitor = watch_fleets(
            self._rollouts, self._scoring, self._learner, self._runlog, config.logging.monitor_every_s
        )

    def _load(self, checkpoint: Path) -> None:
        """Bring learner, curriculum and run log to the state of a checkpoint; the engines get their weights elsewhere."""
        assert self._rollouts and self._learner and self._runlog
        self.progress = load_progress(checkpoint)
        self._saved_step, self._boundary = self.progress.step, None
        self._leftovers = LeftoverGroups(self.config.curriculum.leftover_age)
        load_states(checkpoint, self._curriculum, self._leftovers, self._rollouts, self.data.train)
        self._learner.load_state(checkpoint / "learner")
        self._runlog.rewind(self.progress.step)
        self._health.replay(read_metrics(self.run_dir) if self.progress.step else [])

    def restore(self, checkpoint: Path, *, new_learner: bool = False) -> int:
        """Go back to a checkpoint of this run, within the process; returns its iteration.

        What came after it is forgotten, a round that is begun and newer checkpoints among it. Engines and scorers stay, the
        learner too unless `new_learner` is wanted.

        Raises:
            LearnerLostError: the learner was lost meanwhile.
        """
        assert self._rollouts and self._ahead and self._learner and self._saver
        self._ahead.close(self.config.rollout.timeout_s)  # it works with the curriculum
        self._rollouts.sleep()
        if new_learner:
            self._learner.restart()
        self._load(checkpoint)
        remove_checkpoints([folder for folder in list_checkpoints(self.run_dir) if folder.name > checkpoint.name])
        self._saver.publish()
        self._ahead = self._rounds()
        self._sync = open_weight_sync(self.config, self._learner, self._rollouts, version=self.progress.step - 1)
        return self._sync.sync(self.progress.step).version

    def _rounds(self) -> LookAhead[Round]:
        assert self._rollouts is not None and self._scoring is not None
        parts = (self.data.train, self._curriculum, self._leftovers, self._rollouts, self._scoring, self._note_stage)
        return LookAhead(Rounds(self.config, *parts).make)

    def run(self, stop: StopRequest) -> None:
        """Iterate until the end, or until `stop` is requested; the state is saved either way.

        A round that is begun when the stop comes is learned from too, unless its grace time ends before.
        """
        assert self._ahead is not None and self._saver is not None
        self.stop = stop
        total = self.config.train.steps
        self._saver.finish()  # what begins has something to go back to
        while not self.is_done and not stop.is_over and (self._ahead.is_pending or not stop.requested):
            try:
                self._saver.check()
                self.stop.reserve_s = 3.0 + 2 * self._saver.last_s
                if _is_due(self.progress.step, self.config.train.eval_every):
                    self.evaluate()  # here, so that one that a stop cut off is made up for
                metrics = self.iterate()
                self._display.iteration(self.progress.step, total, metrics)
                if any(finding.action != "warn" for finding in self._findings):
                    self._saver.finish()  # a stop and a roll-back look at all checkpoints
                if (good := heed(self._findings, self.run_dir, self._faults)) is not None:
                    self._roll_back(good)
                    continue
                if _is_due(self.progress.step, self.config.train.save_every):
                    self.save()
                if self._saved_step != self.progress.step and (self.is_done or stop.requested):
                    self.save()
            except LearnerLostError as error:
                self._saver.finish(_ROUND_END_S)
                recover(error, self.run_dir, self._faults, partial(self.restore, new_learner=True), self._display.note)
            except GraceOver:
                self._display.note("the grace time is nearly over: what was learned so far is saved")
        if self._saved_step != self.progress.step:
            self.save()
        self._saver.finish()

    def _roll_back(self, checkpoint: Path) -> None:
        """Go on from a checkpoint from before training went wrong, with a lower learning rate."""
        factor, count = lower_rate(self.progress.learning_rate_factor, self.progress.roll_backs, self.config.health)
        step = self.restore(checkpoint)
        self.progress.learning_rate_factor, self.progress.roll_backs = factor, count
        self._display.note(f"rolled back to iteration {step}; the learning rates are {factor:g} of those configured")

    @property
    def is_done(self) -> bool:
        """Whether the last iteration or the last token has been used."""
        return self._ends(self.progress.step, self.progress.generated_tokens)

    def iterate(self) -> dict[str, float]:
        """One iteration: draw, generate, score, observe, select, learn, sync, write."""
        assert self._rollouts and self._ahead and self._learner and self._sync and self._runlog and self._saver
        config, version = self.config, self.progress.step
        watch = Stopwatch(self._note_stage)
        with watch("total"):
            with self.stop.cut_off():
                current = self._ahead.take()  # drawn, generated, scored and observed: now, or beside the last update
            groups = current.groups
            with watch("select"):
                learned, kept = self._select(groups)
                fitting, lengths = limit_lengths(learned, config.learner)
                batch = learning_batch(fitting, config.learner)
                rewards = np.concatenate([group.rewards for group in learned])
                bound = config.rollout.max_staleness + config.curriculum.leftover_age
                staleness = staleness_metrics(learned, version, bound)
                curriculum_metrics = {**self._curriculum.coverage.metrics(), **self._curriculum.metrics()}
            self._boundary = self._parts()
            if self._may_look_ahead(current):
                self._ahead.begin()
            with watch("learn"):
                self._rollouts.sleep()
                sizes = [len(group.responses) for group in learned]
                learning = self._learner.update(
                    batch, group_sizes=sizes, rewards=rewards, rate_factor=self.progress.learning_rate_factor
                )
            synced = self._sync_weights(watch, version + 1)
            with watch("write"):
                self._runlog.write_rollouts(version + 1, groups, kept)
        watch.add(current.seconds)
        self.progress.step += 1
        self.progress.generated_tokens += current.generated_tokens
        self.progress.seconds += watch.seconds["total"]
        metrics = {
            **rollout_metrics(groups, learned, watch.seconds["generate"]),
            **nothink_metrics(groups),
            "rollout/leftovers": float(len(learned) - len(kept)),
            **staleness,
            **current.scoring,
            **curriculum_metrics,
            **learning,
            **lengths,
            **synced,
            **{f"time/{stage}": seconds for stage, seconds in watch.seconds.items()},
            "progress/generated_tokens": float(self.progress.generated_tokens),
            "progress/seconds": self.progress.seconds,
            **self._saver.metrics(),
            **self._faults.metrics(),
            **(self._monitor.metrics() if self._monitor is not None else {}),
        }
        self._findings = self._health.observe(self.progress.step, metrics)
        self._runlog.write_metrics(self.progress.step, metrics)
        if self.progress.step > self._furthest:
            self._furthest = self.progress.step
            self._faults.progress()
        return metrics

    def _sync_weights(self, watch: Stopwatch, version: int) -> dict[str, float]:
        """Put the new weights into the engines; not where the grace time ends before those are free."""
        assert self._ahead is not None and self._sync is not None
        try:
            with watch("wait"), self.stop.cut_off():
                self._ahead.wait()  # engines get no weights in the middle of a request
        except GraceOver:
            return {}
        with watch("sync"):
            return self._sync.sync(version).metrics()

    def _select(self, groups: list[Group]) -> tuple[list[Group], NDArray[np.int64]]:
        """The groups to learn from, leftovers and new ones, and the indices in `groups` of those that are new."""
        batch_size, old = self.config.train.batch_size, len(self._leftovers)
        choice = [*self._leftovers.groups, *groups]
        rates = np.asarray([group.pass_rate for group in choice])
        degenerate = np.asarray([group.is_degenerate for group in choice])
        chosen = self._curriculum.select(rates, degenerate, batch_size)
        self._leftovers.keep(groups, chosen, most=batch_size)
        return [choice[index] for index in chosen], chosen[chosen >= old] - old

    def _ends(self, step: int, generated_tokens: int) -> bool:
        """Whether the run ends after `step` iterations and so many tokens."""
        limit = self.config.train.max_generated_tokens
        return step >= self.config.train.steps or (limit is not None and generated_tokens >= limit)

    def _may_look_ahead(self, current: Round) -> bool:
        """Whether the next round may be begun before the policy has learned from the `current` one.

        Never over a checkpoint, whose curriculum would hold draws that a resumed run knows nothing of, nor past the end.
        """
        train, step = self.config.train, self.progress.step + 1
        tokens = self.progress.generated_tokens + current.generated_tokens
        return (
            self.config.rollout.max_staleness > 0
            and not self.stop.requested
            and not _is_due(step, train.save_every)
            and not self._ends(step, tokens)
        )

    def evaluate(self) -> list[EvaluationRow]:
        """Evaluate the current policy on the held-out prompts; the rows are written to the run's folder.

        An empty list where there are no held-out prompts. Nothing is done where the folder has the rows already, as after
        a stop behind an evaluation. Raises GraceOver where it is cut off.
        """
        if not self.data.eval:
            return []
        assert self._rollouts is not None and self._scoring is not None and self._runlog is not None
        if recorded := self._runlog.evaluation(self.progress.step):
            return recorded
        with self.stop.cut_off():
            rows = evaluate(self.data.eval, self._rollouts, self._scoring, self.config.eval, self.progress.step)
        self._runlog.write_evaluation(rows)
        return rows

    def save(self) -> None:
        """Write a checkpoint of the state after the last update, beside what comes next."""
        assert self._saver is not None and self._runlog is not None
        self._runlog.flush()  # nobody makes the rollouts again that a checkpoint stands behind
        self._saver.save(self.progress, self._boundary or self._parts())
        self._saved_step = self.progress.step

    def _parts(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint holds besides learner and counters, as of now; see `_load`."""
        assert self._rollouts is not None
        parts = {"curriculum": self._curriculum.state_dict(), "rollouts": self._rollouts.state_dict()}
        return parts | ({"leftovers": self._leftovers.state_dict()} if len(self._leftovers) else {})

    def close(self) -> None:
        """End the actors and Ray."""
        if self._monitor is not None:
            self._monitor.close()
        if self._saver is not None:
            self._saver.close(_ROUND_END_S)
        if self._rollouts is not None:
            self._rollouts.close()
        if self._scoring is not None:
            self._scoring.close()
        if self._ahead is not None:
            # Its requests fail now that the actors are gone; after Ray's end they would start a Ray of their own.
            self._ahead.close(_ROUND_END_S)
        if self._runlog is not None:
            self._runlog.close()
        stop_ray()

    def _report_fault(self, fault: Fault) -> None:
        self._display.note(f"{fault.who} {fault.reason}")
        if self._runlog is not None:
            self._runlog.note_fault(fault, self.progress.step)

    def _note_stage(self, stage: str) -> None:
        """Write down what the run does now; not what it does beside that."""
        if self._runlog is not None and stage != "total" and threading.get_ident() == self._thread:
            self._runlog.note_stage(stage, self.progress.step + 1)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
