"""Looks whether Ray's head is there. Without it nothing answers any more: a run waits for ever, or Ray ends its process.

When it is lost, the processes of a local cluster are ended, and this one with a line that says how to go on.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable

from rlcs.actors import kill_all

_EVERY_S = 2.0
_PATIENCE = 5
"""Refused connections in a row after which the head is lost: Ray's own patience is a minute."""


class HeadWatch:
    """Watches from a thread. Use: `start()`, and `close()` before Ray ends."""

    def __init__(self, address: str, on_lost: Callable[[], None]) -> None:
        """`address`: host and port of the head. `on_lost` is called in the thread."""
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._on_lost = on_lost
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="head-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._end.set()

    def _run(self) -> None:
        failures = 0
        while not self._end.wait(_EVERY_S):
            try:
                socket.create_connection(self._address, timeout=_EVERY_S).close()
                failures = 0
            except TimeoutError:  # a head that is busy is not lost
                continue
            except OSError:
                failures += 1
            if failures >= _PATIENCE and not self._end.is_set():
                self._on_lost()
                return


def end_process(line: str) -> None:
    """Print a line, end all children of this process, and then itself with exit code 1. Nothing of Ray can be asked."""
    import psutil

    print(line, file=sys.stderr, flush=True)
    kill_all(psutil.Process().children(recursive=True))
    os._exit(1)
