"""The chemistry verifier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.chemistry import Chemistry

_CASES = builtin_cases("chemistry")


@pytest.fixture(scope="module")
def chemistry() -> Iterator[Chemistry]:
    reward = Chemistry()
    yield reward
    reward.close()


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_chemistry_gets_its_cases_right(case: Case, chemistry: Chemistry) -> None:
    score = chemistry.score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.response[:100]!r} for {case.answer!r} ({case.note}): {score}"


def test_the_references_of_right_cases_can_be_used(chemistry: Chemistry) -> None:
    reasons = {case.answer: chemistry.validate(case.answer, **case.columns) for case in _CASES if case.correct}
    assert {answer: reason for answer, reason in reasons.items() if reason} == {}


@pytest.mark.parametrize(
    "reference", ["", "nan", "H2 + O2 -> H2O", "2H2 + O2 -> ", "Fe^{3+} -> Fe^{2+}", "1/0 mol", "5 {"]
)
def test_references_that_cannot_be_used_are_found_before_training(chemistry: Chemistry, reference: str) -> None:
    reason = chemistry.validate(reference)
    assert reason is not None and "\n" not in reason


def test_names_are_left_to_a_judge_and_wrong_formulae_are_not(chemistry: Chemistry) -> None:
    assert chemistry.match("sodium", "Na").is_open
    assert chemistry.match("isobutane", "2-methylpropane").is_open
    assert not chemistry.match("K", "Na").is_open
    assert not chemistry.match("H2 + O2 -> H2O", "2H2 + O2 -> 2H2O").is_open


def test_the_reason_says_what_is_wrong(chemistry: Chemistry) -> None:
    assert "balanced in O" in chemistry.match("H2 + O2 -> H2O", "2H2 + O2 -> 2H2O").detail
    assert "charge" in chemistry.match("Fe^{2+}", "Fe^{3+}").detail
    assert "state" in chemistry.match("H2O(g)", "H2O(l)").detail


def test_a_formula_keeps_its_case_and_a_word_does_not(chemistry: Chemistry) -> None:
    assert chemistry.match("CO", "Co").value == 0.0
    assert chemistry.match("no2", "NO2").value == 0.0
    assert chemistry.match("no", "No").value == 1.0


_TOKENS = ["H", "2", "O", "Na", "+", "-", "->", "=", "^", "{", "}", "_", "(", ")", "[", "]", "(aq)", "·", ",", " and ", ">",
           "mol", "/L", "1s", "III", "\\ce{", "\\frac", " ", "methyl", "°C", "e", "\x00", "\u202e", "5.0"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(_TOKENS), max_size=30).map("".join) | st.text(max_size=200),
    st.sampled_from(sorted({case.answer for case in _CASES if case.correct})),
)
def test_nothing_raises(chemistry: Chemistry, answer: str, reference: str) -> None:
    assert chemistry.match(answer.strip() or "0", reference).value in (0.0, 1.0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS), max_size=30).map("".join) | st.text(max_size=300))
def test_a_reference_that_is_accepted_is_met_by_itself(chemistry: Chemistry, reference: str) -> None:
    if chemistry.validate(reference) is None:
        assert chemistry.match(reference.strip(), reference).value == 1.0
        assert chemistry.match(f" {reference.strip()} ", reference).value == 1.0
