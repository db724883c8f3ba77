"""A pool of worker processes that can be killed: work with a deadline and a memory limit, from any thread.

A *nursery* process imports the target once and forks a worker on demand, so that replacing a killed worker takes
milliseconds instead of the seconds that importing sympy takes. Workers talk over a socket in lines of JSON. The
deadline is the parent's, without signals to itself: it works in threads and in Ray actors, and nothing that a worker
does can prevent it. When the parent ends, however it ends, the nursery and the workers end too.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

_START_TIMEOUT_S = 120.0
"""For the nursery's imports."""


class WorkerOutcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    TIMEOUT = "timeouts"
    """It ran past its deadline; the worker was killed."""
    MEMORY = "memory_limits"
    """It asked for more memory than a worker may have."""
    CRASH = "crashes"
    """The worker died."""
    ERROR = "worker_errors"
    """The target raised an exception."""


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """What came of a request."""

    outcome: WorkerOutcome
    value: Any = None
    """What the target returned, if `outcome` is OK."""
    detail: str = ""
    """What went wrong, otherwise."""
    seconds: float | None = None
    """From the request to the reply."""


@dataclass(slots=True)
class _Worker:
    pid: int
    channel: socket.socket


class KillablePool:
    """Runs one function, `target`, in worker processes.

    Args:
        target: `package.module:function`; it takes one JSON value and returns one.
        timeout_s: deadline of each request.
        memory_mb: what a worker may allocate on top of what the imports take.
        num_workers: how many requests run at once; more threads than this wait for each other.
    """

    def __init__(self, target: str, *, timeout_s: float = 2.0, memory_mb: int = 1024, num_workers: int = 1) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._num_workers = num_workers
        self._lock = threading.Lock()
        self._owner = 0
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_ready = False
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the nursery and let it import in the background; the first request does it otherwise."""
        with self._lock:
            self._start_nursery()

    def run(self, requests: Sequence[Any]) -> list[WorkerResult]:
        """The outcome of each request, in order. One that fails does not touch the others."""
        if not requests:
            return []
        with self._lock:
            self._start_nursery()
        idle = self._idle
        worker = idle.get()
        results = []
        try:
            for request in requests:
                if worker is None:
                    worker = self._spawn()
                started = time.monotonic()
                result = self._run_one(worker, request)
                if result.outcome is WorkerOutcome.CRASH:  # once more: what ended the worker need not be this request
                    self._kill(worker)
                    worker = None
                    worker = self._spawn()
                    result = self._run_one(worker, request)
                result = replace(result, seconds=time.monotonic() - started)
                if result.outcome in (WorkerOutcome.TIMEOUT, WorkerOutcome.CRASH):
                    self._kill(worker)
                    worker = None
                results.append(result)
        except BaseException:
            # Interrupted in the middle of a request: its reply must not meet the next one.
            if worker is not None:
                self._kill(worker)
                worker = None
            raise
        finally:
            idle.put(worker)
        return results

    def close(self) -> None:
        """End all processes of the pool. A later `run` starts new ones."""
        with self._lock:
            if self._nursery is None or self._owner != os.getpid():
                return
            assert self._control is not None
            self._control.close()  # the nursery ends at once, and its workers with it
            if not self._is_ready:
                self._nursery.kill()  # it is still importing, which may take seconds, and has no workers yet
            try:
                self._nursery.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
            self._nursery = None
            while True:
                with contextlib.suppress(queue.Empty):
                    worker = self._idle.get_nowait()
                    if worker is not None:
                        worker.channel.close()
                    continue
                break

    def _start_nursery(self) -> None:
        if self._nursery is not None and self._owner == os.getpid() and self._nursery.poll() is None:
            return
        # The first start, or the nursery died, or this process is a fork that must not share its parent's channels.
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        with theirs:
            self._nursery = subprocess.Popen(
                [
                    *(sys.executable, "-m", "rlcs.rewards.worker_process"),
                    *(str(theirs.fileno()), self._target, str(self._memory_mb), str(self._timeout_s)),
                ],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
            )
        self._control, self._is_ready, self._owner = ours, False, os.getpid()
        self._idle = queue.SimpleQueue()
        for _ in range(self._num_workers):
            self._idle.put(None)

    def _spawn(self) -> _Worker:
        """Ask the nursery for a new worker."""
        with self._lock:
            self._start_nursery()
            assert self._control is not None
            self._wait_until_ready()
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(self._control, [b"S\n"], [theirs.fileno()])
            pid = int(self._read_control())
        return _Worker(pid, ours)

    def _wait_until_ready(self) -> None:
        assert self._control is not None
        if self._is_ready:
            return
        self._control.settimeout(_START_TIMEOUT_S)
        answer = self._read_control()
        if answer != "ready":
            raise RuntimeError(f"worker processes for {self._target} cannot start: {answer}")
        self._is_ready = True

    def _read_control(self) -> str:
        assert self._control is not None
        line = b""
        try:
            while not line.endswith(b"\n"):
                received = self._control.recv(4096)
                if not received:
                    break
                line += received
        except OSError as error:
            raise RuntimeError(f"worker processes for {self._target} do not answer: {error}") from error
        if not line:
            raise RuntimeError(f"worker processes for {self._target} ended while they started")
        return line.decode().strip()

    def _kill(self, worker: _Worker) -> None:
        worker.channel.close()
        with self._lock, contextlib.suppress(OSError):  # if the nursery is gone, so is the worker
            if self._control is not None:
                self._control.sendall(f"K{worker.pid}\n".encode())

    def _run_one(self, worker: _Worker, request: Any) -> WorkerResult:
        deadline = time.monotonic() + self._timeout_s
        reply = bytearray()
        try:
            worker.channel.settimeout(self._timeout_s)
            worker.channel.sendall(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            while not reply.endswith(b"\n"):
                worker.channel.settimeout(max(1e-3, deadline - time.monotonic()))
                received = worker.channel.recv(65536)
                if not received:
                    return WorkerResult(WorkerOutcome.CRASH, detail="the worker process died")
                reply += received
        except TimeoutError:
            return WorkerResult(WorkerOutcome.TIMEOUT, detail=f"timed out after {self._timeout_s:g} s")
        except OSError as error:
            return WorkerResult(WorkerOutcome.CRASH, detail=f"the worker process died ({error})")
        outcome, value = json.loads(reply)
        if outcome == WorkerOutcome.OK:
            return WorkerResult(WorkerOutcome.OK, value)
        return WorkerResult(WorkerOutcome(outcome), detail=value)
