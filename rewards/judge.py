"""The reward `judge`: an LLM decides on every answer of a domain that has no right and wrong by rule.

The judge itself, on any OpenAI-compatible endpoint, is `rlcs.rewards.llm_judge`; other rewards ask it where their rules
end (`rlcs.rewards.verifier`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.extract import ExtractOptions, extract_answer
from rlcs.rewards.judge_prompts import DOMAINS
from rlcs.rewards.llm_judge import LLMJudge, make_judge
from rlcs.rewards.open_answer import OpenAnswer, read_open_answer
from rlcs.rewards.verifier import Judge, JudgeRequest, question_of
from rlcs.types import Score

__all__ = ["Judged", "LLMJudge", "make_judge"]


class Judged(Reward):
    """A reward for open-ended domains: a judge decides on every answer.

    The judge reads the answer segment, not the thinking. A response that breaks the format, or has box markers in an
    open-ended answer, gets 0 unasked. A row's `domain` chooses the judge's rules (`general` for domains it does not
    know); its `question` column, or the last message of the conversation, is the question. A request without a verdict
    gets None: this reward is then left out for that response.

    Args:
        extract: how the parts of a response are found.
        judge: who decides (`reward.judge` in the configuration).
        boxed: the domain marks short answers with a box, and the judge reads what is in it.
        domain: the judge's rules for all rows, whatever their `domain` column says.

    Raises:
        RewardError: there is no judge, or no rules of that name.
    """

    name = "judge"

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        boxed: bool = False,
        domain: str | None = None,
    ) -> None:
        if judge is None:
            raise RewardError(
                "reward 'judge' needs a judge: set reward.judge.base_url (an OpenAI-compatible endpoint, e.g. "
                "http://127.0.0.1:8000/v1) and reward.judge.model"
            )
        if domain is not None and domain not in DOMAINS:
            raise RewardError(f"reward 'judge' has no rules for domain {domain!r}; it has {', '.join(DOMAINS)}")
        self._extract = extract or ExtractOptions()
        self._judge = judge
        self._boxed = boxed
        self._domain = domain

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Reward.score_batch`. Counts `judged`, `no_verdict` and faults of the format."""
        scores: list[Score | None] = [None] * len(completions)
        asked: list[int] = []
        requests: list[JudgeRequest] = []
        for index, (completion, answer, row) in enumerate(zip(completions, answers, columns, strict=True)):
            found = self._read(completion)
            if found.problem:
                self.count(found.event)
                scores[index] = Score(0.0, correct=False, detail=found.problem)
                continue
            domain = self._domain or str(row.get("domain", "general"))
            asked.append(index)
            requests.append(JudgeRequest(domain, question_of(row), answer, found.text))
        if requests:
            for index, verdict in zip(asked, self._judge.judge(requests), strict=True):
                self.count("no_verdict" if verdict is None else "judged")
                scores[index] = verdict
        return scores

    def validate(self, answer: str, **columns: Any) -> str | None:
        return None if answer.strip() else "the reference is empty, so a judge has nothing to compare with"

    def _read(self, completion: str) -> OpenAnswer:
        if not self._boxed:
            return read_open_answer(completion, self._extract)
        extraction = extract_answer(completion, self._extract)
        if extraction.ok:
            return OpenAnswer(extraction.answer)
        return OpenAnswer(problem=extraction.detail, event=f"format_{extraction.outcome}")
