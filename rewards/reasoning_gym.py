"""The verifiers that reasoning-gym ships with its tasks, made safe and strict.

- **Right or wrong.** reasoning-gym gives partial credit: 0.01 for an answer that parses, the share of right letters, an
  exponential of the distance. The value here is 1 if the verifier says 1, else 0. GRPO divides by the group's standard
  deviation, so that among eight wrong answers the one that parses would earn a full advantage, and the curriculum's
  pass rate must count solved prompts. `partial_credit=True` hands over the verifier's value clipped to [0, 1] instead;
  `correct` stays strict.
- **Nothing is evaluated.** Nine tasks' verifiers put the answer through `eval` or sympy's `parse_expr`, and four accept
  wrong answers (any numbers that make 24; any text for a truth value; numbers off by one; `nan` for a complex
  number). These have verifiers of our own (`rlcs.rewards.reasoning_gym_verifiers`).
- **Nothing hangs.** The package's verifiers run in worker processes with a deadline; `1e999999999` stops some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.extract import ExtractOptions, extract_answer
from rlcs.rewards.workers import KillablePool, WorkerOutcome, WorkerResult
from rlcs.types import Score

REFUSED_TASKS = {"composite": "it mixes other tasks, and its verifier needs the mixture's configuration"}
"""Tasks that cannot be scored, and why."""

_MAX_CHARACTERS = 20_000


class ReasoningGym(Reward):
    """Scores the boxed answer with the verifier of the prompt's own task.

    Prompts need two metadata columns: `task`, the task's name, and `entry`, the item that reasoning-gym made.

    Args:
        extract: how the answer is found in a response.
        partial_credit: whether the verifier's value between 0 and 1 is kept.
        timeout_s: deadline of one verification.
        memory_mb: what a verification may allocate.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        partial_credit: bool = False,
        timeout_s: float = 2.0,
        memory_mb: int = 1024,
    ) -> None:
        self._extract = extract or ExtractOptions()
        self._partial_credit = partial_credit
        self._pool = KillablePool(
            "rlcs.rewards.reasoning_gym_verifiers:verify", timeout_s=timeout_s, memory_mb=memory_mb
        )

    def setup(self) -> None:
        self._pool.start()

    def close(self) -> None:
        self._pool.close()

    def validate(self, answer: str, **columns: Any) -> str | None:
        task, entry = columns.get("task"), columns.get("entry")
        if not isinstance(task, str) or not isinstance(entry, dict):
            return "the reward reasoning_gym needs the metadata columns `task` and `entry`, as reasoning-gym made them"
        if task in REFUSED_TASKS:
            return f"reasoning-gym's task {task} cannot be scored: {REFUSED_TASKS[task]}"
        if "answer" not in entry or "metadata" not in entry:
            return "the metadata column `entry` must hold reasoning-gym's item with `answer` and `metadata`"
        return None

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Reward.score_batch`; what is not the very text of the reference goes to the workers in one batch."""
        scores: list[Score | None] = []
        requests, waiting = [], []
        for completion, answer, row in zip(completions, answers, columns, strict=True):
            score, request = self._prepare(completion, answer, row)
            if request is not None:
                waiting.append(len(scores))
                requests.append(request)
            scores.append(score)
        for index, result in zip(waiting, self._pool.run(requests), strict=True):
            scores[index] = self._score_of(result)
        return scores

    def _prepare(self, completion: str, answer: str, row: Columns) -> tuple[Score | None, list[Any] | None]:
        """A score, if it takes no verifier, or the verifier's request."""
        extraction = extract_answer(completion, self._extract)
        if not extraction.ok:
            self.count(f"format_{extraction.outcome}")
            return Score(0.0, correct=False, detail=extraction.detail), None
        reason = self.validate(answer, **row)
        if reason is not None:
            return Score(0.0, correct=False, detail=reason), None
        if extraction.answer == answer.strip():
            return Score(1.0, correct=True, detail="the same text"), None
        if len(extraction.answer) > _MAX_CHARACTERS:
            return Score(0.0, correct=False, detail=f"the answer is longer than {_MAX_CHARACTERS} characters"), None
        return None, [row["task"], extraction.answer, row["entry"]]

    def _score_of(self, result: WorkerResult) -> Score:
        if result.outcome is not WorkerOutcome.OK:
            self.count(result.outcome)
            return Score(0.0, False, {}, f"the verifier failed: {result.detail}", result.seconds)
        value = float(result.value)
        correct = value >= 1 - 1e-9
        kept = min(1.0, max(0.0, value)) if self._partial_credit else float(correct)
        return Score(kept, correct, {}, f"reasoning-gym's verifier gave {value:g}", result.seconds)
