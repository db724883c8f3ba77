"""Work for scoring actors: one reward, whole groups of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlcs.types import Group, Prompt, Score

_UNIT_SAMPLES = 64
"""A unit takes whole groups until it has this many samples."""


@dataclass(slots=True)
class Unit:
    """Work for an actor: one reward, whole groups of responses."""

    reward: int
    """Index of the reward."""
    prompts: list[Prompt] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
    """The responses to each prompt; of an episode, its last turn."""
    num_tokens: list[list[int]] = field(default_factory=list)
    """How long each response is."""
    episodes: list[list[Score | None]] = field(default_factory=list)
    """What the environment says that each response is worth, where it is an episode."""
    positions: list[list[int]] = field(default_factory=list)
    """For the driver: where each response stands among all responses of the call."""
    attempts: int = 0
    """How often it was given up before."""
    errors: int = 0
    """How often its reward raised."""

    @property
    def num_samples(self) -> int:
        """Responses in the unit."""
        return sum(len(texts) for texts in self.texts)


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What an actor returns; `error` is the message of a RewardError, since Ray would wrap the exception itself."""

    scores: list[Score | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Time of each sample: measured where the reward does so, else its share of the rest."""
    counts: dict[str, int] = field(default_factory=dict)
    error: str | None = None


def make_units(reward: int, groups: Sequence[tuple[int, Group]], num_actors: int) -> list[Unit]:
    """Units of whole groups, since a reward function may look at the responses of a prompt together.

    Args:
        reward: index of the reward that scores them.
        groups: each with the position of its first response.
        num_actors: among which the units are spread.
    """
    num_samples = sum(len(group.responses) for _, group in groups)
    size = max(1, min(_UNIT_SAMPLES, -(-num_samples // (2 * num_actors))))
    units = []
    unit = Unit(reward)
    for position, group in groups:
        unit.prompts.append(group.prompt)
        unit.texts.append([response.last_text for response in group.responses])
        unit.num_tokens.append([len(response.token_ids) for response in group.responses])
        unit.episodes.append([response.episode for response in group.responses])
        unit.positions.append(list(range(position, position + len(group.responses))))
        if unit.num_samples >= size:
            units.append(unit)
            unit = Unit(reward)
    if unit.num_samples:
        units.append(unit)
    return units


def take_apart(unit: Unit, attempts: int = 0) -> list[Unit]:
    """A unit for each sample, that was tried so often."""
    return [
        Unit(unit.reward, [prompt], [[text]], [[tokens]], [[episode]], [[position]], attempts=attempts)
        for prompt, of_prompt in zip(
            unit.prompts, zip(unit.texts, unit.num_tokens, unit.episodes, unit.positions, strict=True), strict=True
        )
        for text, tokens, episode, position in zip(*of_prompt, strict=True)
    ]
