"""Metrics of several calls of scoring as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.scoring.metrics import merge_metrics, reward_means


def test_means_are_weighted_by_samples_and_all_else_is_summed() -> None:
    first = {"scoring/timeouts": 1.0, "scoring/mean/math": 0.5, "scoring/samples/math": 30.0, "scoring/seconds": 2.0}
    second = {"scoring/timeouts": 2.0, "scoring/mean/math": 0.9, "scoring/samples/math": 10.0, "scoring/seconds": 1.0}
    assert merge_metrics([first, second]) == pytest.approx(
        {"scoring/timeouts": 3.0, "scoring/mean/math": 0.6, "scoring/samples/math": 40.0, "scoring/seconds": 3.0}
    )


def test_a_reward_that_did_not_apply_in_a_call_does_not_count_there() -> None:
    merged = merge_metrics([{"scoring/mean/f": 0.25, "scoring/samples/f": 4.0}, {"scoring/seconds": 1.0}])
    assert merged["scoring/mean/f"] == 0.25
    assert merge_metrics([]) == {}


@given(st.lists(st.lists(st.floats(0, 1), max_size=5), min_size=1, max_size=5))
def test_the_mean_of_several_calls_is_that_of_all_their_samples(calls: list[list[float]]) -> None:
    merged = merge_metrics([reward_means({"f": values}) for values in calls])
    assert merged == pytest.approx(reward_means({"f": [value for values in calls for value in values]}))
