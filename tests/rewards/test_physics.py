"""The physics verifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.physics import Physics
from rlcs.rewards.quantity_text import read_quantities
from rlcs.rewards.value_text import QuantityTextError

_CASES = builtin_cases("physics")
_settings = settings(max_examples=100, deadline=None)
_UNITS = ["m/s", r"\,\mathrm{N}", "°C", "%", "", "rad", "米", "kg·m²/s²", r"\ \Omega"]


@pytest.fixture(scope="module")
def physics() -> Iterator[Physics]:
    reward = Physics()
    yield reward
    reward.close()


def is_right(physics: Physics, answer: str, reference: str, **columns: Any) -> bool:
    return physics.match(answer, reference, **columns).value == 1.0


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_physics_gets_its_cases_right(case: Case, physics: Physics) -> None:
    score = physics.score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.response[:100]!r} for {case.answer!r} ({case.note}): {score}"


def test_the_references_of_right_cases_can_be_used(physics: Physics) -> None:
    reasons = {case.answer: physics.validate(case.answer, **case.columns) for case in _CASES if case.correct}
    assert {answer: reason for answer, reason in reasons.items() if reason} == {}


@pytest.mark.parametrize("reference", ["", " ", "nan", "nan m", "1/0 m", r"\frac{1}{", "inf", "9" * 3000, "5 {"])
def test_references_that_cannot_be_used_are_found_before_training(physics: Physics, reference: str) -> None:
    reason = physics.validate(reference)
    assert reason is not None and "\n" not in reason


@pytest.mark.parametrize(
    "columns", [{"unit": "foo"}, {"unit": 3}, {"tolerance": "high"}, {"tolerance": -1}, {"require_unit": "yes"}]
)
def test_columns_that_cannot_be_used_are_found_before_training(physics: Physics, columns: dict[str, Any]) -> None:
    assert physics.validate("5 m", **columns)


@pytest.mark.parametrize("options", [{"tolerance": -0.1}, {"tolerance": float("nan")}, {"require_unit": 1}])
def test_bad_options_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError):
        Physics(**options)


def test_options_change_the_rules() -> None:
    lenient = Physics(tolerance=0.05, require_unit=False)
    assert lenient.match("5.2", "5 m").value == 1.0
    assert lenient.match("5.2 kg", "5 m").value == 0.0


@_settings
@given(st.integers(-(10**6), 10**6), st.sampled_from(_UNITS))
def test_a_quantity_is_itself_in_any_spelling(physics: Physics, number: int, unit: str) -> None:
    reference = f"{number} {unit}"
    for answer in (f"{number}{unit}", f"${number}\\,{unit}$", f"x = {number} {unit}", f"{number}.0 {unit}"):
        assert is_right(physics, answer, reference), answer
    assert not is_right(physics, f"{number + 1 + abs(number) // 1000} {unit}", reference)


@_settings
@given(
    st.integers(1, 10**6),
    st.sampled_from([("m", "km", 1000), ("s", "h", 3600), ("J", "kWh", 3_600_000), ("°", "rev", 360)]),
)
def test_a_conversion_is_right_and_its_number_in_the_other_unit_wrong(
    physics: Physics, number: int, units: tuple[str, str, int]
) -> None:
    small, large, factor = units
    assert is_right(physics, f"{number * factor} {small}", f"{number} {large}")
    assert is_right(physics, f"{number} {large}", f"{number * factor} {small}")
    assert not is_right(physics, f"{number} {small}", f"{number} {large}")
    assert not is_right(physics, f"{number * factor}" if small != "°" else f"{number}", f"{number} {large}")


@_settings
@given(st.floats(1.0, 1000.0), st.integers(1, 4))
def test_what_rounds_to_a_decimal_reference_is_right(physics: Physics, value: float, places: int) -> None:
    reference = f"{value:.{places}f}"
    assert is_right(physics, f"{value:.9f} m", f"{reference} m") or float(reference) * 0.01 < 0.5 * 10**-places


@_settings
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=5, unique=True))
def test_the_order_of_quantities_counts_without_names(physics: Physics, numbers: list[int]) -> None:
    plain = ", ".join(f"{number} m" for number in numbers)
    assert not is_right(physics, ", ".join(f"{number} m" for number in reversed(numbers)), plain)
    assert is_right(physics, ", ".join(f"{number} m" for number in reversed(numbers)), plain, ordered=False)
    named = [f"x_{index} = {number} m" for index, number in enumerate(numbers)]
    assert is_right(physics, ", ".join(reversed(named)), ", ".join(named))


def test_a_missing_unit_has_a_reason(physics: Physics) -> None:
    assert physics.match("5", "5 m").detail == "the unit is missing"
    assert "convert" in physics.match("5 kg", "5 m").detail


def test_words_are_left_to_a_judge_and_numbers_are_not(physics: Physics) -> None:
    assert physics.match("it speeds up", "the velocity increases").is_open
    assert not physics.match("it is 5 m", "5 m").is_open
    assert not physics.match("6 m", "5 m").is_open


@pytest.mark.parametrize("template", ["__import__('os').system('touch {path}')", "5 __import__('os').system('touch {path}')",
                                      "5 [open('{path}','w')]", "m**open('{path}','w')"])  # fmt: skip
@pytest.mark.parametrize("reference", ["5 m", "mgh", "faster"])
def test_nothing_is_executed(physics: Physics, template: str, reference: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    assert physics.match(template.format(path=marker), reference).value == 0.0
    assert not marker.exists()


def test_the_messages_of_a_row_do_no_harm(physics: Physics) -> None:
    score = physics.score(render_response("", "5 m"), "500 cm", messages=[{"role": "user", "content": "?"}], tier=None)
    assert score is not None and score.value == 1.0


_TOKENS = ["5", "3.2", "m", "/", "s", "^", "{", "}", "(", ")", "[", ",", ";", " or ", " and ", "\\hat{i}", "\\frac", "\\sqrt",
           "=", "x", "\\pi", "×10^", "°", "C", "%", " ", "up", "向右", "\\text{", "-", "+", "e9", "999", "!", "\\langle ", "nan",
           "≈", "\x00", "\u202e"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(_TOKENS), max_size=30).map("".join) | st.text(max_size=200),
    st.sampled_from(sorted({case.answer for case in _CASES if case.correct})),
)
def test_nothing_raises(physics: Physics, answer: str, reference: str) -> None:
    assert physics.match(answer.strip() or "0", reference).value in (0.0, 1.0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS), max_size=30).map("".join) | st.text(max_size=600))
def test_any_text_is_quantities_or_an_error_of_ours(text: str) -> None:
    try:
        assert read_quantities(text).items
    except QuantityTextError as error:
        assert str(error)
