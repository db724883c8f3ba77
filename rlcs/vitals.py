"""How the actors of a run are: where each runs, its memory, its weights, how often it was replaced.

`measure` runs in the actor, `Snapshot` is what `rlcs.monitor` puts together, the run's folder keeps as actors.json and
Prometheus is told.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Vitals:
    """What an actor says of itself."""

    pid: int
    node: str
    """The machine, by the beginning of Ray's name for it."""
    memory_gib: float
    """Resident memory of its process."""
    gpu_memory_gib: float | None = None
    """What PyTorch holds of its GPUs; None where it has none."""
    version: int | None = None
    """Updates that its weights have seen; None where it has none."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An actor to look at."""

    name: str
    """Such as `engine-0`."""
    role: str
    """Its fleet: rollouts, scoring or learner."""
    actor: Any
    """Ray's handle; the actor has a method `vitals`."""
    restarts: int = 0
    """How often it was replaced in this start of the run."""


@dataclass(frozen=True, slots=True)
class ActorState:
    """One actor at a moment."""

    name: str
    role: str
    state: str
    """idle, busy (it has not answered yet), or dead."""
    restarts: int = 0
    pid: int | None = None
    node: str | None = None
    memory_gib: float | None = None
    gpu_memory_gib: float | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All actors and queues at a moment."""

    actors: list[ActorState] = field(default_factory=list)
    queues: dict[str, int] = field(default_factory=dict)
    """Requests that wait, by the name of the queue."""
    time: float = field(default_factory=time.time)
    """Seconds since 1970."""


def snapshot_of(value: Mapping[str, Any]) -> Snapshot:
    """The snapshot of what `asdict` made of one; fields that are not known are passed over.

    Raises:
        ValueError: it is something else.
    """
    if not {"actors", "queues", "time"} <= value.keys():
        raise ValueError("no snapshot")
    return _snapshots().validate_python(value)


@cache
def _snapshots() -> TypeAdapter[Snapshot]:
    from pydantic import TypeAdapter

    return TypeAdapter(Snapshot)


def measure(version: int | None = None) -> Vitals:
    """Of this process, which is a Ray worker: two system calls."""
    import ray

    node = str(ray.get_runtime_context().get_node_id())[:6]
    return Vitals(os.getpid(), node, resident_gib(os.getpid()) or 0.0, _gpu_memory(), version)


def resident_gib(pid: int) -> float | None:
    """Resident memory of a process of this machine; None where there is no such process."""
    import psutil

    try:
        return float(psutil.Process(pid).memory_info().rss) / _GIB
    except psutil.Error:
        return None


def _gpu_memory() -> float | None:
    torch = sys.modules.get("torch")  # a process that has not imported it has no GPU memory
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(sum(torch.cuda.memory_reserved(device) for device in range(torch.cuda.device_count()))) / _GIB
