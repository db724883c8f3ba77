"""Scoring actors that hold the same rewards: they pull units as they become free, and one that is late is replaced.

A unit's deadline is the sum of its samples' (`reward.timeout_s`, or what a reward says of itself), and the judge's time
where it asks one. A unit that is late, or whose actor dies, costs its actor its life, and its samples are scored one by
one, so that only the sample that hangs, or that two actors died over, gets 0. A unit whose reward raises is scored once
more before the run ends for it. Built-in rewards bound each sample themselves (`rlcs.rewards.workers`, the
judge's own time limits); this is the net below them and the protection of everybody's own rewards. The reward model is
no part of that: its failure is never a sample's fault, so a unit is tried once more and then the run ends.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcs.actors import ActorProcess, end_actor
from rlcs.config import RewardConfig
from rlcs.errors import EngineError, RewardError, one_line
from rlcs.scoring.actor import Loaded, ScoringActor
from rlcs.scoring.metrics import failures_of
from rlcs.scoring.recipes import RewardSpec
from rlcs.scoring.units import Unit, UnitResult, take_apart
from rlcs.types import Score

logger = logging.getLogger(__name__)

_LOAD_TIMEOUT_S = 300.0
"""For a reward's imports and `setup`, which may load a model."""
_LOAD_DEATHS = 2
"""How often an actor may die while it loads before its rewards are to blame."""
_GRACE_S = 5.0
"""Added to a unit's deadline, for the way to the actor and back on a busy machine."""

Deliver = Callable[[Unit, Sequence[Score | None], Sequence[float]], None]
"""Takes the scores of a unit, and the seconds that each took."""


@dataclass(slots=True)
class _Member:
    """An actor and what it is doing."""

    actor: Any
    process: ActorProcess | None = None
    restarts: int = 0
    unit: Unit | None = None
    call: Any = None
    begun: float = 0.0
    deadline: float = 0.0


