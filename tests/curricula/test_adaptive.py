"""Where the second request's responses go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.curricula.adaptive import allocate_responses


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(0.05, 4), st.integers(0, 4)), min_size=1, max_size=30), st.data())
def test_the_budget_is_kept_and_no_group_gets_too_many(
    groups: list[tuple[float, float, int]], data: st.DataObject
) -> None:
    means, variances, right = (np.asarray(x) for x in zip(*groups, strict=True))
    budget = data.draw(st.integers(0, 400))
    extra = allocate_responses(means, variances, right, 4, budget, 10)
    assert extra.sum() == min(budget, 10 * len(groups))
    assert extra.min() >= 0 and extra.max() <= 10


def test_settled_groups_get_nothing_while_others_want_more() -> None:
    means, variances = np.asarray([0.0, 4.0, -4.0]), np.full(3, 0.5)
    extra = allocate_responses(means, variances, np.asarray([2, 4, 0]), 4, 10, 10)
    assert extra.tolist() == [10, 0, 0]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="budget is negative"):
        allocate_responses(np.zeros(1), np.ones(1), np.zeros(1, dtype=int), 4, -1, 4)
    with pytest.raises(ValueError, match="more right responses"):
        allocate_responses(np.zeros(1), np.ones(1), np.asarray([5]), 4, 4, 4)
