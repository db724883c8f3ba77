"""The scoring actor: holds the rewards of a run and scores what it is handed. Runs in a Ray worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from rlcs.errors import RewardError
from rlcs.rewards.loading import LoadedReward, load_reward
from rlcs.types import Prompt, Score

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unit:
    """Work for an actor: one reward, whole groups of responses."""

    reward: int
    """Index of the reward."""
    prompts: list[Prompt]
    texts: list[list[str]]
    """The responses to each prompt."""
    positions: list[list[int]]
    """For the driver: where each response stands among all responses of the call."""

    @property
    def num_samples(self) -> int:
        """Responses in the unit."""
        return sum(len(texts) for texts in self.texts)


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What an actor returns; `error` is the message of a RewardError, since Ray would wrap the exception itself."""

    scores: list[Score | None] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    error: str | None = None


class ScoringActor:
    """Loads every reward of a run once."""

    def __init__(self, forms: list[str], timeout_s: float) -> None:
        self._forms = forms
        self._timeout_s = timeout_s
        self._rewards: list[LoadedReward] = []

    def load(self) -> tuple[list[str], str | None]:
        """Load and set up the rewards. Returns their names, and the message of a RewardError if there was one."""
        try:
            for form in self._forms:
                reward = load_reward(form, timeout_s=self._timeout_s)
                self._rewards.append(reward)
                reward.setup()
        except RewardError as error:
            return [], str(error)
        return [reward.name for reward in self._rewards], None

    def score(self, unit: Unit) -> UnitResult:
        """Scores of the unit's responses, in order."""
        prompts = [prompt for prompt, texts in zip(unit.prompts, unit.texts, strict=True) for _ in texts]
        texts = [text for of_prompt in unit.texts for text in of_prompt]
        reward = self._rewards[unit.reward]
        try:
            scores = reward.score_batch(prompts, texts)
        except RewardError as error:
            return UnitResult(error=str(error))
        return UnitResult(scores, reward.take_counts())

    def close(self) -> None:
        """Release what the rewards hold."""
        for reward in self._rewards:
            reward.close()
