"""The interface of weight sync.

A backend is a subclass of `WeightSync` with `_send`. It is used by the trainer, in the driver's process, and calls the
learner's and the engines' actors. The rules that keep weights whole:

- Engines work on one call at a time, so weights never change within a request.
- Versions rise by one an update. A sync to a version that is not newer is refused.
- From the first byte to the last an engine is torn: it refuses to generate (`Engine.begin_update`, `Engine.adopt`), so
  that a sync that fails half way cannot go unnoticed.
- `Engine.adopt` ends a sync: it forgets cached prefixes and encoded images, and only then takes on the version.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rlcs.errors import EngineError


class Sender(Protocol):
    """The learner, as weight sync sees it: `rlcs.learner.group.LearnerGroup`."""

    def weights(self) -> Any:
        """A Ray reference to the weights, `rlcs.weights.to_arrays` of them, or a packed adapter."""

    def submit(self, method: str, *arguments: Any) -> Any:
        """Start a method of the learner's actor on all ranks."""

    def wait(self, calls: Any, doing: str, timeout_s: float) -> Any:
        """The first rank's answer, once all have one."""


class Receivers(Protocol):
    """The rollout fleet, as weight sync sees it: `rlcs.rollout.fleet.RolloutFleet`."""

    @property
    def engines(self) -> list[Any]:
        """Ray actors of the engines; one that failed is replaced by another."""

    def settle(self) -> None:
        """Wait until all engines are in service."""

    def sync(self, weights: Any, version: int) -> int:
        """Put weights from a Ray reference in place; returns their bytes."""

    def adopt(self, version: int) -> None:
        """Every engine forgets what it has cached, and works with weights of this version from now on."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """One sync."""

    backend: str
    version: int
    num_bytes: int
    """Of one copy of the weights as they travel."""
    seconds: float
    """Until the slowest engine had them in place."""

    def metrics(self) -> dict[str, float]:
        """`sync/bytes` and `sync/gb_per_s` (10^9 bytes)."""
        return {
            "sync/bytes": float(self.num_bytes),
            "sync/gb_per_s": self.num_bytes / 1e9 / max(self.seconds, 1e-9),
        }


class WeightSync(ABC):
    """A way for the weights. `open` is called once, when learner and engines are ready, and `sync` after each update."""

    name: ClassVar[str]
    """As in `rollout.weight_sync`."""

    def __init__(self, learner: Sender, rollouts: Receivers, *, version: int = 0) -> None:
        """`version`: that of the weights which the engines have."""
        self._learner = learner
        self._rollouts = rollouts
        self._version = version

    def open(self) -> None:  # noqa: B027 - most ways need no preparation
        """Connect learner and engines."""

    def sync(self, version: int) -> SyncReport:
        """Put the learner's weights into every engine.

        Raises:
            EngineError: `version` is not newer than that of the engines; an actor died or failed. Engines that have not
                got all of the weights refuse to generate.
        """
        if version <= self._version:
            raise EngineError(f"weight sync to version {version}, but the engines have version {self._version} already")
        start = time.perf_counter()
        num_bytes = self._send(version)
        self._version = version
        return SyncReport(self.name, version, num_bytes, time.perf_counter() - start)

    @abstractmethod
    def _send(self, version: int) -> int:
        """Move the weights, have every engine adopt them as `version`; returns the bytes of one copy."""
