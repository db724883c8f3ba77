from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from rlcs.rewards.sandbox import Limits, Outcome, Run, Sandbox

SMALL = Limits(memory_mb=256, disk_mb=4, output_kb=64)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    sandbox = Sandbox(SMALL)
    reason = sandbox.why_unavailable()
    if reason is not None:
        pytest.skip(f"programs cannot be shut in here: {reason}")
    return sandbox


@pytest.fixture(scope="module")
def weak() -> Sandbox:
    sandbox = Sandbox(SMALL, isolated=False)
    reason = sandbox.why_unavailable()
    if reason is not None:
        pytest.skip(f"programs cannot be held here: {reason}")
    return sandbox


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test: no process of ours, no folder, no more open files than before."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # tests that run beside these have sandboxes, too
    open_before = len(os.listdir("/proc/self/fd"))
    others = set(_launched())  # worker processes of other tests' rewards
    yield
    deadline = time.monotonic() + 5
    while (left := set(_launched()) - others) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left
    assert not list(tmp_path.glob("rlcs-sandbox-*"))
    assert len(os.listdir("/proc/self/fd")) <= open_before


def _launched() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def run(sandbox: Sandbox, program: str, stdin: bytes = b"", timeout_s: float = 10.0) -> Run:
    return sandbox.run({"program.py": program}, ["program.py"], stdin=stdin, timeout_s=timeout_s)


def test_a_program_reads_standard_input_and_writes_standard_output(sandbox: Sandbox) -> None:
    found = run(sandbox, "print(input()[::-1])", "你好\n".encode())
    assert found == Run(Outcome.OK, "好你\n".encode())


def test_large_inputs_and_outputs_pass() -> None:
    text = b"x" * 3_000_000
    found = run(Sandbox(), "import sys\nsys.stdout.write(sys.stdin.read())", text)
    assert found.outcome is Outcome.OK
    assert found.stdout == text


def test_a_program_that_does_not_read_its_input_is_no_trouble(sandbox: Sandbox) -> None:
    assert run(sandbox, "print(1)", b"x" * 1_000_000).stdout == b"1\n"


def test_the_environment_is_empty_and_the_folder_holds_the_program_alone(sandbox: Sandbox) -> None:
    program = "import os\nprint(sorted(set(os.environ) - {'LC_CTYPE'}), os.listdir('.'), os.getpid())"
    assert run(sandbox, program).stdout == b"[] ['program.py'] 1\n"


def test_files_of_the_machine_are_not_there(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text("42")
    here = Path(__file__).resolve()
    for path in (tmp_path / "expected.json", here, Path("/etc/passwd"), Path("/proc/self/environ"), Path("/home")):
        found = run(sandbox, f"import os\nprint(os.path.exists({str(path)!r}))")
        assert found.stdout == b"False\n", path


def test_no_package_but_the_standard_library_can_be_imported(sandbox: Sandbox) -> None:
    program = "import sys, glob\nfor p in sys.path: sys.path += glob.glob(p + '/*-packages')\nimport pip"
    assert "ModuleNotFoundError" in run(sandbox, program).detail


@pytest.mark.parametrize("path", ["/evil", "/usr/evil", "/dev/evil", "{prefix}/evil", "/tmp/../evil"])
def test_writing_outside_of_its_folder_fails(sandbox: Sandbox, path: str) -> None:
    found = run(sandbox, f"open({path.format(prefix=sys.base_prefix)!r}, 'w')")
    assert found.outcome is Outcome.ERROR
    assert "Error" in found.detail


def test_what_it_writes_is_gone_for_the_next_one(sandbox: Sandbox) -> None:
    assert run(sandbox, "open('/tmp/note', 'w').write('hello'); print(1)").outcome is Outcome.OK
    assert not Path("/tmp/note").exists()
    assert run(sandbox, "open('/tmp/note')").outcome is Outcome.ERROR


@pytest.mark.parametrize(
    "program",
    [
        "f = open('big', 'wb')\nwhile True:\n    f.write(b'x' * 65536)\n    f.flush()",
        "n = 0\nwhile True:\n    n += 1\n    open(f'{n}', 'wb').write(b'x' * 65536)",
        "n = 0\nwhile True:\n    n += 1\n    open(f'{n}', 'w').close()",
    ],
    ids=["one file", "many files", "many empty files"],
)
def test_filling_the_disk_ends_in_an_error(sandbox: Sandbox, program: str) -> None:
    assert run(sandbox, program).outcome is Outcome.ERROR


@pytest.mark.parametrize("kind", ["sandbox", "weak"])
@pytest.mark.parametrize(
    "program",
    [
        "x = bytearray(1 << 30)",
        "x = []\nwhile True:\n    x.append('x' * 10_000_000)",
        "import mmap\nx = [mmap.mmap(-1, 1 << 24) for _ in range(100)]",
        "import os\nfd = os.memfd_create('x')",
        "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600) >= 0",
    ],
    ids=["at once", "bit by bit", "anonymous mappings", "memory files", "shared segments"],
)
def test_filling_memory_ends_in_an_error(kind: str, program: str, request: pytest.FixtureRequest) -> None:
    assert run(request.getfixturevalue(kind), program).outcome is Outcome.ERROR


@pytest.mark.parametrize("kind", ["sandbox", "weak"])
@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True:\n    os.fork()",
        "import subprocess\nsubprocess.run(['/bin/sh', '-c', ':'])",
        "import os\nos.posix_spawn('/bin/sh', ['sh'], {})",
        "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "import ctypes\nassert ctypes.CDLL(None).syscall(435, bytes(88), 88) >= 0",
        "import os\nos.setsid()",
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ],
    ids=["fork", "subprocess", "spawn", "multiprocessing", "user namespace", "clone3", "session", "threads"],
)
def test_starting_processes_is_refused(kind: str, program: str, request: pytest.FixtureRequest) -> None:
    assert run(request.getfixturevalue(kind), program).outcome is Outcome.ERROR


