"""The pool of killable workers."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlcs.rewards.workers import KillablePool, WorkerOutcome

_TARGET = """
import os

def work(request):
    if request == "hang":
        while True:
            pass
    if request == "die":
        os._exit(1)
    if request == "die once":
        mark = os.path.join(os.path.dirname(__file__), "died")
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), 9)
    if request == "grow":
        return len(bytearray(4 << 30))
    if request == "raise":
        raise ValueError("no")
    if request == "pid":
        return os.getpid()
    return request
"""


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KillablePool]:
    (tmp_path / "worker_target_for_test.py").write_text(_TARGET)
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = KillablePool("worker_target_for_test:work", timeout_s=0.3, memory_mb=512)
    yield pool
    pool.close()


def test_a_worker_that_was_killed_costs_its_request_nothing(pool: KillablePool) -> None:
    (result,) = pool.run(["die once"])
    assert result.outcome is WorkerOutcome.OK and result.value == "die once"


def test_requests_come_back_in_order(pool: KillablePool) -> None:
    requests: list[Any] = [1, "two", [3, {"four": None}]]
    assert [result.value for result in pool.run(requests)] == requests


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        ("hang", WorkerOutcome.TIMEOUT),
        ("die", WorkerOutcome.CRASH),
        ("grow", WorkerOutcome.MEMORY),
        ("raise", WorkerOutcome.ERROR),
    ],
)
def test_a_failure_has_its_outcome_and_spares_the_others(
    pool: KillablePool, request_: str, outcome: WorkerOutcome
) -> None:
    results = pool.run([1, request_, 2, request_, 3])
    assert [result.outcome for result in results] == [
        WorkerOutcome.OK,
        outcome,
        WorkerOutcome.OK,
        outcome,
        WorkerOutcome.OK,
    ]
    assert [results[i].value for i in (0, 2, 4)] == [1, 2, 3]
    assert results[1].detail


def test_large_requests_and_replies_pass(pool: KillablePool) -> None:
    text = "x" * 3_000_000
    pool.run([0])
    assert pool.run([text])[0].value == text


def test_threads_share_the_pool(pool: KillablePool) -> None:
    values: list[list[Any]] = []
    threads = [
        threading.Thread(target=lambda i=i: values.append([r.value for r in pool.run([i, "hang", i])]))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(values) == [[i, None, i] for i in range(3)]


def test_close_leaves_no_processes_and_the_pool_can_start_again(pool: KillablePool) -> None:
    pid = pool.run(["pid"])[0].value
    pool.close()
    assert _ends(pid)
    assert pool.run(["pid"])[0].outcome is WorkerOutcome.OK


def test_a_pool_that_is_closed_while_it_starts_ends_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow_target_for_test.py").write_text("import time\ntime.sleep(1)\ndef work(request):\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = KillablePool("slow_target_for_test:work")
    pool.start()
    pool.close()
    assert capfd.readouterr().err == ""


def test_a_nursery_that_was_killed_is_replaced(pool: KillablePool) -> None:
    pid = pool.run(["pid"])[0].value
    nursery = psutil.Process(pid).parent()
    assert nursery is not None
    nursery.kill()
    nursery.wait(timeout=10)
    assert _ends(pid)
    results = pool.run([1, 2])
    assert results[-1].value == 2


@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent by a Linux system call")
def test_workers_end_when_their_parent_is_killed(pool: KillablePool) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # A fork must not touch its parent's processes, but start its own.
        own = KillablePool("worker_target_for_test:work", timeout_s=60)
        os.write(write, str(own.run(["pid"])[0].value).encode())
        own.run(["hang"])
        os._exit(0)
    pid = int(os.read(read, 64))
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert _ends(pid)


def test_a_target_that_cannot_be_imported_is_named(pool: KillablePool) -> None:
    broken = KillablePool("no_such_module_at_all:work")
    with pytest.raises(RuntimeError, match="no_such_module_at_all"):
        broken.run([1])
    broken.close()


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False
