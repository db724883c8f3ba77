"""The loss of Ray's head is seen, and nothing else is taken for it; without Ray."""

from __future__ import annotations

import socket
import threading

import pytest

from rlcs import head_watch
from rlcs.head_watch import HeadWatch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_watch, "_EVERY_S", 0.02)


def test_a_head_that_is_gone_is_told_once() -> None:
    head = socket.create_server(("127.0.0.1", 0))
    lost = threading.Event()
    watch = HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", lost.set)
    watch.start()
    assert not lost.wait(0.3)
    head.close()
    assert lost.wait(5)


def test_a_watch_that_is_closed_says_nothing() -> None:
    head = socket.create_server(("127.0.0.1", 0))
    lost = threading.Event()
    watch = HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", lost.set)
    watch.start()
    watch.close()
    head.close()
    assert not lost.wait(0.5)
