"""Ctrl-C and SIGTERM: a clean stop is asked for, and what cannot wait for it is cut off.

The first Ctrl-C asks for a clean stop, the second stops at once. SIGTERM, which a machine that is about to be taken away
sends, asks for one too, and leaves a grace time: shortly before it ends, work that may be cut off is (`StopRequest.cut_off`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class GraceOver(KeyboardInterrupt):
    """Raised in `StopRequest.cut_off` when only the time to save is left.

    Of the kind of Ctrl-C, since Ray's calls can be left by that alone.
    """


class StopRequest:
    """While it is entered, SIGINT and SIGTERM set `requested`; a second SIGINT raises KeyboardInterrupt.

    Outside the main thread, where signals cannot be handled, it does nothing.
    """

    def __init__(self, on_request: Callable[[], None], grace_s: float | None = None) -> None:
        """`grace_s`: how long after a SIGTERM the process still lives; no limit if None."""
        self.requested = False
        self.is_over = False
        """Whether only the time to save is left."""
        self.reserve_s = 5.0
        """What saving takes, of the grace time."""
        self._on_request = on_request
        self._grace_s = grace_s
        self._may_cut = self._interrupted = False
        self._term_at: float | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._term_at is not None and self._grace_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Raises GraceOver in the body, or before it, when the grace time is over but for `reserve_s`."""
        self._may_cut = True
        try:
            if self.is_over:
                raise GraceOver
            yield
        except KeyboardInterrupt as error:
            if self.is_over and not self._interrupted:  # Ray raises a plain one in its place
                raise GraceOver from error
            raise
        finally:
            self._may_cut = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            self._interrupted = True
            raise KeyboardInterrupt
        if number == signal.SIGTERM and self._term_at is None and self._grace_s is not None:
            self._term_at = time.monotonic()
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._end_grace)
            signal.setitimer(signal.ITIMER_REAL, max(0.01, self._grace_s - self.reserve_s))
        if not self.requested:
            self.requested = True
            self._on_request()

    def _end_grace(self, number: int, frame: FrameType | None) -> None:
        self.is_over = True
        if self._may_cut:
            self._may_cut = False
            raise GraceOver


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C: around a short clean-up that a second one must not cut off. Nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
