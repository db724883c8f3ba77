"""Run programs that a model wrote, shut in: no network, no files but their own, limits on everything, nothing left.

Each run is a fresh `python -I -S` with an empty environment, started by `sandbox_launcher.py`, which see. What a
program meets:

| it tries | and meets |
|---|---|
| to read or write files | a root of its own: /usr and Python without site-packages, read-only; one folder in memory |
| the network | a network namespace without any interface, and no sockets |
| other processes, its parent | a process namespace of its own; signals, tracing, new processes are refused |
| memory, CPU, threads, disk, output | rlimits, the size of its folder, a cap on what is read of it |
| to run for ever | the parent's deadline, then SIGKILL; the same when the parent ends |

No signal is used in the parent, so it works in threads and in Ray actors. Linux on x86-64 (seen to work) or aarch64.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_LAUNCHER = str(Path(__file__).with_name("sandbox_launcher.py"))
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin")
_STDERR_BYTES = 4096
_END_TIMEOUT_S = 5.0
_ORDER_TIMEOUT_S = 30.0
"""For the launcher to start and read its order; only a machine that stands still needs it."""


class Outcome(StrEnum):
    """How a run ended."""

    OK = "ok"
    """The program ended by itself with exit status 0."""
    ERROR = "program_errors"
    """It ended with another status, or was killed by a signal."""
    TIMEOUT = "timeouts"
    """It ran past the deadline, or used up its CPU time."""
    OUTPUT = "output_limits"
    """It wrote more than it may."""
    UNAVAILABLE = "sandbox_errors"
    """The sandbox could not be made: the machine's fault."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use."""

    memory_mb: int = 1024
    """Address space."""
    disk_mb: int = 16
    """All files together."""
    open_files: int = 64
    threads: int = 32
    output_kb: int = 4096
    """What it may write to standard output."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a program."""

    outcome: Outcome
    stdout: bytes = b""
    detail: str = ""
    """Why it is not OK: the last line of standard error, a signal."""


