"""Ctrl-C once asks for a stop, twice stops."""

from __future__ import annotations

import os
import signal

import pytest

from rlcs.interrupt import StopRequest


def test_the_first_signal_requests_and_the_second_raises() -> None:
    told: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(lambda: told.append(True)) as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and told == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_requests_a_clean_stop_and_never_raises() -> None:
    with StopRequest(lambda: None) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
