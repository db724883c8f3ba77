"""Charts: tolerance by the kind of the reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.rewards.chart import Chart

_REWARD = Chart()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("2015.0", "2015"), ("two thousand fifteen", "2015"), ("2014", "2,015"), ("1e2", "100"), ("$-5", "-$5"),
     ("5 million people", "5,000,000"), ("5k", "5000"), ("12.50", "12.5"), ("0.12", "12%"),
     ("Asia: 50%", "Asia: 50%"), ("12:30", "12:30"), ("blue and red", "red and blue"), ("33.4%", "33.3%"),
     ("1.02 million", "1 million"), ("100 units", "100"), ("N/A", "N/A"), ("3/4", "0.75"), ("5€", "€5")],
)  # fmt: skip
def test_right_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 1.0, match.detail


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("100%", "100"), ("1", "100"), ("2,016", "2015"), ("FY2015", "2015"), ("2015-2016", "2015"),
     ("2015, 2016", "2015"), ("100 (approx)", "100"), ("≈100", "100"), ("100±2", "100"), ("(5)", "-5"),
     ("5m", "5 million"), ("12", "0.12"), ("Asia: 50", "Asia: 50%"), ("12:31", "12:30"),
     ("Jan 2020", "January 2020"), ("blue or red", "red and blue"), ("blue", "blue or red"), ("33.33", "33.3%"),
     ("1,02", "102"), ("1.234.567", "1234567"), ("1,00", "100"), ("100 and 200", "100"), ("100 million", "100"),
     ("100 or", "100"), ("100?", "100"), ("3:4", "3/4"), ("5€", "$5")],
)  # fmt: skip
def test_wrong_answers(answer: str, reference: str) -> None:
    assert _REWARD.validate(reference) is None
    match = _REWARD.match(answer, reference)
    assert match.value == 0.0, match.detail
    assert match.detail


@given(st.integers(1000, 3000), st.integers(1000, 3000))
def test_years_are_exact_without_a_question(answer: int, reference: int) -> None:
    assert _REWARD.match(str(answer), str(reference)).value == float(answer == reference)


@given(st.integers(3001, 10**9), st.floats(-0.1, 0.1))
def test_values_are_right_within_the_tolerance(reference: int, off: float) -> None:
    answer = round(reference * (1 + off), 3)
    error = abs(answer - reference) / reference
    if abs(error - 0.025) > 1e-9:
        assert _REWARD.match(f"{answer}", str(reference)).value == float(error < 0.025)


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.integers(3001, 10**6))
def test_a_wider_tolerance_never_makes_wrong_of_right(one: float, other: float, reference: int) -> None:
    narrow, wide = sorted((one, other))
    answer = str(int(reference * 1.03))
    right = [_REWARD.match(answer, str(reference), tolerance=tolerance).value for tolerance in (narrow, wide)]
    assert right[0] <= right[1]


@given(st.text(max_size=80), st.sampled_from(["100", "2015", "Asia", "[1, 2]", "a: 1, b: 2", "50%"]))
def test_no_answer_raises(answer: str, reference: str) -> None:
    assert _REWARD.match(answer, reference).value in (0.0, 1.0)


@given(st.permutations(["Asia", "Europe", "Africa", "America"]))
def test_labels_match_in_any_order(labels: list[str]) -> None:
    assert _REWARD.match(", ".join(labels), "Africa, America, Asia, Europe").value == 1.0


def test_the_kind_of_a_reference_may_be_said() -> None:
    assert _REWARD.match("101", "100").value == 1.0
    assert _REWARD.match("101", "100", kind="count").value == 0.0
    assert _REWARD.match("2016", "2015", kind="value").value == 1.0
    assert _REWARD.match("1.0", "1", kind="label").value == 0.0


def test_the_question_tells_counts() -> None:
    assert _REWARD.match("101", "100", question="How many bars are there?").value == 0.0
    assert _REWARD.match("101", "100", messages=[{"role": "user", "content": "How many bars are there?"}]).value == 0.0


@pytest.mark.parametrize(
    ("reference", "columns"),
    [("", {}), ("nan", {}), ("100", {"tolerance": -1}), ("100", {"tolerance": "wide"}), ("100", {"kind": "price"}),
     ("Asia", {"kind": "year"}), ("x" * 3000, {}), ("100", {"ordered": "yes"}), ("[1, NaN]", {})],
)  # fmt: skip
def test_references_and_columns_that_cannot_be_used_are_found(reference: str, columns: dict[str, object]) -> None:
    reason = _REWARD.validate(reference, **columns)
    assert reason is not None and "\n" not in reason


@pytest.mark.parametrize("options", [{"tolerance": 2}, {"tolerance": "0.1"}, {"ordered": 1}])
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(RewardError, match="option"):
        Chart(**options)  # type: ignore[arg-type]