class ActorPool:
    """Actors that hold the same rewards.

    Args:
        specs: the rewards, by index.
        config: the settings of the run's rewards.
        size: how many actors.
        num_gpus: GPU share of each.

    Raises:
        RewardError: a reward cannot be found, made or set up.
    """

    def __init__(self, specs: Mapping[int, RewardSpec], config: RewardConfig, *, size: int, num_gpus: float) -> None:
        self.specs = dict(specs)
        self.loaded: dict[int, Loaded] = {}
        self._config = config
        self._num_gpus = num_gpus
        self._todo: deque[Unit] = deque()
        self._members = [_Member(self._start()) for _ in range(size)]

    @property
    def size(self) -> int:
        """Actors."""
        return len(self._members)

    @property
    def members(self) -> list[tuple[Any, int]]:
        """Each actor, and how often it was replaced."""
        return [(member.actor, member.restarts) for member in self._members]

    @property
    def waiting(self) -> int:
        """Responses that no actor has taken yet."""
        return sum(unit.num_samples for unit in list(self._todo))

    @property
    def is_busy(self) -> bool:
        """Whether there are units that wait or are being scored."""
        return bool(self._todo) or any(member.unit is not None for member in self._members)

    @property
    def calls(self) -> list[Any]:
        """What Ray is to be asked for."""
        return [member.call for member in self._members if member.unit is not None]

    @property
    def next_deadline(self) -> float:
        """When the first of the units that are being scored is late, on the monotonic clock."""
        return min((member.deadline for member in self._members if member.unit is not None), default=float("inf"))

    def load(self) -> None:
        """Wait until all actors have set their rewards up. Raises RewardError if one cannot."""
        for member in self._members:
            self._load(member)

    def add(self, units: Sequence[Unit]) -> None:
        """Let units wait for a free actor."""
        self._todo.extend(units)

    def hand_out(self) -> None:
        """Give a unit to each free actor."""
        for member in self._members:
            if member.unit is None and self._todo:
                unit = member.unit = self._todo.popleft()
                member.begun = time.monotonic()
                member.deadline = member.begun + self._limit_s(unit) + _GRACE_S
                member.call = member.actor.score.remote(unit)

    def collect(self, done: Collection[Any], deliver: Deliver, counts: Counter[str]) -> None:
        """Deliver the units of the calls that are done, and give up those that are late.

        Raises:
            RewardError: a reward raised or returned something that is no list of scores.
            EngineError: the reward model failed twice.
        """
        now = time.monotonic()
        for member in self._members:
            if member.unit is None:
                continue
            if member.call in done:
                self._collect(member, member.unit, deliver, counts)
            elif member.deadline <= now:
                reason = f"timed out after {self._limit_s(member.unit):g} s"
                self._give_up(member, member.unit, "timeouts", reason, deliver, counts)

    def drop(self) -> None:
        """Forget all units, the ones that are being scored included."""
        self._todo.clear()
        for member in self._members:
            member.unit = member.call = None

    def close(self) -> None:
        """End the actors and the processes that they started."""
        import ray

        for member in self._members:
            with contextlib.suppress(Exception):  # an actor that is dead or stuck is killed all the same
                ray.get(member.actor.close.remote(), timeout=2.0)
            end_actor(member.actor, member.process)
        self._members = []

    def _collect(self, member: _Member, unit: Unit, deliver: Deliver, counts: Counter[str]) -> None:
        import ray

        try:
            result: UnitResult = ray.get(member.call)
        except ray.exceptions.RayActorError:
            self._give_up(member, unit, "crashes", "the scoring process died", deliver, counts)
            return
        except ray.exceptions.RayTaskError as error:  # not of the reward, whose errors are told in the result
            reason = f"the scoring process failed: {' '.join(str(error.cause or error).split())[-300:]}"
            self._give_up(member, unit, "crashes", reason, deliver, counts)
            return
        if result.error is not None:
            if unit.errors:
                raise RewardError(result.error)
            unit.errors += 1
            logger.warning("%s: %d answers are scored again", result.error, unit.num_samples)
            counts["retries"] += 1
            member.unit = member.call = None
            self._todo.appendleft(unit)
            return
        counts.update(result.counts)
        counts.update(failures_of(self.loaded[unit.reward].name, result.counts))
        member.unit = member.call = None
        deliver(unit, result.scores, result.seconds)

    def _give_up(
        self, member: _Member, unit: Unit, event: str, reason: str, deliver: Deliver, counts: Counter[str]
    ) -> None:
        """Replace the actor. A unit of one sample that is to blame is scored 0, a larger one is taken apart and tried again."""
        member.unit = member.call = None
        name = self.loaded[unit.reward].name
        if self.specs[unit.reward].is_model:
            counts.update({event: 1, **failures_of(name, {event: 1})})
            if unit.attempts:
                raise EngineError(f"the reward model ({self._config.model.path}) failed twice: {reason}")
            unit.attempts += 1
            logger.warning("reward %s: %s: %d answers are scored again", name, reason, unit.num_samples)
            self._todo.appendleft(unit)
        elif event == "crashes" and not unit.attempts:
            # What ended the actor need not be in the unit; whole, it is scored as it would have been.
            unit.attempts += 1
            self._todo.appendleft(unit)
        elif unit.num_samples == 1:
            logger.warning("reward %s: %s on prompt %s: scored 0", name, reason, unit.prompts[0].id)
            counts.update({event: 1, **failures_of(name, {event: 1})})
            deliver(unit, [Score(0.0, correct=False, detail=reason)], [time.monotonic() - member.begun])
        else:
            self._todo.extendleft(take_apart(unit, attempts=int(event == "crashes")))
        end_actor(member.actor, member.process)
        member.actor, member.process = self._start(), None
        member.restarts += 1
        self._load(member)

    def _limit_s(self, unit: Unit) -> float:
        """How long a unit may take. The judge asks so many requests at once, each with retries and pauses."""
        config, samples = self._config, unit.num_samples
        if self.specs[unit.reward].is_model:
            batch_size = max(1, int(self.specs[unit.reward].options["batch_size"]))
            return -(-samples // batch_size) * config.model.timeout_s
        reward = self.loaded[unit.reward]
        rounds = -(-samples // config.judge.concurrency)
        return samples * reward.sample_s + rounds * reward.judge_round_s

    def _start(self) -> Any:
        import ray

        config = self._config
        judge = None if config.judge.base_url is None else config.judge.model_dump()
        actor_class: Any = ray.remote(ScoringActor)
        options = {"num_cpus": config.cpus_per_actor, "num_gpus": self._num_gpus, "max_restarts": 0}
        return actor_class.options(**options).remote(self.specs, config.timeout_s, judge)

    def _load(self, member: _Member) -> None:
        import ray

        forms = ", ".join(spec.form for spec in self.specs.values())
        for deaths in range(1, _LOAD_DEATHS + 1):
            try:
                loading = member.actor.load.remote()
                self.loaded, error = ray.get(loading, timeout=_LOAD_TIMEOUT_S)
                if error is not None:
                    raise RewardError(error)
                member.process = ray.get(member.actor.process.remote(), timeout=_LOAD_TIMEOUT_S)
            except ray.exceptions.GetTimeoutError:
                raise RewardError(
                    f"rewards {forms} were not set up within {_LOAD_TIMEOUT_S:g} s: see the actor's log"
                ) from None
            except ray.exceptions.RayActorError as failure:
                line = one_line(failure)
                if deaths == _LOAD_DEATHS:
                    raise RewardError(f"the scoring actor died while it set up {forms}: {line}") from None
                logger.warning("a scoring actor died while it set up %s, and is started anew: %s", forms, line)
                member.actor = self._start()
                member.restarts += 1
            else:
                return
