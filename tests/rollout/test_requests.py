"""Which requests are done again, and which are set aside; without Ray or vLLM."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import TooManyFaultsError
from rlcs.faults import Fault, Faults
from rlcs.rollout.requests import Requests
from rlcs.rollout.work import WorkQueue


def test_a_second_answer_does_not_count() -> None:
    requests = Requests([1.0, 1.0])
    assert requests.answer(0)
    assert not requests.answer(0)
    assert requests.unanswered == [1]
    assert requests.answer(1) and requests.is_done


def test_what_an_engine_had_answered_before_it_failed_is_not_done_again() -> None:
    requests = Requests([1.0] * 4)
    requests.answer(1)
    assert requests.fail([0, 1, 2]) == ([0, 2], [])
    assert requests.suspects == [0, 2]
    requests.answer(0)
    assert requests.suspects == [2]


def test_the_second_failure_sets_a_request_aside() -> None:
    requests = Requests([1.0] * 3)
    requests.fail([0, 1])
    assert requests.fail([1, 2]) == ([2], [1])
    assert requests.set_aside == [1]
    assert requests.unanswered == [0, 2]
    assert not requests.answer(1)


@given(seed=st.integers(0, 10_000), engines=st.integers(1, 4), count=st.integers(1, 30), poison=st.integers(0, 29))
def test_whatever_fails_every_request_is_answered_once_and_only_poison_is_set_aside(
    seed: int, engines: int, count: int, poison: int
) -> None:
    """One request kills each engine that holds it; nothing else fails."""
    rng = random.Random(seed)
    requests, queue = Requests([1.0 + rng.random() for _ in range(count)]), WorkQueue()
    queue.fill(requests.expected_tokens, engines, requests.unanswered, requests.suspects)
    answered: list[int] = []
    held: dict[str, list[int]] = {f"engine-{index}/0": [] for index in range(engines)}
    finished: dict[str, list[int]] = {name: [] for name in held}
    for _ in range(2000):
        if requests.is_done:
            break
        name = rng.choice(list(held))
        done, finished[name] = finished[name], []
        held[name] += queue.take(rng.randint(1, 8), name, done)
        assert len(set(held[name]) & set(requests.suspects)) <= 1
        if poison in held[name]:
            again, _ = requests.fail(queue.lose(name))
            queue.put_back([(index, requests.expected_tokens[index]) for index in again])
            del held[name], finished[name]
            engine, life = name.split("/")
            held[f"{engine}/{int(life) + 1}"], finished[f"{engine}/{int(life) + 1}"] = [], []
        elif held[name]:
            index = held[name].pop(rng.randrange(len(held[name])))
            finished[name].append(index)
            if requests.answer(index):
                answered.append(index)
    assert requests.set_aside == [poison] * (poison < count)
    assert sorted([*answered, *requests.set_aside]) == list(range(count))


def test_too_many_restarts_within_an_iteration_end_the_run() -> None:
    told: list[Fault] = []
    faults = Faults(2, told.append)
    faults.restart("engine_restarts", "engine-0", "died")
    faults.restart("engine_restarts", "engine-1", "died")
    faults.progress()
    faults.restart("engine_restarts", "engine-0", "died")
    faults.restart("learner_restarts", "the learner", "died")
    with pytest.raises(
        TooManyFaultsError, match=r"3 restarts .* cluster.max_restarts \(2\); the last: engine-1 made no"
    ):
        faults.restart("engine_restarts", "engine-1", "made no step")
    assert faults.metrics() == {
        "faults/engine_restarts": 4.0,
        "faults/learner_restarts": 1.0,
        "faults/poison_prompts": 0.0,
    }
    assert [fault.who for fault in told][-1] == "engine-1"


def test_without_a_limit_the_first_failure_is_told_as_it_is() -> None:
    with pytest.raises(TooManyFaultsError, match=r"^engine-0 died$"):
        Faults(0).restart("engine_restarts", "engine-0", "died")
