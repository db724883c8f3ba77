"""The verifier that a row names itself: for data of many domains, made by an environment or written in a column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rlcs.errors import RewardError
from rlcs.plugins import load_object
from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.construct import construct
from rlcs.rewards.extract import ExtractOptions
from rlcs.types import Score

VERIFIERS = (
    "chart",
    "chemistry",
    "counting",
    "geo",
    "grounding",
    "gui",
    "instruction",
    "logic",
    "long_document",
    "math",
    "multiple_choice",
    "ocr",
    "physics",
    "spatial",
    "video",
    "vqa",
)
"""Those that a row may name: rules that need no other process but their own, no model and no judge."""


class PerRow(Reward):
    """Scores a response with the built-in verifier that the row's column `verifier` names.

    Other columns of the row reach that verifier as they would otherwise.

    Args:
        extract: how the answer is found in a response.
        verifiers: arguments of verifiers, by name, e.g. {ocr: {ignore_case: true}}.
    """

    def __init__(
        self, extract: ExtractOptions | None = None, *, verifiers: dict[str, dict[str, Any]] | None = None
    ) -> None:
        self._extract = extract or ExtractOptions()
        self._rewards: dict[str, Reward] = {}
        self._ready: set[str] = set()
        self._options = verifiers or {}
        for name in self._options:
            if name not in VERIFIERS:
                raise RewardError(f"reward 'per_row': option verifiers has no {name!r}; it has {', '.join(VERIFIERS)}")
            self._reward(name)

    def close(self) -> None:
        for reward in self._rewards.values():
            reward.close()

    def validate(self, answer: str, **columns: Any) -> str | None:
        name = columns.get("verifier")
        if not isinstance(name, str) or name not in VERIFIERS:
            return f"the column `verifier` must be one of {', '.join(VERIFIERS)}, not {str(name)[:60]!r}"
        return self._reward(name).validate(answer, **columns)

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Reward.score_batch`; the rows of one verifier go to it in one batch."""
        places: dict[str, list[int]] = defaultdict(list)
        scores: list[Score | None] = [None] * len(completions)
        for index, row in enumerate(columns):
            name = row.get("verifier")
            if isinstance(name, str) and name in VERIFIERS:
                places[name].append(index)
            else:
                scores[index] = Score(0.0, correct=False, detail="the row names no verifier")
        for name, indices in places.items():
            reward = self._reward(name)
            if name not in self._ready:
                reward.setup()
                self._ready.add(name)
            scored = reward.score_batch(
                [completions[index] for index in indices],
                [answers[index] for index in indices],
                [columns[index] for index in indices],
            )
            for index, score in zip(indices, scored, strict=True):
                scores[index] = score
            for event, times in reward.take_counts().items():
                self.count(event, times)
        return scores

    def _reward(self, name: str) -> Reward:
        if name not in self._rewards:
            # The loader's table has this reward too.
            from rlcs.rewards.loading import BUILTIN_REWARDS

            cls = load_object(name, group="", builtins=BUILTIN_REWARDS, what="reward", error=RewardError)
            self._rewards[name] = construct(name, cls, {"extract": self._extract}, self._options.get(name, {}))
        return self._rewards[name]
