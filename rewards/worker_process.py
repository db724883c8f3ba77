"""The far side of `rlcs.rewards.workers`: `python -m rlcs.rewards.worker_process FD TARGET MEMORY_MB TIMEOUT_S`.

The nursery reads commands from the control socket: `S` (with a file descriptor) forks a worker that serves it, `K` and
a process id kills one. It ends when the control socket closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1
_RECURSION_LIMIT = 3000
_MB = 1024 * 1024

Target = Callable[[Any], Any]


def main(arguments: list[str]) -> None:
    """Import the target, then serve the control socket until it closes."""
    control = socket.socket(fileno=int(arguments[0]))
    module_name, _, attribute = arguments[1].partition(":")
    memory_mb, timeout_s = int(arguments[2]), float(arguments[3])
    try:
        target: Target = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # reported to the parent, whatever it is
        with contextlib.suppress(BrokenPipeError):  # the pool was closed meanwhile
            control.sendall(f"{type(error).__name__}: {' '.join(str(error).split())}\n".encode())
        return
    sys.setrecursionlimit(_RECURSION_LIMIT)
    gc.collect()
    gc.freeze()  # forked workers then share these pages
    try:
        control.sendall(b"ready\n")
    except BrokenPipeError:  # the pool was closed while the target was imported
        return
    pending = b""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        except ConnectionResetError:  # closed with a reply unread
            return
        if not data:
            return
        pending += data
        while b"\n" in pending:
            command, _, pending = pending.partition(b"\n")
            if command == b"S":
                pid = os.fork()
                if pid == 0:
                    control.close()
                    _serve(socket.socket(fileno=descriptors[0]), target, memory_mb, timeout_s)
                os.close(descriptors[0])
                control.sendall(f"{pid}\n".encode())
            else:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(int(command[1:]), signal.SIGKILL)
                    os.waitpid(int(command[1:]), 0)


def _serve(channel: socket.socket, target: Target, memory_mb: int, timeout_s: float) -> None:
    """Answer requests, a line of JSON each, until the channel closes. Does not return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with open("/proc/self/statm") as statm:
            taken = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory_mb * _MB, resource.RLIM_INFINITY))
    with channel, channel.makefile("rb") as requests:
        for line in requests:
            # Should the parent be gone, a worker that is stuck still ends.
            used = resource.getrusage(resource.RUSAGE_SELF)
            resource.setrlimit(
                resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + timeout_s) + 5, resource.RLIM_INFINITY)
            )
            channel.sendall(json.dumps(_answer(target, json.loads(line)), separators=(",", ":")).encode() + b"\n")
    os._exit(0)


def _answer(target: Target, request: Any) -> tuple[str, Any]:
    try:
        return "ok", target(request)
    except MemoryError:
        return "memory_limits", "ran out of memory"
    except Exception as error:  # the parent decides what an error means
        return "worker_errors", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


if __name__ == "__main__":
    main(sys.argv[1:])
