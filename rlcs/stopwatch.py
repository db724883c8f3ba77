"""Wall-clock time by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent in each stage: `with watch("learn"): ...`; times of one stage add up. Not thread-safe."""

    def __init__(self, note: Callable[[str], None] | None = None) -> None:
        """`note` is told the name of each stage that begins."""
        self.seconds: dict[str, float] = {}
        self._note = note

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add the times of another stopwatch."""
        for stage, more in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + more

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the body."""
        if self._note is not None:
            self._note(stage)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - start})
