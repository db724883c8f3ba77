"""Math answers: numbers, expressions, intervals, sets, tuples, matrices, equations and inequalities.

The way of an answer, each step dearer than the one before it: the same text; the same number (`fractions.Fraction`);
seen before; a tree of our own grammar, compared by exact normal forms and by value; sympy, in a worker process with a
deadline. No text is ever evaluated, and everything that could grow has a limit (`rlcs.rewards.mathtext.tree`).

What is the same answer is said in `rlcs.rewards.mathtext.compare` and `same_number`. In short: `50` is not `50%`, a
rounded decimal is not an exact value, but an exact value is the decimal that it rounds to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.extract import ExtractOptions, extract_answer
from rlcs.rewards.mathtext.compare import Comparison
from rlcs.rewards.mathtext.grammar import parse_normalized
from rlcs.rewards.mathtext.normalize import normalize, plain_words
from rlcs.rewards.mathtext.numbers import parse_number, same_number
from rlcs.rewards.mathtext.tree import MAX_CHARACTERS, MathTextError, Node
from rlcs.rewards.workers import KillablePool, WorkerOutcome
from rlcs.types import Score

_CACHE_SIZE = 65_536
_CACHED_CHARACTERS = 300
"""Longer texts are not remembered: they are rare, and a policy that rambles must not fill the memory."""
_NO_NUMBERS = frozenset({"nan", "null"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right, and how that was found."""

    correct: bool
    detail: str
    outcome: WorkerOutcome = WorkerOutcome.OK
    """Not OK if the symbolic comparison did not come to its end."""
    seconds: float | None = field(default=None, compare=False)
    """Time that the symbolic comparison took, if there was one just now."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Two trees that only sympy may tell apart."""

    response: Node
    reference: Node


class MathMatcher:
    """Compares answers with references; other rewards that need mathematical equality share it.

    Args:
        timeout_s: deadline of one symbolic comparison.
        memory_mb: what a symbolic comparison may allocate.
    """

    def __init__(self, *, timeout_s: float = 2.0, memory_mb: int = 1024) -> None:
        self._pool = KillablePool("rlcs.rewards.mathtext.symbolic:compare", timeout_s=timeout_s, memory_mb=memory_mb)
        self._cache: OrderedDict[tuple[str, str], Verdict] = OrderedDict()

    def start(self) -> None:
        """Let the worker processes import sympy in the background; the first undecided pair does it otherwise."""
        self._pool.start()

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def match(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """A verdict for each (answer, reference). Never raises for what a text holds."""
        verdicts: dict[tuple[str, str], Verdict] = {}
        undecided: dict[tuple[str, str], Undecided] = {}
        for pair in pairs:
            if pair in verdicts or pair in undecided:
                continue
            known = self._cache.get(pair)
            found = known or match_without_sympy(*pair)
            if isinstance(found, Undecided):
                undecided[pair] = found
            else:
                verdicts[pair] = found
                if known is None:
                    self._remember(pair, found)
        requests = [[task.response, task.reference] for task in undecided.values()]
        for pair, result in zip(undecided, self._pool.run(requests), strict=True):
            verdict = _verdict_of_worker(result.outcome, result.value, result.detail)
            verdicts[pair] = replace(verdict, seconds=result.seconds)
            if verdict.outcome not in (WorkerOutcome.TIMEOUT, WorkerOutcome.CRASH):  # these may be the machine's fault
                self._remember(pair, verdict)
        return [verdicts[pair] for pair in pairs]

    def _remember(self, pair: tuple[str, str], verdict: Verdict) -> None:
        if len(pair[0]) + len(pair[1]) > _CACHED_CHARACTERS:
            return
        self._cache[pair] = verdict
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)


