"""Which requests of a round are answered, and which of them were with an engine when it failed.

Pure bookkeeping: `rlcs.rollout.engine_pool` does what follows from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rlcs.types import Group, Prompt

STRIKES = 2
"""A request whose engine fails so many times while it holds it is set aside: it is taken for the cause."""


class Requests:
    """Requests 0 to n - 1 with their expected tokens, until each is answered once or set aside."""

    def __init__(self, expected_tokens: Sequence[float]) -> None:
        self.expected_tokens = list(expected_tokens)
        """[n]"""
        self.set_aside: list[int] = []
        """Requests that nobody is asked again."""
        self._open = set(range(len(expected_tokens)))
        self._strikes: Counter[int] = Counter()

    @property
    def unanswered(self) -> list[int]:
        """Requests that are still to be done, ascending."""
        return sorted(self._open)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not self._open

    @property
    def suspects(self) -> list[int]:
        """Unanswered requests whose engine failed."""
        return sorted(self._open & self._strikes.keys())

    def answer(self, index: int) -> bool:
        """A request was answered; False if it was before, or was set aside, so that this answer must not count."""
        if index not in self._open:
            return False
        self._open.discard(index)
        return True

    def fail(self, held: Iterable[int]) -> tuple[list[int], list[int]]:
        """An engine failed that held these; returns those to do again, and those that are set aside for it."""
        again: list[int] = []
        aside: list[int] = []
        for index in sorted(self._open.intersection(held)):
            self._strikes[index] += 1
            (aside if self._strikes[index] >= STRIKES else again).append(index)
        self._open.difference_update(aside)
        self.set_aside += aside
        return again, aside


def answered(prompts: Sequence[Prompt], groups: Sequence[Group]) -> list[int]:
    """Where in `prompts` those of `groups` stand, which are in the same order and may lack some (`set_aside`)."""
    places, position = [], 0
    for group in groups:
        while prompts[position] is not group.prompt:
            position += 1
        places.append(position)
        position += 1
    return places
