"""The monitor, over a scoring fleet on a real Ray cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from rlcs.config import RewardConfig
from rlcs.monitor import Monitor
from rlcs.scoring import ScoringFleet
from rlcs.vitals import Snapshot

from .test_fleet import group

_REWARDS = """
import os, time

def slow(prompts, completions, **columns):
    if "die" in [c[0]["content"] for c in completions]:
        os._exit(1)
    time.sleep(0.3)
    return [1.0] * len(completions)
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_look_tells_who_works_who_was_replaced_and_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "monitored_rewards.py"
    path.write_text(_REWARDS)
    fleet = ScoringFleet(RewardConfig(functions=[f"{path}:slow"], num_actors=2), "math")
    seen: list[Snapshot] = []
    monitor = Monitor(fleet.watched, lambda: {"scoring": fleet.waiting()}, seen.append, every_s=0.05)
    monitor.start()
    until(lambda: bool(seen) and all(actor.pid for actor in seen[-1].actors))
    first = seen[-1]
    assert [(a.name, a.role, a.state, a.restarts, a.version) for a in first.actors] == [
        ("scorer-0", "scoring", "idle", 0, None),
        ("scorer-1", "scoring", "idle", 0, None),
    ]
    for actor in first.actors:
        assert actor.pid is not None and actor.pid != os.getpid()
        assert actor.memory_gib is not None and 0.01 < actor.memory_gib < psutil.virtual_memory().total / 2**30
    work = threading.Thread(target=fleet.score, args=[[group(str(i), ["x"] * 64) for i in range(8)]])
    work.start()
    until(lambda: {actor.state for actor in seen[-1].actors} == {"busy"})
    work.join()
    assert monitor.metrics()["system/queue/scoring"] > 0
    fleet.score([group("1", ["die"])])
    # One death need not be the sample's fault: two actors die over it.
    until(lambda: sum(actor.restarts for actor in seen[-1].actors) == 2 and all(a.pid for a in seen[-1].actors))
    metrics = monitor.metrics()
    monitor.close()
    fleet.close()
    assert sum(metrics[f"system/restarts/scorer-{i}"] for i in range(2)) == 2
    assert metrics["system/actor_memory_gib/scorer-0"] > 0.01
    count = len(seen)
    time.sleep(0.2)
    assert len(seen) == count