class Math(Reward):
    """1 if the boxed answer equals the reference, else 0 with the reason.

    Args:
        extract: how the answer is found in a response.
        timeout_s: deadline of one symbolic comparison.
        memory_mb: what a symbolic comparison may allocate.
    """

    def __init__(self, extract: ExtractOptions | None = None, *, timeout_s: float = 2.0, memory_mb: int = 1024) -> None:
        self._extract = extract or ExtractOptions()
        self._matcher = MathMatcher(timeout_s=timeout_s, memory_mb=memory_mb)

    def setup(self) -> None:
        self._matcher.start()

    def close(self) -> None:
        self._matcher.close()

    def validate(self, answer: str, **columns: Any) -> str | None:
        return validate_reference(answer)

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Reward.score_batch`; what needs sympy goes to the workers in one batch."""
        extractions = [extract_answer(completion, self._extract) for completion in completions]
        pairs = [(e.answer, answer) for e, answer in zip(extractions, answers, strict=True) if e.ok]
        verdicts = iter(self._matcher.match(pairs))
        scores: list[Score | None] = []
        for extraction in extractions:
            if not extraction.ok:
                self.count(f"format_{extraction.outcome}")
                scores.append(Score(0.0, correct=False, detail=extraction.detail))
                continue
            verdict = next(verdicts)
            if verdict.outcome is not WorkerOutcome.OK:
                self.count(verdict.outcome)
            scores.append(Score(float(verdict.correct), verdict.correct, {}, verdict.detail, verdict.seconds))
        return scores


def validate_reference(answer: str) -> str | None:
    """Why a reference answer cannot be compared with, or None."""
    text = answer.strip()
    if plain_words(text[:MAX_CHARACTERS]) in _NO_NUMBERS:
        return f"the reference answer {text!r} is no number"
    tree = _read(text)
    if isinstance(tree, str):
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        return f"the reference answer {shown!r} cannot be read: {tree}"
    return None


def match_without_sympy(answer: str, reference: str) -> Verdict | Undecided:
    """The verdict on an answer, if it takes no sympy."""
    answer, reference = answer.strip(), reference.strip()
    if answer == reference:
        if plain_words(answer[:20]) in _NO_NUMBERS:
            return Verdict(False, f"{answer} is no number")
        return Verdict(True, "the same text")
    if len(answer) > MAX_CHARACTERS:
        return Verdict(False, f"the answer is longer than {MAX_CHARACTERS} characters")
    try:
        number = parse_number(answer)
        if number is not None:
            other = parse_number(reference)
            if other is not None:
                return Verdict(same_number(number, other), "compared as numbers")
        tree = _parse(answer)
    except MathTextError as error:
        if plain_words(answer) == plain_words(reference) and plain_words(answer) not in _NO_NUMBERS:
            return Verdict(True, "the same words")
        return Verdict(False, f"the answer cannot be read: {error}")
    expected = _read(reference)
    if isinstance(expected, str):
        same = plain_words(answer) == plain_words(reference)
        return Verdict(same, "the same words" if same else f"the reference cannot be read: {expected}")
    if _same_choice(answer, reference):
        return Verdict(True, "the same choice")
    comparison = Comparison()
    try:
        same_tree = comparison.same(tree, expected)
    except (MathTextError, RecursionError) as error:
        return Verdict(False, f"the answer cannot be compared: {error}")
    if same_tree is None:
        return Undecided(tree, expected)
    how = "compared by value (numeric)" if comparison.used_numeric else "compared exactly"
    return Verdict(same_tree, how)


def _parse(text: str) -> Node:
    return _parse_short(text) if len(text) <= _CACHED_CHARACTERS else _parse_any(text)


def _parse_any(text: str) -> Node:
    try:
        return parse_normalized(normalize(text))
    except RecursionError as error:  # the limits make this all but impossible; it depends on the caller's stack
        raise MathTextError("the answer is nested too deeply") from error


_parse_short = lru_cache(maxsize=16_384)(_parse_any)


@lru_cache(maxsize=16_384)  # references come from the dataset
def _read(text: str) -> Node | str:
    """The tree of a reference, or why there is none."""
    try:
        return _parse(text)
    except MathTextError as error:
        return str(error)


def _same_choice(answer: str, reference: str) -> bool:
    """`(B)`, `B.` and `b` for the reference `B`."""
    letter = reference.strip("() .")
    return len(letter) == 1 and letter in "ABCDEFGHIJ" and plain_words(answer).strip("() .") == letter.casefold()


def _verdict_of_worker(outcome: WorkerOutcome, value: Any, detail: str) -> Verdict:
    if outcome is not WorkerOutcome.OK:
        return Verdict(False, f"the comparison failed: {detail}", outcome)
    verdict, is_numeric = value
    if verdict is None:
        return Verdict(False, "could not be shown to be equal")
    return Verdict(bool(verdict), "compared by sympy" + (" (numeric)" if is_numeric else ""))
