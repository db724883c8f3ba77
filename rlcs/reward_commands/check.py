"""`rlcs reward-test`: whether a reward gives cases what they expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcs.errors import DataError, RewardError
from rlcs.reward_commands.choice import RewardChoice
from rlcs.rewards.case_files import Case, builtin_cases, load_cases
from rlcs.rewards.loading import BUILTIN_REWARDS, LoadedReward
from rlcs.terminal_text import printable
from rlcs.types import Prompt, Score

_MAX_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Miss:
    """A case that a reward gets wrong."""

    case: Case
    score: Score | None
    error: str = ""
    """What the reward raised, if it did."""

    def text(self) -> str:
        """The miss in a few lines, for a person."""
        case = self.case
        note = f": {case.note}" if case.note else ""
        response, answer = shorten(case.response), shorten(case.answer)
        lines = [
            f"line {case.line}{note}",
            f"  response {response!r}, reference {answer!r}",
            f"  expected {_expected(case)}, got {self._got()}",
        ]
        reason = self.error or (self.score.detail if self.score is not None else "")
        if reason:
            lines.append(f"  reason   {shorten(reason, 300)}")
        return "\n".join(printable(line) for line in lines)

    def _got(self) -> str:
        if self.error:
            return "an error"
        if self.score is None:
            return "no score (the reward does not apply)"
        return f"{_mark(self.score.correct)}value {self.score.value:g}"


def test_reward(choice: RewardChoice, cases_file: str | None) -> bool:
    """Run a reward on cases and print the misses and a summary; whether there was no miss.

    Raises:
        DataError: the file cannot be read or a line of it is no case; or there is none, and none ships with the reward.
        RewardError: the reward cannot be loaded.
    """
    cases = cases_of(choice.form, cases_file)
    with choice.load() as reward:
        misses = find_misses(reward, cases)
    for miss in misses:
        print(miss.text())
    met = len(cases) - len(misses)
    print(f"{reward.name}: {met} of {len(cases)} cases met" + (f", {len(misses)} missed" if misses else ""))
    return not misses


def cases_of(form: str, cases_file: str | None) -> list[Case]:
    """The cases of a file, or those that ship with a built-in reward. Raises DataError if there are none."""
    if cases_file is not None:
        cases = load_cases(Path(cases_file).expanduser())
    elif form in BUILTIN_REWARDS:
        cases = builtin_cases(form)
    else:
        raise DataError(f"which cases? Name a file: rlcs reward-test {form} cases.jsonl")
    if not cases:
        raise DataError(f"{cases_file or form} holds no cases")
    return cases


def find_misses(reward: LoadedReward, cases: Sequence[Case]) -> list[Miss]:
    """The cases that the reward gets wrong, one by one, so that one that it fails on does not hide the others."""
    reward.setup()
    misses = []
    for case in cases:
        try:
            score = reward.score_batch([prompt_of(case)], [case.completion])[0]
        except RewardError as error:
            misses.append(Miss(case, None, str(error)))
            continue
        if not case.is_met_by(score):
            misses.append(Miss(case, score))
    return misses


def prompt_of(case: Case) -> Prompt:
    """The prompt that a case stands for."""
    columns: dict[str, Any] = dict(case.columns)
    prompt, messages = columns.pop("prompt", None), columns.pop("messages", None)
    if isinstance(prompt, str):
        messages = messages or [{"role": "user", "content": prompt}]
    domain, tier = columns.pop("domain", "default"), columns.pop("tier", None)
    return Prompt(f"line {case.line}", messages or prompt or [], case.answer, str(domain), tier, columns)


def shorten(text: str, limit: int = _MAX_SHOWN) -> str:
    """The beginning of a text."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _expected(case: Case) -> str:
    value = "" if case.value is None else f"value {case.value:g}"
    return (_mark(case.correct) + value).removesuffix(", ")


def _mark(correct: bool | None) -> str:
    return {True: "right, ", False: "wrong, ", None: ""}[correct]
