"""Looks at the actors and queues of a run now and then, from a thread of the trainer's process.

An actor works on one call at a time, so one that is asked in the middle of its work answers when that is done: it counts
as busy until then, and is not asked again. The memory of processes on this machine is read without asking them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rlcs.errors import one_line
from rlcs.vitals import ActorState, Snapshot, Vitals, Watched, resident_gib

logger = logging.getLogger(__name__)

_PATIENCE_S = 0.25
"""How long a look waits for actors that have nothing else to do."""


class Monitor:
    """Use: `start()`, `metrics()` once an iteration, `close()` before the actors end."""

    def __init__(
        self,
        watched: Callable[[], Sequence[Watched]],
        queues: Callable[[], dict[str, int]],
        publish: Callable[[Snapshot], None],
        every_s: float,
    ) -> None:
        """`queues` says how many requests wait where; `publish` takes each snapshot, in the monitor's thread."""
        self._watched = watched
        self._queues = queues
        self._publish = publish
        self._every_s = every_s
        self._calls: dict[Any, Any] = {}  # by actor: what was asked and not answered yet
        self._known: dict[Any, Vitals] = {}
        self._dead: set[Any] = set()
        self._node = ""
        self._longest: dict[str, int] = {}
        self._last = Snapshot()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        import ray

        self._node = str(ray.get_runtime_context().get_node_id())[:6]
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def metrics(self) -> dict[str, float]:
        """Of the last look: `system/actor_memory_gib/ACTOR`, `system/restarts/ACTOR`, `system/version/ACTOR`, and
        `system/queue/QUEUE`, the longest that it was since the last call.
        """
        longest, self._longest = self._longest, {}
        metrics = {f"system/queue/{name}": float(length) for name, length in longest.items()}
        for actor in self._last.actors:
            metrics[f"system/restarts/{actor.name}"] = float(actor.restarts)
            if actor.memory_gib is not None:
                metrics[f"system/actor_memory_gib/{actor.name}"] = actor.memory_gib
            if actor.version is not None:
                metrics[f"system/version/{actor.name}"] = float(actor.version)
        return metrics

    def look(self) -> Snapshot:
        """The actors and queues as of now."""
        import ray

        watched = list(self._watched())
        for each in watched:
            if each.actor not in self._calls and each.actor not in self._dead:
                self._calls[each.actor] = each.actor.vitals.remote()
        present = {each.actor for each in watched}
        for known in (self._calls, self._known):
            for actor in [actor for actor in known if actor not in present]:  # it was replaced
                known.pop(actor)
        self._dead &= present
        calls = list(self._calls.values())
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=_PATIENCE_S) if calls else ([], [])
        answered = set(done)
        for actor, call in list(self._calls.items()):
            if call in answered:
                del self._calls[actor]
                try:
                    self._known[actor] = ray.get(call)
                except ray.exceptions.RayError:
                    self._dead.add(actor)
        return Snapshot([self._state(each) for each in watched], self._queues())

    def _state(self, watched: Watched) -> ActorState:
        vitals = self._known.get(watched.actor)
        state = "dead" if watched.actor in self._dead else "busy" if watched.actor in self._calls else "idle"
        if vitals is None:
            return ActorState(watched.name, watched.role, state, watched.restarts)
        if vitals.node == self._node:
            vitals = replace(vitals, memory_gib=resident_gib(vitals.pid) or vitals.memory_gib)
        return ActorState(
            watched.name,
            watched.role,
            state,
            watched.restarts,
            vitals.pid,
            vitals.node,
            vitals.memory_gib,
            vitals.gpu_memory_gib,
            vitals.version,
        )

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._last = self.look()
                for name, length in self._last.queues.items():
                    self._longest[name] = max(self._longest.get(name, 0), length)
                self._publish(self._last)
            except Exception as error:
                # Whatever Ray raises while a cluster changes or ends: a run must not fail for being watched.
                if not self._end.is_set():
                    logger.warning("the actors could not be looked at: %s", one_line(error))
            self._end.wait(self._every_s)
