"""What failed in a run and was replaced: counted, written down, and bounded.

Every room that replaces something (an engine, a learner rank) says so here. Too many restarts without an iteration
between them mean that replacing does not help: then the run ends, and its last checkpoint stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rlcs.errors import TooManyFaultsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that failed and was dealt with; a line of faults.jsonl."""

    kind: str
    """engine_restarts, learner_restarts, queue_restarts or poison_prompts."""
    who: str
    """The actor, such as `engine-0`, or the prompt's id."""
    reason: str
    time: float = field(default_factory=time.time)
    """Seconds since 1970."""


class Faults:
    """Counts faults; may be used from several threads.

    Args:
        limit: restarts that may happen before an iteration ends (`cluster.max_restarts`).
        report: told of every fault.
    """

    def __init__(self, limit: int, report: Callable[[Fault], None] | None = None) -> None:
        self._limit = limit
        self._report = report
        self._counts: Counter[str] = Counter({"engine_restarts": 0, "learner_restarts": 0, "poison_prompts": 0})
        self._recent = 0
        self._lock = threading.Lock()

    def restart(self, kind: str, who: str, reason: str) -> None:
        """An actor failed and is about to be replaced.

        Raises:
            TooManyFaultsError: more than `limit` did since the last iteration ended.
        """
        reason = _shortened(reason)
        with self._lock:
            self._recent += 1
            recent = self._recent
        self.note(kind, who, reason)
        if not self._limit:
            raise TooManyFaultsError(f"{who} {reason}")
        if recent > self._limit:
            raise TooManyFaultsError(
                f"{recent} restarts within one iteration, more than cluster.max_restarts ({self._limit}); the last: {who} "
                f"{reason}"
            )

    def note(self, kind: str, who: str, reason: str) -> None:
        """Count and report a fault that needs no restart."""
        fault = Fault(kind, who, _shortened(reason))
        with self._lock:
            self._counts[kind] += 1
        if self._report is not None:
            self._report(fault)
        else:
            logger.warning("%s: %s %s", kind.replace("_", " ").rstrip("s"), fault.who, fault.reason)

    def progress(self) -> None:
        """An iteration ended: restarts are counted anew towards the limit."""
        with self._lock:
            self._recent = 0

    def metrics(self) -> dict[str, float]:
        """`faults/KIND`: how many there were since this start of the run."""
        with self._lock:
            return {f"faults/{kind}": float(count) for kind, count in self._counts.items()}


def _shortened(reason: str) -> str:
    return " ".join(reason.split())[:500]
