"""Lists and pairs in short answers."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rewards.items import ItemsError, match_items, read_json, read_list, read_pairs


@pytest.mark.parametrize(
    "text", ['["a", "b", "c"]', "['a', 'b', 'c']", "[a, b, c]", "a, b, c", "a, b and c", "a, b, and c", "a;b;c", "a、b、c",
      "- a\n- b\n- c", "1. a\n2. b\n3. c"]
)  # fmt: skip
def test_lists_are_read(text: str) -> None:
    assert read_list(text) == ["a", "b", "c"]


def test_thousands_quotes_and_brackets_are_not_split() -> None:
    assert read_list("1,234, 5") == ["1,234", "5"]
    assert read_list('"a, b", c') == ["a, b", "c"]
    assert read_list("f(x, y), z") == ["f(x, y)", "z"]
    assert read_list("1,234") is None


@pytest.mark.parametrize(
    "text", ['{"a": 1, "b": 2.50}', "{'a': 1, 'b': 2.50}", "a: 1, b: 2.50", "a = 1; b = 2.50", "a：1\nb：2.50"]
)
def test_pairs_are_read_and_numbers_keep_their_spelling(text: str) -> None:
    assert read_pairs(text) == {"a": "1", "b": "2.50"}


@pytest.mark.parametrize(
    "text", ["", "a", "a: 1, a: 2", '{"a": 1, "a": 2}', '{"a": {"b": 1}}', "a: 1, b", "{" * 2000, "a:" * 1000]
)
def test_other_texts_are_no_pairs(text: str) -> None:
    assert read_pairs(text) is None


@pytest.mark.parametrize(
    "text",
    ["[NaN]", "[Infinity]", "[" * 1999, '{"a": 1, "a": 1}', "[[[[[[[[[[1]]]]]]]]]]", "3", "", "[1" + ", 1" * 300 + "]"],
)
def test_json_beyond_the_limits_is_refused(text: str) -> None:
    with pytest.raises(ItemsError):
        read_json(text)


@given(st.text(alphabet="ab,;:={}[]()'\"\n 1", max_size=80))
def test_no_text_raises(text: str) -> None:
    read_list(text)
    read_pairs(text)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4))
def test_items_match_if_some_order_of_them_does(fits: list[list[bool]]) -> None:
    names = list("0123")
    expected = any(all(fits[row][column] for row, column in enumerate(order)) for order in permutations(range(4)))
    assert match_items(names, names, lambda a, b: fits[int(a)][int(b)], ordered=False) == expected


def test_order_counts_if_asked_for() -> None:
    def same(one: str, other: str) -> bool:
        return one == other

    assert match_items(["a", "b"], ["b", "a"], same, ordered=False)
    assert not match_items(["a", "b"], ["b", "a"], same, ordered=True)
    assert not match_items(["a", "a"], ["a", "b"], same, ordered=False)
