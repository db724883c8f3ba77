"""Lets a torchvision built for CUDA be imported beside a PyTorch without CUDA. Python imports this at its start.

transformers' image and video processors, and so vLLM's, import torchvision. Where the package index has CUDA builds
only, its compiled part cannot load beside a CPU build of PyTorch, and `import torchvision` fails because two operators
have no schema; its Python part needs neither. This folder stands on PYTHONPATH, so that every process of a run has the
hook, those too that vLLM starts on its own: see `rlcs.vision.environment`. It does nothing where torchvision suits
PyTorch, or is missing.
"""

import importlib.abc
import importlib.machinery
import os
import re
import sys
from typing import Any

_kept: list[Any] = []  # libraries of schemas live as long as this list


def _is_for_cuda(folder: str) -> bool:
    """Whether the torchvision in `folder` was built for CUDA."""
    try:
        with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
            return re.search(r"""^__version__ = ['"][^'"]*\+cu\d""", file.read(), re.MULTILINE) is not None
    except OSError:
        return False


class _Hook(importlib.abc.MetaPathFinder):
    """Defines the schemas when torchvision is first imported, then steps aside."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname != "torchvision":
            return
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or not spec.submodule_search_locations or not _is_for_cuda(spec.submodule_search_locations[0]):
            return
        import torch

        if torch.version.cuda is None:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)
        return


def _import_shadowed() -> None:
    """Run the sitecustomize module that this one stands before on sys.path, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [folder for folder in sys.path if os.path.abspath(folder or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


# Once a process, under whatever name this file is imported: the schemas can be defined only once.
if "rlcs torchvision hook" not in sys.modules and "torchvision" not in sys.modules:
    sys.modules["rlcs torchvision hook"] = sys.modules[__name__]
    sys.meta_path.insert(0, _Hook())
if __name__ == "sitecustomize":
    import importlib.util

    _import_shadowed()
