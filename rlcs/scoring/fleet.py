"""The scoring fleet: sends each response to the rewards of its domain, and combines what they say.

Rewards live in Ray actors on CPUs (`rlcs.scoring.pool`), the reward model in an actor of its own, so that it is loaded
once. A prompt goes only to the rewards of its domain's recipe (`rlcs.scoring.recipes`): nothing is asked of a judge
that no score needs.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from rlcs.config import RewardConfig
from rlcs.errors import RewardError
from rlcs.scoring.combine import combine
from rlcs.scoring.metrics import reward_means
from rlcs.scoring.pool import ActorPool
from rlcs.scoring.recipes import Recipe, make_recipes
from rlcs.scoring.units import Unit, make_units
from rlcs.types import Group, Score
from rlcs.vitals import Watched


class ScoringFleet:
    """Scores groups with the rewards of `config`, or with `default_reward` where it names none.

    Raises:
        ConfigError: the settings of the rewards contradict each other.
        RewardError: a reward cannot be found, made or set up.
    """

    def __init__(self, config: RewardConfig, default_reward: str) -> None:
        self._recipes = make_recipes(config, default_reward)
        specs = dict(enumerate(self._recipes.specs))
        on_cpus = {index: spec for index, spec in specs.items() if not spec.is_model}
        self._pools: list[ActorPool] = []
        self._counts: Counter[str] = Counter()
        try:
            if on_cpus:
                self._pools.append(ActorPool(on_cpus, config, size=config.num_actors, num_gpus=0))
            for index, spec in specs.items():
                if spec.is_model:
                    self._pools.append(ActorPool({index: spec}, config, size=1, num_gpus=config.model.num_gpus))
            for pool in self._pools:
                pool.load()
        except BaseException:
            self.close()
            raise
        self._name_of = {index: reward.name for pool in self._pools for index, reward in pool.loaded.items()}

    def score(self, groups: list[Group]) -> dict[str, float]:
        """Fill `response.reward` of every response. Returns metrics under `scoring/`.

        Metrics: `scoring/seconds`; the mean of each reward over the responses that it applied to, `scoring/mean/NAME`,
        how many these were, `scoring/samples/NAME`, and how many it failed on, `scoring/timeouts/NAME` and
        `scoring/errors/NAME`; and counts: `scoring/timeouts`, `scoring/crashes`, `scoring/not_applicable` and whatever
        the rewards count, such as `scoring/format_no_box`. `rlcs.scoring.merge_metrics` makes one of those of several
        calls.

        Raises:
            RewardError: a reward raised or returned something that is no list of scores.
            EngineError: the reward model failed twice.
        """
        if not self._pools:
            raise RewardError("the scoring fleet is closed")
        started = time.perf_counter()
        self._counts = Counter({"timeouts": 0, "crashes": 0, "not_applicable": 0})
        for name in self._name_of.values():
            self._counts.update({f"timeouts/{name}": 0, f"errors/{name}": 0})
        scores, seconds = self._score_all(groups)
        values: dict[str, list[float]] = defaultdict(list)
        position = 0
        for group in groups:
            recipe = self._recipes.of(group.prompt.domain)
            names = self._names(recipe)
            for response in group.responses:
                of_response = [scores[index].get(position) for index in recipe.rewards]
                for name, score in zip(names, of_response, strict=True):
                    if score is not None:
                        values[name].append(score.value)
                response.reward = self._combine(recipe, names, of_response)
                response.reward_seconds = {
                    name: seconds[index][position] for name, index in zip(names, recipe.rewards, strict=True)
                }
                position += 1
        metrics = {f"scoring/{event}": float(times) for event, times in self._counts.items()}
        metrics.update(reward_means(values))
        metrics["scoring/seconds"] = time.perf_counter() - started
        return metrics

    def watched(self) -> list[Watched]:
        """The actors, for `rlcs.monitor`; one that holds the reward model comes last."""
        members = [member for pool in self._pools for member in pool.members]
        return [Watched(f"scorer-{index}", "scoring", *member) for index, member in enumerate(members)]

    def waiting(self) -> int:
        """Responses that wait for a reward."""
        return sum(pool.waiting for pool in self._pools)

    def close(self) -> None:
        """End the actors and the processes that they started."""
        for pool in self._pools:
            pool.close()
        self._pools = []

    def _combine(self, recipe: Recipe, names: Sequence[str], scores: Sequence[Score | None]) -> Score:
        combined = combine(
            names,
            recipe.weights,
            scores,
            mode=recipe.mode,
            is_gate=recipe.is_gate,
            gate_threshold=recipe.gate_threshold,
            gate_cap=recipe.gate_cap,
        )
        if combined is None:
            self._counts["not_applicable"] += 1
            return Score(0.0, detail="no reward applies to this prompt")
        return combined

    def _names(self, recipe: Recipe) -> list[str]:
        """Names for parts and metrics; a second `f` of a recipe becomes `f#2`."""
        return _distinct(self._name_of[index] for index in recipe.rewards)

    def _score_all(self, groups: list[Group]) -> tuple[list[dict[int, Score | None]], list[dict[int, float]]]:
        """[rewards] the scores of each, and [rewards] the seconds they took, by the position of the response among all."""
        import ray

        scores: list[dict[int, Score | None]] = [{} for _ in self._recipes.specs]
        seconds: list[dict[int, float]] = [{} for _ in self._recipes.specs]

        def deliver(unit: Unit, of_unit: Sequence[Score | None], times: Sequence[float]) -> None:
            positions = [position for of_prompt in unit.positions for position in of_prompt]
            scores[unit.reward].update(zip(positions, of_unit, strict=True))
            seconds[unit.reward].update(zip(positions, times, strict=True))

        try:
            for pool in self._pools:
                for reward in pool.specs:
                    pool.add(make_units(reward, self._groups_for(reward, groups), pool.size))
            while any(pool.is_busy for pool in self._pools):
                for pool in self._pools:
                    pool.hand_out()
                calls = [call for pool in self._pools for call in pool.calls]
                patience = max(0.0, min(pool.next_deadline for pool in self._pools) - time.monotonic())
                done, _ = ray.wait(calls, timeout=patience)
                for pool in self._pools:
                    pool.collect(done, deliver, self._counts)
        finally:
            for pool in self._pools:
                pool.drop()
        return scores, seconds

    def _groups_for(self, reward: int, groups: list[Group]) -> list[tuple[int, Group]]:
        """The groups that a reward scores, each with the position of its first response."""
        found = []
        position = 0
        for group in groups:
            if reward in self._recipes.of(group.prompt.domain).rewards:
                found.append((position, group))
            position += len(group.responses)
        return found


def _distinct(names: Iterable[str]) -> list[str]:
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct
