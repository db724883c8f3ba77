"""One step ahead: the next value is made in a thread while the last one is used.

For `rollout.max_staleness`: the trainer begins the next rollouts, updates the policy, and waits for them before it puts
new weights into the engines. Nothing here knows what is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class LookAhead(Generic[T]):
    """Values of `make`, in order; at most one is begun before it is asked for.

    To be used from one thread. Never two calls of `make` at once, so `make` may keep a state.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._thread: threading.Thread | None = None
        self._made: list[T] = []
        self._error: BaseException | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a value was begun that has not been taken."""
        return self._thread is not None

    def begin(self) -> None:
        """Begin the next value in a thread.

        Raises:
            ValueError: one is begun already.
        """
        if self._thread is not None:
            raise ValueError("a value is begun already: take it first")
        # A daemon: a thread that hangs in a dead cluster must not keep the process.
        self._thread = threading.Thread(target=self._run, name="look-ahead", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the value that was begun is there; does nothing where none is. Raises what `make` raised."""
        if self._thread is None:
            return
        self._thread.join()
        if self._error is not None:
            self._thread, error, self._error = None, self._error, None
            raise error

    def take(self) -> T:
        """The next value: the one that was begun, or made now, in this thread. Raises what `make` raised."""
        if self._thread is None:
            return self._make()
        self.wait()
        self._thread = None
        return self._made.pop()

    def close(self, timeout_s: float) -> None:
        """Throw away what was begun, once it has ended or failed; what it works with should be ended first.

        One that does not end within `timeout_s` seconds is left behind, with a warning.
        """
        thread, self._thread, self._error = self._thread, None, None
        if thread is None:
            return
        thread.join(timeout_s)
        self._made.clear()
        if thread.is_alive():
            logger.warning("the rollouts made ahead did not end within %g s after their engines", timeout_s)

    def _run(self) -> None:
        try:
            self._made.append(self._make())
        except BaseException as error:  # raised again by `wait`, in the thread that uses the values
            self._error = error
