"""pass@k and the rows of an evaluation."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.evaluation import mean_accuracy, pass_at_k, summarise
from rlcs.progress import evaluation_table
from rlcs.response_format import render_response
from rlcs.types import FinishReason, Group, Prompt, Response, Score


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(numbers: tuple[int, int, int]) -> None:
    n, c, k = numbers
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(n, c, k)


def group(domain: str, tier: int | None, marks: list[bool], text: str = render_response("", "1")) -> Group:
    import numpy as np

    prompt = Prompt(id="p", messages=[{"role": "user", "content": "?"}], answer="1", domain=domain, tier=tier)
    empty = np.zeros(0, dtype=np.int32)
    responses = [
        Response(
            empty, empty.astype(np.float32), empty.astype(bool), text, FinishReason.STOP, 0, Score(float(m), correct=m)
        )
        for m in marks
    ]
    return Group(prompt, empty, responses)


def test_rows_are_by_domain_and_tier() -> None:
    groups = [
        group("b", 1, [True, True]),
        group("a", 0, [True, False], text="no box"),
        group("a", 0, [False, False]),
        group("a", None, [False, True]),
    ]
    rows = summarise(groups, step=3)
    assert [(row.domain, row.tier, row.num_prompts, row.pass_at_1, row.pass_at_k) for row in rows] == [
        ("a", None, 1, 0.5, 1.0),
        ("a", 0, 2, 0.25, 0.5),
        ("b", 1, 1, 1.0, 1.0),
    ]
    assert [row.parsed for row in rows] == [1.0, 0.5, 1.0]
    assert mean_accuracy(rows) == pytest.approx((0.5 + 0.25 * 2 + 1.0) / 4)


def test_the_table_shows_the_change() -> None:
    from rich.console import Console

    before = summarise([group("a", 0, [True, False]), group("a", 4, [False, False])], 0)
    after = summarise([group("a", 0, [True, True]), group("a", 4, [False, True])], 9)
    console = Console(width=140, record=True)
    console.print(evaluation_table(before, after))
    text = console.export_text()
    assert "very easy" in text and "very hard" in text
    assert text.count("+50.0") == 3  # both tiers and the domain
