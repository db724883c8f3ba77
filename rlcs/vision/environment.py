"""What processes that handle images need to be started with: see `rlcs.vision.torchvision_hook.sitecustomize`."""

from __future__ import annotations

import os
from pathlib import Path

_HOOK = Path(__file__).parent / "torchvision_hook"


def vision_env() -> dict[str, str]:
    """Environment variables of a process that may import torchvision."""
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(_HOOK)]
    return {"PYTHONPATH": os.pathsep.join([str(_HOOK), *others])}


def prepare_process() -> None:
    """Make images possible in this process, and in those that it starts. Before the first import of torchvision."""
    os.environ.update(vision_env())
    import rlcs.vision.torchvision_hook.sitecustomize  # noqa: F401  (installs the hook)