def test_a_few_threads_are_fine(sandbox: Sandbox) -> None:
    program = "import threading\nfor n in range(3):\n    t = threading.Thread(target=print, args=(n,))\n    t.start(); t.join()"
    assert run(sandbox, program).stdout == b"0\n1\n2\n"


@pytest.mark.parametrize("kind", ["sandbox", "weak"])
@pytest.mark.parametrize(
    "program",
    [
        "import socket\nsocket.socket()",
        "import socket\nsocket.socket(socket.AF_UNIX)",
        "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')",
        "import ctypes\nassert ctypes.CDLL(None).syscall(425, 8, bytes(120)) >= 0",
    ],
    ids=["internet", "unix", "netlink", "http", "io_uring"],
)
def test_the_network_is_refused(kind: str, program: str, request: pytest.FixtureRequest) -> None:
    assert run(request.getfixturevalue(kind), program).outcome is Outcome.ERROR


@pytest.mark.parametrize("kind", ["sandbox", "weak"])
@pytest.mark.parametrize(
    "program",
    [
        "import os\nos.kill(os.getppid(), 9)",
        "import os\nos.kill(-1, 9)",
        "import os\nos.killpg(0, 9)",
        f"import os\nos.kill({os.getpid()}, 9)",
        f"import signal, os\nsignal.pidfd_send_signal(os.pidfd_open({os.getpid()}), 9)",
        f"import ctypes\nassert ctypes.CDLL(None).ptrace(16, {os.getpid()}, 0, 0) == 0",
        f"import ctypes\nassert ctypes.CDLL(None).syscall(234, {os.getpid()}, {os.getpid()}, 9) == 0",
    ],
    ids=["parent", "all", "group", "by number", "by descriptor", "trace", "thread"],
)
def test_other_processes_are_out_of_reach(kind: str, program: str, request: pytest.FixtureRequest) -> None:
    assert run(request.getfixturevalue(kind), program).outcome is Outcome.ERROR


@pytest.mark.parametrize("kind", ["sandbox", "weak"])
@pytest.mark.parametrize(
    "program",
    [
        "import time\ntime.sleep(1000)",
        "while True:\n    pass",
        "import signal\nfor s in set(signal.Signals) - {9, 19}:\n    signal.signal(s, signal.SIG_IGN)\nwhile True:\n    pass",
        "import os, time\nos.close(0); os.close(1); os.close(2)\ntime.sleep(1000)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
        "10 ** 10 ** 10",
    ],
    ids=["sleep", "loop", "signals ignored", "closed streams", "thread", "power"],
)
def test_running_for_ever_is_ended(kind: str, program: str, request: pytest.FixtureRequest) -> None:
    assert run(request.getfixturevalue(kind), program, timeout_s=0.7).outcome is Outcome.TIMEOUT


def test_too_much_output_is_ended(sandbox: Sandbox) -> None:
    found = run(sandbox, "while True:\n    print('x' * 1000)")
    assert found.outcome is Outcome.OUTPUT
    assert len(found.stdout) <= SMALL.output_kb * 1024


def test_a_flood_of_errors_is_swallowed(sandbox: Sandbox) -> None:
    program = "import sys\nfor _ in range(20000):\n    sys.stderr.write('x' * 100 + '\\n')\nprint(1)"
    assert run(sandbox, program) == Run(Outcome.OK, b"1\n")


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "status 3"),
        ("import os\nos._exit(4)", "status 4"),
        ("import os\nos.abort()", "status -"),
        ("import ctypes\nctypes.string_at(0)", "status -"),
        ("def f(", "SyntaxError"),
        ("\x00", ""),
        ("'\ud800'", ""),
    ],
)
def test_a_failure_says_why(sandbox: Sandbox, program: str, detail: str) -> None:
    found = run(sandbox, program)
    assert found.outcome is Outcome.ERROR
    assert detail in found.detail


def test_programs_run_side_by_side_in_threads(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: run(sandbox, f"print({n})").stdout, range(12)))
    assert found == [f"{n}\n".encode() for n in range(12)]


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.01, 0.5])
def test_the_program_ends_with_its_parent_however_early_that_dies(sandbox: Sandbox, delay_s: float) -> None:
    program = """
from rlcs.rewards.sandbox import Sandbox
with Sandbox().start({"p.py": "import time; time.sleep(1000)"}, ["p.py"]) as program:
    print(program.process.pid, flush=True)
    program.process.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    launcher = psutil.Process(int(parent.stdout.readline()))
    started = time.monotonic()
    while not (programs := launcher.children()) and time.monotonic() < started + 10:
        time.sleep(0.01)
    assert programs
    time.sleep(delay_s)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([launcher, *programs], timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_without_namespaces_the_folder_is_a_temporary_one_that_is_removed(weak: Sandbox) -> None:
    found = run(weak, "import os\nopen('note', 'w').write('x')\nprint(sorted(os.listdir('.')))")
    assert found == Run(Outcome.OK, b"['note', 'program.py']\n")
