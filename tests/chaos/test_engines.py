"""Engines that die, hang or raise are replaced, and every prompt is answered once; Ray and vLLM are real."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from rlcs.config import ModelConfig, RolloutConfig
from rlcs.faults import Faults
from rlcs.models import load_tokenizer
from rlcs.rollout.fleet import RolloutFleet
from rlcs.types import Prompt

PROMPTS = 24
G = 4
VERSION = 3


CONFIG = RolloutConfig(
    num_engines=2,
    num_generations=G,
    max_prompt_length=50,
    max_completion_length=200,
    max_num_seqs=16,
    heartbeat_s=6,
    timeout_s=100,
)


@pytest.fixture(scope="module")
def policy(tiny_policy: Path) -> Path:
    return tiny_policy


def start(policy: Path, **options: Any) -> RolloutFleet:
    tokenizer = load_tokenizer(str(policy))
    fleet = RolloutFleet(
        str(policy), ModelConfig(path=str(policy)), CONFIG, tokenizer, seed=0, faults=Faults(5), **options
    )
    fleet.start()
    loaded = [ray.get(engine.process.remote()) for engine in fleet.engines]
    fleet.start()  # again, as where engines and learner take turns: nothing is loaded twice
    assert [ray.get(engine.process.remote()) for engine in fleet.engines] == loaded
    return fleet


@pytest.fixture
def fleet(policy: Path) -> Iterator[RolloutFleet]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    fleet = start(policy)
    yield fleet
    fleet.close()
    ray.shutdown()


def prompts() -> list[Prompt]:
    return [
        Prompt(id=f"p{i}", messages=[{"role": "user", "content": f"What is {i} + 1?"}], answer=str(i + 1), domain="sum")
        for i in range(PROMPTS)
    ]


def weights(policy: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(str(policy / "model.safetensors"))


def pids(fleet: RolloutFleet) -> list[int]:
    return [ray.get(engine.process.remote()).pid for engine in fleet.engines]


def after(seconds: float, pid: int, number: int) -> None:
    threading.Timer(seconds, os.kill, (pid, number)).start()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_an_engine_that_fails_is_replaced_and_loses_nothing(
    fleet: RolloutFleet, policy: Path, number: signal.Signals
) -> None:
    before = fleet.restarts
    fleet.sync(ray.put(weights(policy)), VERSION)
    victim = pids(fleet)[0]
    after(0.3, victim, number)
    begun = time.monotonic()
    asked = prompts()
    groups = fleet.generate(asked)
    print(f"answered in {time.monotonic() - begun:.1f} s")
    assert fleet.restarts == before + 1
    assert [group.prompt for group in groups] == asked
    assert all(len(group.responses) == G for group in groups)
    assert {response.policy_version for group in groups for response in group.responses} == {VERSION}
    assert not psutil.pid_exists(victim) or psutil.Process(victim).status() == psutil.STATUS_ZOMBIE
    fleet.settle()
    print(f"all engines back after {time.monotonic() - begun:.1f} s")
    assert fleet.watched()[0].restarts >= 1
    assert [ray.get(engine.vitals.remote()).version for engine in fleet.engines] == [VERSION] * 2
    # The new engine has the weights of the last sync: both give the same logprobs.
    (first,) = fleet.generate(asked[:1], temperature=1e-3)
    assert np.isfinite(first.responses[0].logprobs).all()


@pytest.mark.slow
def test_an_engine_that_hangs_while_it_replaces_another_is_replaced_too(
    fleet: RolloutFleet, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fleet.restarts
    monkeypatch.setattr(fleet._pool, "_load_limit_s", 5.0)
    fleet.sync(ray.put(weights(policy)), VERSION)
    os.kill(pids(fleet)[0], signal.SIGKILL)
    fleet.sync(ray.put(weights(policy)), VERSION)  # now it is noticed
    assert fleet.restarts == before + 1
    second = ray.get(fleet.engines[0].process.remote()).pid
    os.kill(second, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while fleet.restarts == before + 1:
        assert time.monotonic() < deadline
        assert all(len(group.responses) == G for group in fleet.generate(prompts()))
    monkeypatch.undo()
    fleet.settle()
    assert not psutil.pid_exists(second) or psutil.Process(second).status() == psutil.STATUS_ZOMBIE
    assert [ray.get(engine.vitals.remote()).version for engine in fleet.engines] == [VERSION] * 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_an_engine_that_fails_between_requests_is_replaced_at_the_next_sync(
    fleet: RolloutFleet, policy: Path, number: signal.Signals
) -> None:
    fleet.sync(ray.put(weights(policy)), VERSION)  # so that it is known how long one takes
    os.kill(pids(fleet)[1], number)
    time.sleep(0.5)
    begun = time.monotonic()
    fleet.sync(ray.put(weights(policy)), VERSION + 1)
    print(f"synced in {time.monotonic() - begun:.1f} s")
    groups = fleet.generate(prompts())
    assert len(groups) == PROMPTS
    assert {response.policy_version for group in groups for response in group.responses} == {VERSION + 1}
    assert fleet.restarts == 1
    fleet.settle()
    assert [ray.get(engine.vitals.remote()).version for engine in fleet.engines] == [VERSION + 1] * 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_leaves_costs_no_answer_and_is_used_again_when_it_comes_back(policy: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    away = {"num_cpus": 2, "resources": {"away": 1}}
    node = cluster.add_node(**away)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    fleet = start(policy, options=[{"num_cpus": 1}, {"num_cpus": 1, "resources": {"away": 0.5}}])
    try:
        fleet.sync(ray.put(weights(policy)), VERSION)
        threading.Timer(0.3, cluster.remove_node, (node,)).start()
        assert len(fleet.generate(prompts())) == PROMPTS
        time.sleep(1)
        fleet.sync(ray.put(weights(policy)), VERSION + 1)
        assert len(fleet.generate(prompts())) == PROMPTS
        assert fleet.restarts == 1
        cluster.add_node(**away)
        fleet.settle()
        assert [ray.get(engine.vitals.remote()).version for engine in fleet.engines] == [VERSION + 1] * 2
    finally:
        fleet.close()
        ray.shutdown()
        cluster.shutdown()
