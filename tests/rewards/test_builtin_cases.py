"""The cases that ship with the built-in rewards: every one is met, and every reference is as usable as its case says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from rlcs.errors import DataError
from rlcs.reward_commands.check import prompt_of
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.loading import BUILTIN_REWARDS, LoadedReward, load_reward

WITHOUT_CASES = {"episode", "judge", "reward_model", "reasoning_gym"}
"""What these give depends on an environment or a model, or on tasks that reasoning-gym makes."""

OPTIONS = {"code": {"enabled": True}}

NAMES = [name for name in BUILTIN_REWARDS if name not in WITHOUT_CASES]


@cache
def cases_of(name: str) -> list[Case]:
    try:
        return builtin_cases(name)
    except DataError:
        return []


CASES = [pytest.param(name, case, id=f"{name}-{case.line}") for name in NAMES for case in cases_of(name)]


@pytest.fixture(scope="module")
def rewards() -> Iterator[dict[str, LoadedReward]]:
    """The rewards that were used, each made once."""
    made: dict[str, LoadedReward] = {}
    yield made
    for reward in made.values():
        reward.close()


def load(rewards: dict[str, LoadedReward], name: str) -> LoadedReward:
    if name not in rewards:
        rewards[name] = load_reward(name, options=OPTIONS.get(name))
        rewards[name].setup()
    return rewards[name]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_case_is_met(rewards: dict[str, LoadedReward], name: str, case: Case) -> None:
    reward = load(rewards, name)
    (score,) = reward.score_batch([prompt_of(case)], [case.completion])
    assert case.is_met_by(score), f"{case.response[:100]!r} for {case.answer[:100]!r} ({case.note}): {score}"
    assert score is not None and (score.value == 1.0 or score.detail), "less than everything is given with a reason"
    assert "verifier_errors" not in reward.take_counts()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_reference_is_accepted_or_refused_with_a_reason(
    rewards: dict[str, LoadedReward], name: str, case: Case
) -> None:
    reason = load(rewards, name).validate(prompt_of(case))
    assert (reason is None) == case.valid, f"{case.answer[:100]!r} ({case.note}): {reason}"
    assert reason is None or (reason.strip() and "\n" not in reason)


@pytest.mark.parametrize("name", NAMES)
def test_each_built_in_reward_ships_cases_of_both_kinds(name: str) -> None:
    cases = cases_of(name)
    full = [case for case in cases if case.correct or (case.value is not None and case.value >= 1)]
    assert len(cases) >= 25, f"{name} has {len(cases)} cases"
    assert full and len(full) < len(cases), "right ones and wrong ones"
    assert all(case.note for case in cases), "each says what it is about"
    inputs = [(case.response, case.answer, repr(sorted(case.columns.items()))) for case in cases]
    twice = {entry for entry in inputs if inputs.count(entry) > 1}
    assert not twice, f"the same case twice: {sorted(twice)[:3]}"


def test_there_are_many_cases_and_hostile_ones() -> None:
    cases = [case for name in NAMES for case in cases_of(name)]
    assert len(cases) >= 300
    assert sum("hostile" in case.note for case in cases) >= 40
