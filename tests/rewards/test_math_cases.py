"""The cases that ship with the math reward, and what its references may be."""

from __future__ import annotations

import pytest

from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.math import Math, validate_reference

_CASES = builtin_cases("math")


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_math_gets_its_cases_right(case: Case, math_reward: Math) -> None:
    score = math_reward.score(case.completion, case.answer)
    assert case.is_met_by(score), f"{case.response[:100]!r} for {case.answer!r} ({case.note}): {score}"


def test_there_are_many_cases_and_hostile_ones() -> None:
    assert len(_CASES) >= 250
    assert sum("hostile" in case.note for case in _CASES) >= 25


def test_a_right_answer_has_all_the_value_and_a_wrong_one_none(math_reward: Math) -> None:
    for case in _CASES[:50]:
        score = math_reward.score(case.completion, case.answer)
        assert score is not None and score.value == float(bool(score.correct))


@pytest.mark.parametrize(
    "reference", ["5", r"\frac12", "x=3", r"\text{Evelyn}", "(1,2)", r"\{1,2\}", "no solution", "50%", "三分之二"]
)
def test_good_references_are_accepted(reference: str) -> None:
    assert validate_reference(reference) is None


@pytest.mark.parametrize("reference", ["", "  ", "nan", r"\frac{1}{", "1/0", "10^{10^{10}}", "1 2 3", "9" * 1001])
def test_references_that_cannot_be_used_are_found_before_training(reference: str) -> None:
    reason = validate_reference(reference)
    assert reason is not None and "\n" not in reason
