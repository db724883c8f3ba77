"""What the verifiers of the paper's domains share: find the answer, compare it by rule, ask a judge where rules end.

The order is the paper's (GLM-4.1V-Thinking, arXiv 2507.01006, section 5): extract the boxed answer, exact match, the
domain's own comparison, else the judge, if one is configured. A verifier writes the comparison, `match`; everything
else is here.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.extract import ExtractOptions, extract_answer
from rlcs.types import Score


@dataclass(frozen=True, slots=True)
class Match:
    """What an answer is worth by rule."""

    value: float
    """In [0, 1]."""
    detail: str = ""
    """Why, for a person."""
    correct: bool | None = None
    """Whether it is right; a value of 1 is right and any other is wrong if None."""
    parts: dict[str, float] = field(default_factory=dict)
    """Named components of the value."""
    is_open: bool = False
    """No rule settles it: a judge decides, and `value` stands where there is none."""
    event: str | None = None
    """Counted in the metrics: a time-out, an answer that cannot be read."""
    seconds: float | None = field(default=None, compare=False)
    """Time that the comparison took, where that was measured."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A question for a judge."""

    domain: str
    """Which of the judge's instructions to use."""
    question: str
    reference: str
    answer: str
    """The marked answer, or the answer segment where the domain marks none."""


class Judge(Protocol):
    """Decides what rules cannot (`rlcs.rewards.judge`)."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Score | None]:
        """A score for each request; None where no verdict could be had."""
        ...


class Verifier(Reward):
    """A reward that compares the one marked answer with the reference.

    Args:
        extract: how the answer is found in a response.
        judge: decides what `match` leaves open; without one the match's own value stands.
    """

    def __init__(self, extract: ExtractOptions | None = None, *, judge: Judge | None = None) -> None:
        self._extract = extract or ExtractOptions()
        self._judge = judge

    @abstractmethod
    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        """Compare an answer, stripped and not empty, with the reference. Never raises for what `answer` holds."""

    def match_batch(self, answers: Sequence[str], references: Sequence[str], columns: Sequence[Columns]) -> list[Match]:
        """`match` of many answers; override it where a batch is cheaper than its parts."""
        matches = []
        for answer, reference, row in zip(answers, references, columns, strict=True):
            started = time.perf_counter()
            match = self.match(answer, reference, **row)
            matches.append(replace(match, seconds=time.perf_counter() - started))
        return matches

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Reward.score_batch`. A judge without a verdict leaves the match's own value and counts `no_verdict`."""
        scores: list[Score | None] = [None] * len(completions)
        found: list[int] = []
        texts: list[str] = []
        for index, completion in enumerate(completions):
            extraction = extract_answer(completion, self._extract)
            if extraction.ok:
                found.append(index)
                texts.append(extraction.answer)
            else:
                self.count(f"format_{extraction.outcome}")
                scores[index] = Score(0.0, correct=False, detail=extraction.detail)
        matches = self.match_batch(texts, [answers[index] for index in found], [columns[index] for index in found])
        is_open: list[int] = []
        requests: list[JudgeRequest] = []
        for index, text, match in zip(found, texts, matches, strict=True):
            correct = match.value >= 1.0 if match.correct is None else match.correct
            scores[index] = Score(match.value, correct, match.parts, match.detail, match.seconds)
            if match.event:
                self.count(match.event)
            if match.is_open and self._judge is not None:
                is_open.append(index)
                requests.append(JudgeRequest(self.name, question_of(columns[index]), answers[index], text))
        if requests and self._judge is not None:
            for index, verdict in zip(is_open, self._judge.judge(requests), strict=True):
                self.count("no_verdict" if verdict is None else "judged")
                scores[index] = verdict or scores[index]
        return scores


def question_of(columns: Columns) -> str:
    """The question of a row: its `question` column, else the text of the last message of `messages`."""
    question = columns.get("question")
    if isinstance(question, str):
        return question
    messages = columns.get("messages") or []
    content = messages[-1].get("content", "") if messages else ""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping)).strip()
