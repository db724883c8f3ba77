"""What the environment itself says that an episode of several turns is worth."""

from __future__ import annotations

from typing import Any

from rlcs.rewards.base import Reward
from rlcs.types import Score


class Episode(Reward):
    """The score that an environment gave at the end of an episode, or when it was given up.

    Columns:
        episode: the score (value, correct, parts, detail), put there by whoever played.
    """

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        found = columns.get("episode")
        if not isinstance(found, dict):
            return Score(0.0, correct=False, detail="the response is no episode of an environment of several turns")
        return Score(found["value"], found.get("correct"), found.get("parts") or {}, found.get("detail") or "")
