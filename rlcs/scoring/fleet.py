"""The scoring fleet: spreads responses over actors, survives the ones that hang or die, and combines the scores.

Actors pull units of work (one reward, a few whole groups) as they become free. A unit that is late costs its actor its
life: the actor is replaced and the unit's samples are scored one by one, so that only the sample that hangs gets 0.
Built-in rewards bound each sample themselves (`rlcs.rewards.workers`); this is the net below them and the protection of
everybody's own rewards.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlcs.config import RewardConfig
from rlcs.errors import RewardError
from rlcs.plugins import absolute_form
from rlcs.scoring.actor import ScoringActor, Unit, UnitResult
from rlcs.scoring.combine import combine
from rlcs.types import Group, Score

logger = logging.getLogger(__name__)

_UNIT_SAMPLES = 64
"""A unit takes whole groups until it has this many samples."""
_LOAD_TIMEOUT_S = 300.0
"""For a reward's imports and `setup`, which may load a model."""
_GRACE_S = 5.0
"""Added to a unit's deadline, for the way to the actor and back on a busy machine."""


@dataclass(slots=True)
class _Member:
    """An actor and what it is doing."""

    actor: Any
    unit: Unit | None = None
    call: Any = None
    deadline: float = 0.0


class ScoringFleet:
    """Scores groups with the rewards of `config`, or with `default_reward` where it names none.

    Raises:
        RewardError: a reward cannot be found, made or set up.
    """

    def __init__(self, config: RewardConfig, default_reward: str) -> None:
        self._forms = [absolute_form(form) for form in (config.functions or [default_reward])]
        self._weights = list(config.weights) or [1.0] * len(self._forms)
        self._timeout_s = config.timeout_s
        self._cpus = config.cpus_per_actor
        self._members: list[_Member] = []
        self._counts: Counter[str] = Counter()
        try:
            self._members = [_Member(self._start()) for _ in range(config.num_actors)]
            loaded = [self._load(member) for member in self._members]
            self.names = _distinct(loaded[0])
        except BaseException:
            self.close()
            raise

    def score(self, groups: list[Group]) -> dict[str, float]:
        """Fill `response.reward` of every response. Returns metrics under `scoring/`.

        Metrics: `scoring/seconds`; the mean of each reward, `scoring/mean/NAME`, where there are several; and counts:
        `scoring/timeouts`, `scoring/crashes`, `scoring/not_applicable` and whatever the rewards count, such as
        `scoring/format_no_box`.

        Raises:
            RewardError: a reward raised or returned something that is no list of scores.
        """
        if not self._members:
            raise RewardError("the scoring fleet is closed")
        started = time.perf_counter()
        self._counts = Counter({"timeouts": 0, "crashes": 0, "not_applicable": 0})
        scores = self._score_all(groups)
        position = 0
        for group in groups:
            for response in group.responses:
                combined = combine(self.names, self._weights, [column[position] for column in scores])
                if combined is None:
                    self._counts["not_applicable"] += 1
                    combined = Score(0.0, detail="no reward applies to this prompt")
                response.reward = combined
                position += 1
        metrics = {f"scoring/{event}": float(times) for event, times in self._counts.items()}
        if len(self.names) > 1:
            for name, column in zip(self.names, scores, strict=True):
                values = [score.value for score in column if score is not None]
                if values:
                    metrics[f"scoring/mean/{name}"] = float(np.mean(values))
        metrics["scoring/seconds"] = time.perf_counter() - started
        return metrics

    def close(self) -> None:
        """End the actors and the processes that they started."""
        import ray

        for member in self._members:
            with contextlib.suppress(Exception):  # an actor that is dead or stuck is killed all the same
                ray.get(member.actor.close.remote(), timeout=2.0)
            ray.kill(member.actor)
        self._members = []

    def _score_all(self, groups: list[Group]) -> list[list[Score | None]]:
        """[rewards][responses] the scores of all responses, in order."""
        import ray

        num_samples = sum(len(group.responses) for group in groups)
        scores: list[list[Score | None]] = [[None] * num_samples for _ in self._forms]
        todo = deque(_make_units(groups, len(self._forms), len(self._members)))
        try:
            while todo or any(member.unit is not None for member in self._members):
                for member in self._members:
                    if member.unit is None and todo:
                        self._hand_over(member, todo.popleft())
                busy = [member for member in self._members if member.unit is not None]
                patience = max(0.0, min(member.deadline for member in busy) - time.monotonic())
                done, _ = ray.wait([member.call for member in busy], timeout=patience)
                now = time.monotonic()
                for member in busy:
                    if member.call in done:
                        self._collect(member, scores, todo)
                    elif member.deadline <= now:
                        self._give_up(member, "timeouts", f"timed out after {self._timeout_s:g} s", scores, todo)
        finally:
            for member in self._members:
                member.unit = member.call = None
        return scores

    def _hand_over(self, member: _Member, unit: Unit) -> None:
        member.unit = unit
        member.deadline = time.monotonic() + unit.num_samples * self._timeout_s + _GRACE_S
        member.call = member.actor.score.remote(unit)

    def _collect(self, member: _Member, scores: list[list[Score | None]], todo: deque[Unit]) -> None:
        import ray

        unit = member.unit
        assert unit is not None
        try:
            result: UnitResult = ray.get(member.call)
        except ray.exceptions.RayActorError:
            self._give_up(member, "crashes", "the scoring process died", scores, todo)
            return
        if result.error is not None:
            raise RewardError(result.error)
        self._counts.update(result.counts)
        positions = [position for of_prompt in unit.positions for position in of_prompt]
        for position, score in zip(positions, result.scores, strict=True):
            scores[unit.reward][position] = score
        member.unit = member.call = None

    def _give_up(
        self, member: _Member, event: str, reason: str, scores: list[list[Score | None]], todo: deque[Unit]
    ) -> None:
        """Replace the actor. A unit of one sample is scored 0, a larger one is taken apart and tried again."""
        import ray

        unit = member.unit
        assert unit is not None
        if unit.num_samples == 1:
            logger.warning("reward %s: %s on prompt %s: scored 0", self.names[unit.reward], reason, unit.prompts[0].id)
            self._counts[event] += 1
            scores[unit.reward][unit.positions[0][0]] = Score(0.0, correct=False, detail=reason)
        else:
            todo.extendleft(_take_apart(unit))
        ray.kill(member.actor)
        member.actor, member.unit, member.call = self._start(), None, None
        self._load(member)

    def _start(self) -> Any:
        import ray

        actor_class = ray.remote(num_cpus=self._cpus, max_restarts=0)(ScoringActor)
        return actor_class.remote(self._forms, self._timeout_s)

    def _load(self, member: _Member) -> list[str]:
        import ray

        try:
            names, error = ray.get(member.actor.load.remote(), timeout=_LOAD_TIMEOUT_S)
        except ray.exceptions.GetTimeoutError:
            raise RewardError(
                f"rewards {', '.join(self._forms)} were not set up within {_LOAD_TIMEOUT_S:g} s: see the actor's log"
            ) from None
        except ray.exceptions.RayActorError as failure:
            line = " ".join(str(failure).split())[:300]
            raise RewardError(f"the scoring actor died while it set up {', '.join(self._forms)}: {line}") from None
        if error is not None:
            raise RewardError(error)
        loaded: list[str] = names
        return loaded


def _make_units(groups: list[Group], num_rewards: int, num_actors: int) -> list[Unit]:
    """Units of whole groups, since a reward function may look at the responses of a prompt together."""
    num_samples = sum(len(group.responses) for group in groups)
    size = max(1, min(_UNIT_SAMPLES, -(-num_samples // (2 * num_actors))))
    units = []
    for reward in range(num_rewards):
        position = 0
        unit = Unit(reward, [], [], [])
        for group in groups:
            count = len(group.responses)
            unit.prompts.append(group.prompt)
            unit.texts.append([response.text for response in group.responses])
            unit.positions.append(list(range(position, position + count)))
            position += count
            if unit.num_samples >= size:
                units.append(unit)
                unit = Unit(reward, [], [], [])
        if unit.num_samples:
            units.append(unit)
    return units


def _take_apart(unit: Unit) -> list[Unit]:
    """A unit for each sample."""
    return [
        Unit(unit.reward, [prompt], [[text]], [[position]])
        for prompt, texts, positions in zip(unit.prompts, unit.texts, unit.positions, strict=True)
        for text, position in zip(texts, positions, strict=True)
    ]


def _distinct(names: list[str]) -> list[str]:
    """Names for parts and metrics; a second `f` becomes `f#2`."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct
