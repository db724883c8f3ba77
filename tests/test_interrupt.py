"""Ctrl-C once asks for a stop, twice stops."""

from __future__ import annotations

import os
import signal
import time

import pytest

from rlcs.interrupt import GraceOver, StopRequest


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


def test_the_end_of_the_grace_time_cuts_off_what_may_be_cut_off() -> None:
    with StopRequest(lambda: None, grace_s=0.3) as stop:
        stop.reserve_s = 0.1
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested and not stop.is_over
        begun = time.monotonic()
        with pytest.raises(GraceOver), stop.cut_off():
            time.sleep(5)
        assert 0.1 < time.monotonic() - begun < 2
        assert stop.is_over
        with pytest.raises(GraceOver), stop.cut_off():  # at once, from now on
            raise AssertionError("the body was begun")


def test_the_end_of_the_grace_time_leaves_alone_what_may_not_be_cut_off() -> None:
    with StopRequest(lambda: None, grace_s=0.05) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not stop.is_over and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.is_over
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_ctrl_c_leaves_no_grace_time() -> None:
    with StopRequest(lambda: None, grace_s=0.01) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        assert stop.requested and not stop.is_over
