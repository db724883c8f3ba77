"""Values made one step ahead: order, errors, and the rounds that are begun beside an update."""

from __future__ import annotations

import threading
from itertools import count

import numpy as np
import pytest

from rlcs.errors import EngineError, RLCSError
from rlcs.look_ahead import LookAhead
from rlcs.rounds import staleness_metrics
from rlcs.types import FinishReason, Group, Prompt, Response


def test_values_come_in_order_whether_begun_or_not() -> None:
    ahead = LookAhead(count().__next__)
    taken = [ahead.take()]
    ahead.begin()
    taken.append(ahead.take())
    taken.append(ahead.take())
    ahead.begin()
    ahead.wait()
    taken.append(ahead.take())
    assert taken == [0, 1, 2, 3]


def test_a_value_that_is_begun_is_made_beside_the_caller() -> None:
    goes_on = threading.Event()
    ahead = LookAhead(lambda: goes_on.wait(10))
    ahead.begin()
    assert ahead.is_pending
    goes_on.set()  # the caller's own work; made in this thread it would never get here
    assert ahead.take() is True
    assert not ahead.is_pending


def test_a_second_one_is_not_begun() -> None:
    ahead = LookAhead(lambda: 1)
    ahead.begin()
    with pytest.raises(ValueError, match="begun already"):
        ahead.begin()


def test_an_error_in_the_thread_is_raised_once_where_it_is_waited_for() -> None:
    def fail() -> int:
        raise EngineError("an engine died")

    ahead = LookAhead(fail)
    ahead.begin()
    with pytest.raises(EngineError, match="an engine died"):
        ahead.wait()
    assert not ahead.is_pending
    ahead.wait()


def test_closing_waits_for_the_thread_and_drops_its_value_and_its_error() -> None:
    ends = threading.Event()

    def fail() -> int:
        ends.wait(10)
        raise EngineError("its engines were ended")

    ahead = LookAhead(fail)
    ahead.begin()
    ends.set()
    ahead.close(10)
    assert not ahead.is_pending
    assert not any(thread.name == "look-ahead" and thread.is_alive() for thread in threading.enumerate())


def test_a_thread_that_hangs_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ends = threading.Event()
    ahead = LookAhead(lambda: ends.wait(10))
    ahead.begin()
    ahead.close(0.01)
    ends.set()
    assert "did not end within" in caplog.text


def group(*versions: int) -> Group:
    responses = [
        Response(np.zeros(1, np.int32), np.zeros(1, np.float32), np.ones(1, bool), "x", FinishReason.STOP, version)
        for version in versions
    ]
    return Group(Prompt("p", [{"role": "user", "content": "?"}], "x"), np.zeros(1, np.int32), responses)


def test_staleness_is_counted_in_updates() -> None:
    metrics = staleness_metrics([group(4, 4), group(3, 3)], version=4, bound=1)
    assert metrics == {"rollout/staleness_mean": 0.5, "rollout/staleness_max": 1.0}


@pytest.mark.parametrize("version", [2, 5])
def test_a_response_over_the_bound_or_from_the_future_stops_the_run(version: int) -> None:
    with pytest.raises(RLCSError, match=f"version {version} of the policy and the learner is at 4"):
        staleness_metrics([group(4, version)], version=4, bound=1)
