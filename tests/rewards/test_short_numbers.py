"""Amounts in short answers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.rewards.short_numbers import read_amount, same_amount, tolerance_of


@pytest.mark.parametrize(
    ("text", "value"),
    [("$5.2 million", 5_200_000), ("12 %", "3/25"), ("三个", 3), ("twenty-one", 21), ("1,234 kg", 1234), ("5百万", 5_000_000),
     ("3.5亿元", 350_000_000), ("-$3", -3), ("one hundred and five apples", 105), ("３", 3), ("a dozen", 12), ("3½", "7/2"),
     ("百分之五十", "1/2"), ("3千克", 3), ("US$5bn", 5 * 10**9), ("\\$5", 5), ("2.0e3", 2000), ("3×10^2", 300),
     ("one million two hundred thousand", 1_200_000), ("1万亿", 10**12), ("1 1/2 cups", "3/2"), ("minus three", -3)],
)  # fmt: skip
def test_amounts_are_read(text: str, value: str | int) -> None:
    amount = read_amount(text)
    assert amount is not None and amount.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "about 5", "~5", "5+", "3-4", "3 or 4", "5 to 6", "three four", "twenty-eleven", "10²", "两三个", "十几个", "三十多",
     "一百二", "nan", "inf", "1e999999999", "9" * 5000, "12:30", "3 and", "3rd", "3.5 or so", "3 (three)", "a", "hundred", "1,00",
     "1/0", "5 million billion", "$5 €"],
)  # fmt: skip
def test_hedges_and_other_texts_are_no_amounts(text: str) -> None:
    assert read_amount(text) is None


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    read_amount(text)


@given(st.text(alphabet="0123456789.,/ -+e%$kM三十百万亿½²百分之个ab", max_size=30))
def test_no_text_of_number_characters_raises(text: str) -> None:
    read_amount(text)


@given(st.integers(-(10**12), 10**12))
def test_separators_and_scripts_do_not_change_a_number(value: int) -> None:
    spellings = [str(value), f"{value:,}", str(value).translate(str.maketrans("0123456789", "０１２３４５６７８９"))]
    assert {amount.value for amount in map(read_amount, spellings) if amount} == {Fraction(value)}


def test_units_and_currencies() -> None:
    def same(one: str, other: str) -> bool:
        mine, theirs = read_amount(one), read_amount(other)
        assert mine is not None and theirs is not None
        return same_amount(mine, theirs)

    assert same("5 kilograms", "5 kg")
    assert same("5", "5 kg")
    assert not same("5 g", "5 kg")
    assert not same("5 mW", "5 MW")
    assert not same("€5", "$5")
    assert same("5 dollars", "$5")
    assert not same("5", "5%")
    assert not same("5 kg", "5%")


@pytest.mark.parametrize("value", [-0.1, 1, 2.5, "0.1", True, float("nan"), float("inf"), None])
def test_tolerances_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(RewardError, match="tolerance"):
        tolerance_of(value, "option tolerance")
