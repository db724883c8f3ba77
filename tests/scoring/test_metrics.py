"""Metrics of several calls of scoring as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.scoring.metrics import failures_of, merge_metrics, reward_means, sample_seconds
from rlcs.types import Score


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


def test_what_a_sample_took_itself_is_not_shared_out() -> None:
    scores = [Score(1.0, seconds=0.5), None, Score(0.0)]
    assert sample_seconds(scores, 0.9) == pytest.approx([0.5, 0.2, 0.2])
    assert sample_seconds([Score(1.0, seconds=2.0)], 1.0) == [2.0]
    assert sample_seconds([], 1.0) == []


def test_failures_are_time_outs_and_errors() -> None:
    counts = {"timeouts": 2, "memory_limits": 1, "verifier_errors": 3, "format_no_box": 9}
    assert failures_of("math", counts) == {"timeouts/math": 2, "errors/math": 4}
    assert failures_of("math", {"format_no_box": 9}) == {}
