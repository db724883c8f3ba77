"""What a reward is.

A `Reward` judges one response against one reference answer. The base class turns it into a reward function with TRL's
signature, `reward(prompts, completions, **columns) -> list[float | None]`, so that the same object serves here and in
TRL's `GRPOTrainer`. A subclass needs `score`; everything else has a default.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlcs.types import Score

Columns = Mapping[str, Any]
"""The other columns of a prompt's row: `domain`, `tier`, `messages` and every metadata key."""

RESERVED_COLUMNS = frozenset({"self", "prompts", "completions", "completion", "completion_ids", "answer"})
"""Names that a column cannot have: they are arguments of `Reward.score` and of TRL's reward functions."""


class Reward(ABC):
    """A verifier: what a response is worth, given the reference answer.

    Class attributes that a subclass may set:
        name: how tables and metrics call it; the class name in snake case if not set.
    """

    name: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            # __name__ is a property of instances here.
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__qualname__.rpartition(".")[2]).lower().strip("_")

    @property
    def __name__(self) -> str:
        """TRL names a reward function by this."""
        return self.name

    def setup(self) -> None:
        """Load what scoring needs (a model, a file, worker processes). Called once, where scoring happens."""
        return

    def close(self) -> None:
        """Release what `setup` or scoring took: processes, connections. May be called more than once."""
        return

    @abstractmethod
    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        """What `completion` (special tokens kept) is worth against the reference `answer`.

        A fault of the model's text is a `Score` of 0 with a reason in `detail`, never an exception. None means that
        this reward does not apply to the prompt; it is then left out of the weighted sum.
        """

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """`score` of many responses; override it where a batch is cheaper than its parts."""
        scores: list[Score | None] = []
        for completion, answer, row in zip(completions, answers, columns, strict=True):
            started = time.perf_counter()
            score = self.score(completion, answer, **row)
            if isinstance(score, Score) and score.seconds is None:  # whoever called names what is no Score
                score = replace(score, seconds=time.perf_counter() - started)
            scores.append(score)
        return scores

    def validate(self, answer: str, **columns: Any) -> str | None:
        """Why the reference answer cannot be used, or None. Asked before training starts, without `setup`."""
        return None

    def count(self, event: str, times: int = 1) -> None:
        """Count an event (a time-out, a missing box) for the metrics."""
        self._counter()[event] += times

    def take_counts(self) -> dict[str, int]:
        """The events counted since the last call."""
        counter = self._counter()
        counts = dict(counter)
        counter.clear()
        return counts

    def _counter(self) -> Counter[str]:
        # Made on first use, so that subclasses need not call super().__init__().
        counter: Counter[str] = self.__dict__.setdefault("_counts", Counter())
        return counter

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """TRL's reward function: a value in [0, 1] or None for each completion.

        Args:
            prompts: texts or conversations; handed to `score` as `messages`.
            completions: texts, or conversations `[{"role": "assistant", "content": text}]`.
            columns: `answer` and other columns of the dataset as lists of the same length. Whatever else TRL hands
                over (`completion_ids`, `trainer_state`, ...) is left aside.

        Raises:
            ValueError: there is no `answer` column.
        """
        answers = columns.get("answer")
        if answers is None:
            raise ValueError(f"reward {self.name!r} needs a dataset column named `answer` with the reference answers")
        rows = rows_of(columns, len(completions))
        for row, prompt in zip(rows, prompts, strict=False):
            row.setdefault("messages", [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)
        texts = [completion_text(completion) for completion in completions]
        scores = self.score_batch(texts, [str(answer) for answer in answers], rows)
        return [None if score is None else score.value for score in scores]


def completion_text(completion: Any) -> str:
    """The text of a completion in TRL's form: a string, or a conversation whose last message is the assistant's."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def rows_of(columns: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    """Turn columns (name to list) into rows (name to value), leaving aside what is no column of `num_rows` values."""
    kept = {
        name: values
        for name, values in columns.items()
        if name not in RESERVED_COLUMNS and isinstance(values, list | tuple) and len(values) == num_rows
    }
    return [{name: values[row] for name, values in kept.items()} for row in range(num_rows)]