class Sandbox:
    """Starts programs.

    Args:
        limits: of each program.
        isolated: with namespaces. Without, a program has the files and the network of this user; limits and the system
            call filter, which refuses sockets and processes, remain.
    """

    def __init__(self, limits: Limits | None = None, *, isolated: bool = True) -> None:
        self.limits = limits or Limits()
        self.isolated = isolated
        self._python = os.path.realpath(sys.executable)
        folders = {os.path.realpath(sys.base_prefix), os.path.dirname(os.path.dirname(self._python))}
        folders |= {folder for folder in _SYSTEM_FOLDERS if os.path.isdir(folder)}
        self._binds = sorted(folders - {"/"})
        packages = (
            found
            for folder in self._binds
            for pattern in ("lib/python*/*-packages", "local/lib/python*/*-packages")
            for found in Path(folder).glob(pattern)
        )
        self._hidden = sorted({os.path.realpath(folder) for folder in packages})

    def why_unavailable(self) -> str | None:
        """Why programs cannot be run like this on this machine, or None; runs one to find out."""
        if not sys.platform.startswith("linux"):
            return f"there is no sandbox on {sys.platform}"
        run = self.run({"program.py": "print(6 * 7)"}, ["program.py"], timeout_s=30)
        return (
            None if run.stdout == b"42\n" and run.outcome is Outcome.OK else run.detail or f"it ended as {run.outcome}"
        )

    def start(
        self,
        files: Mapping[str, str],
        arguments: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        cpu_s: int = 10,
    ) -> Program:
        """Start Python with `arguments` in a folder that holds `files`; use it as a context manager.

        Its CPU time is limited to `cpu_s`; the deadline is the caller's.

        Raises:
            OSError: no process can be started.
        """
        folder = None if self.isolated else tempfile.mkdtemp(prefix="rlcs-sandbox-")
        order = {
            "isolated": self.isolated,
            "folder": folder,
            "python": self._python,
            "binds": self._binds,
            "hidden": self._hidden,
            "files": dict(files),
            "arguments": list(arguments),
            "limits": {**asdict(self.limits), "cpu_s": cpu_s},
        }
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = subprocess.Popen(
                    [self._python, "-I", "-S", _LAUNCHER, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={},
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        with contextlib.suppress(OSError):  # the launcher is dead: `result` finds out
            ours.settimeout(_ORDER_TIMEOUT_S)
            ours.sendall(json.dumps(order).encode() + b"\n")
        return Program(process, ours, folder)

    def run(
        self,
        files: Mapping[str, str],
        arguments: Sequence[str],
        *,
        stdin: bytes | socket.socket = b"",
        timeout_s: float,
    ) -> Run:
        """Run a program to its end or to the deadline, feed it `stdin` or a socket, and read what it writes."""
        deadline = time.monotonic() + timeout_s
        cpu_s = math.ceil(timeout_s) + 1
        feed = stdin.fileno() if isinstance(stdin, socket.socket) else subprocess.PIPE
        pipe = subprocess.PIPE
        try:
            program = self.start(files, arguments, stdin=feed, stdout=pipe, stderr=pipe, cpu_s=cpu_s)
        except OSError as error:
            return Run(Outcome.UNAVAILABLE, detail=f"no process can be started: {error.strerror}")
        text = stdin if isinstance(stdin, bytes) else b""
        with program:
            stopped, stdout, stderr = _talk(program, text, deadline, self.limits.output_kb * 1024)
            report = program.end(deadline if stopped is None else 0.0)
        if "setup" in report:
            return Run(Outcome.UNAVAILABLE, detail=f"the sandbox cannot be made: {report['setup']}")
        if stopped is not None:
            return Run(stopped, stdout, _REASONS[stopped])
        code = report.get("code")
        if code == 0:
            return Run(Outcome.OK, stdout)
        if code is None or (code < 0 and report["cpu_s"] >= cpu_s - 0.5):
            return Run(Outcome.TIMEOUT, stdout, _REASONS[Outcome.TIMEOUT])
        lines = stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1][:200] if lines else ""
        return Run(Outcome.ERROR, stdout, last or f"the program ended with status {code}")


_REASONS = {
    Outcome.TIMEOUT: "the program ran out of time",
    Outcome.OUTPUT: "the program wrote too much",
}


class Program:
    """A running program. Leaving the context kills it, and nothing of it remains."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, folder: str | None) -> None:
        self.process = process
        self.control = control
        self._folder = folder

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(0.0)

    def end(self, deadline: float) -> dict[str, Any]:
        """Wait until `deadline` (of `time.monotonic`), then kill; the launcher's report, empty if it was killed."""
        if self.control.fileno() < 0:
            return {}
        report = bytearray()
        try:
            while not report.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
                self.control.settimeout(left)
                received = self.control.recv(4096)
                if not received:
                    break
                report += received
        except OSError:  # a time-out, or the launcher died
            pass
        finally:
            self.control.close()  # the launcher kills the program, reaps it and ends
            try:
                self.process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait()
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not yet flushed has no reader
                        stream.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        line = bytes(report).partition(b"\n")[0]
        return dict(json.loads(line)) if line else {}


def _talk(program: Program, stdin: bytes, deadline: float, limit: int) -> tuple[Outcome | None, bytes, bytes]:
    """Feed a program and read what it writes until it ends: why it must be stopped, its output, its last errors."""
    process = program.process
    assert process.stdout is not None and process.stderr is not None
    stdout, stderr = bytearray(), bytearray()
    unsent = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(program.control, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return Outcome.TIMEOUT, bytes(stdout), bytes(stderr)
            ready = [key.fileobj for key, _ in selector.select(left)]
            if process.stdin is not None and process.stdin in ready:
                try:
                    unsent = unsent[os.write(process.stdin.fileno(), unsent[:65536]) :]
                except BlockingIOError:
                    pass
                except OSError:  # it reads no more
                    unsent = unsent[:0]
                if not unsent:
                    selector.unregister(process.stdin)
                    process.stdin.close()
            for stream, buffer in ((process.stdout, stdout), (process.stderr, stderr)):
                if stream in ready and not _drain(stream.fileno(), buffer):
                    selector.unregister(stream)
            del stderr[:-_STDERR_BYTES]
            if len(stdout) > limit:
                return Outcome.OUTPUT, bytes(stdout[:limit]), bytes(stderr)
            if program.control in ready:
                # It has ended: what is left in the pipes is all there is.
                while _drain(process.stdout.fileno(), stdout) and len(stdout) <= limit:
                    pass
                while _drain(process.stderr.fileno(), stderr):
                    del stderr[:-_STDERR_BYTES]
                stopped = Outcome.OUTPUT if len(stdout) > limit else None
                return stopped, bytes(stdout[:limit]), bytes(stderr)


def _drain(descriptor: int, buffer: bytearray) -> bool:
    """Read once; whether anything came and more may come."""
    try:
        received = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return False
    buffer += received
    return bool(received)
