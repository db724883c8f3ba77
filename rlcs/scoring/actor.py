"""The scoring actor: holds rewards of a run and scores what it is handed. Runs in a Ray worker."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcs.actors import ActorProcess, own_process
from rlcs.errors import RewardError
from rlcs.rewards.loading import LoadedReward, load_reward
from rlcs.scoring.metrics import sample_seconds
from rlcs.scoring.recipes import RewardSpec
from rlcs.scoring.units import Unit, UnitResult
from rlcs.seeding import position_of, seed_process
from rlcs.vitals import Vitals, measure

if TYPE_CHECKING:
    from rlcs.rewards.judge import LLMJudge


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the driver must know of a reward that was set up."""

    name: str
    sample_s: float
    """The longest that one sample may take, requests to the judge left aside."""
    judge_round_s: float = 0.0
    """The longest that the requests to the judge that run at once may take; 0 if it asks no judge."""


class ScoringActor:
    """Loads rewards once, and one judge for all of them.

    Args:
        specs: the rewards that it holds, by index.
        timeout_s: limit of one sample's work.
        judge: arguments of `rlcs.rewards.judge.make_judge`; no judge if None.
    """

    def __init__(self, specs: Mapping[int, RewardSpec], timeout_s: float, judge: Mapping[str, Any] | None) -> None:
        self._specs = specs
        self._timeout_s = timeout_s
        self._judge_settings = judge
        self._judge: LLMJudge | None = None
        self._rewards: dict[int, LoadedReward] = {}

    def load(self) -> tuple[dict[int, Loaded], str | None]:
        """Load and set up the rewards. Returns what they are, and the message of a RewardError if there was one."""
        try:
            self._judge = _make_judge(self._judge_settings)
            for index, spec in self._specs.items():
                if spec.is_model:
                    _use_all_cores()
                reward = load_reward(spec.form, timeout_s=self._timeout_s, options=spec.options, judge=self._judge)
                self._rewards[index] = reward
                reward.setup()
        except RewardError as error:
            return {}, str(error)
        round_s = 0.0 if self._judge is None else self._judge.limit_s(1)
        loaded = {}
        for index, reward in self._rewards.items():
            sample_s = max(self._timeout_s, reward.sample_limit_s or 0.0)
            loaded[index] = Loaded(reward.name, sample_s, round_s if reward.uses_judge else 0.0)
        return loaded, None

    def process(self) -> ActorProcess:
        """This actor's process."""
        return own_process()

    def score(self, unit: Unit) -> UnitResult:
        """Scores of the unit's responses, in order."""
        prompts = [prompt for prompt, texts in zip(unit.prompts, unit.texts, strict=True) for _ in texts]
        texts = [text for of_prompt in unit.texts for text in of_prompt]
        num_tokens = [tokens for of_prompt in unit.num_tokens for tokens in of_prompt]
        episodes = [episode for of_prompt in unit.episodes for episode in of_prompt]
        reward = self._rewards[unit.reward]
        # A reward that draws random numbers gives the same to the same responses, whoever scores them and when.
        seed_process(unit.reward, position_of([*(prompt.id for prompt in prompts), *texts]))
        started = time.perf_counter()
        try:
            scores = reward.score_batch(prompts, texts, num_tokens, episodes)
        except RewardError as error:
            return UnitResult(error=str(error))
        seconds = sample_seconds(scores, time.perf_counter() - started)
        counts = Counter(reward.take_counts())
        if self._judge is not None:
            counts.update(self._judge.take_counts())
        return UnitResult(scores, seconds, dict(counts))

    def vitals(self) -> Vitals:
        """How this process is."""
        return measure()

    def close(self) -> None:
        """Release what the rewards and the judge hold."""
        for reward in self._rewards.values():
            reward.close()
        if self._judge is not None:
            self._judge.close()


def _make_judge(settings: Mapping[str, Any] | None) -> LLMJudge | None:
    if settings is None:
        return None
    from rlcs.rewards.judge import make_judge

    return make_judge(**settings)


def _use_all_cores() -> None:
    """Ray gives an actor one thread; while a reward model scores, nothing else of a run computes."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
