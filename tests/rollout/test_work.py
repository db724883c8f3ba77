"""The request queue and the length estimate, without Ray or vLLM."""

from __future__ import annotations

import heapq
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rollout.work import LengthEstimator, WorkQueue, deal
from rlcs.types import Prompt

COSTS = st.lists(st.floats(min_value=1, max_value=1000), max_size=60)


def prompt(domain: str = "a", tier: int | None = None) -> Prompt:
    return Prompt(id="x", messages=[{"role": "user", "content": "?"}], answer="1", domain=domain, tier=tier)


@given(costs=COSTS, engines=st.integers(1, 5), most=st.integers(1, 8))
def test_every_request_is_handed_out_once(costs: list[float], engines: int, most: int) -> None:
    queue = WorkQueue()
    queue.fill(costs, engines)
    taken: list[int] = []
    while part := queue.take(most):
        assert len(part) <= most
        taken += part
    assert sorted(taken) == list(range(len(costs)))
    assert queue.take(most) == []


@given(costs=COSTS)
def test_the_longest_request_comes_first(costs: list[float]) -> None:
    queue = WorkQueue()
    queue.fill(costs, 2)
    order = []
    while part := queue.take(1):
        order += part
    assert [costs[index] for index in order] == sorted(costs, reverse=True)


def test_one_pull_leaves_work_for_the_other_engines() -> None:
    queue = WorkQueue()
    queue.fill([10.0] * 40, 4)
    assert len(queue.take(40)) == 10


def test_a_slow_engine_does_not_idle_the_others() -> None:
    """With one engine ten times slower, the fast ones end at about the same time as the best possible split."""
    costs = [float(c) for c in np.random.default_rng(0).integers(50, 150, 200)]
    speeds = [1.0, 1.0, 1.0, 0.1]
    queue = WorkQueue()
    queue.fill(costs, len(speeds))
    clock = [(0.0, engine) for engine in range(len(speeds))]
    ends = [0.0] * len(speeds)
    while clock:
        now, engine = heapq.heappop(clock)
        part = queue.take(2)
        if part:
            ends[engine] = now + sum(costs[index] for index in part) / speeds[engine]
            heapq.heappush(clock, (ends[engine], engine))
    best = sum(costs) / sum(speeds)
    assert max(ends[:3]) < 1.1 * best
    assert max(ends) < 1.4 * best  # dealt once, the slow engine would take 7.75 times as long


def test_length_estimate_learns_by_domain_and_tier() -> None:
    lengths = LengthEstimator(default=100.0)
    assert lengths.estimate(prompt()) == 100.0
    lengths.observe(prompt("a", 1), np.asarray([10, 30]))
    assert lengths.estimate(prompt("a", 1)) == 20.0
    assert lengths.estimate(prompt("b", 1)) == 20.0  # never seen: as long as the others
    for _ in range(50):
        lengths.observe(prompt("a", 1), np.asarray([50]))
    assert abs(lengths.estimate(prompt("a", 1)) - 50) < 1


@given(costs=COSTS, engines=st.integers(1, 5))
def test_requests_are_dealt_once_longest_first_and_evenly(costs: list[float], engines: int) -> None:
    shares = deal(costs, engines)
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    for share in shares:
        own = [costs[index] for index in share]
        assert own == sorted(own, reverse=True)
    loads = [sum(costs[index] for index in share) for share in shares]
    assert max(loads) - min(loads) <= max(costs, default=0) + 1e-6


def test_length_estimates_survive_a_stop() -> None:
    lengths = LengthEstimator(default=100.0)
    lengths.observe(prompt("a", 1), np.asarray([10, 20]))
    lengths.observe(prompt("b"), np.asarray([40]))
    again = LengthEstimator(default=7.0)
    again.load_state_dict(json.loads(json.dumps(lengths.state_dict())))
    for each in (prompt("a", 1), prompt("b"), prompt("c", 3)):
        assert again.estimate(each) == lengths.estimate(each)
