"""Random numbers that need not be saved: each piece of work seeds its process from where in the run it stands.

An engine seeds its generators before each request from (run's seed, version of the policy, purpose, request, engine), the
learner before each update from (run's seed, updates made), a scoring actor before each unit from its contents. So an
actor that was started anew, in a resumed run or after a fault, draws what the one before it would have drawn, and a
checkpoint holds the random state of every actor by holding its counters. vLLM's seeds of single requests would do the
same, but they crash its CPU back end.
"""

from __future__ import annotations

import os
import random
import sys
import zlib
from collections.abc import Iterable

import numpy as np


def seed_process(*position: int) -> None:
    """Seed the generators of this process (random, numpy's global one, torch's on all devices) from some whole numbers.

    Positions that differ in one number give unrelated streams. torch is left alone where nothing has imported it.
    """
    words = np.random.SeedSequence([abs(int(number)) for number in position]).generate_state(4)
    random.seed(int.from_bytes(words.tobytes(), "little"))
    np.random.seed(words)  # noqa: NPY002 - rewards and libraries of other people use it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed((int(words[0]) << 31) ^ int(words[1]))


def position_of(texts: Iterable[str]) -> int:
    """A number for `seed_process` from some texts: equal for equal ones, in whatever process."""
    value = 0
    for text in texts:
        value = zlib.crc32(text.encode("utf-8", "surrogatepass"), value)
    return value


def be_deterministic() -> None:
    """Make torch prefer algorithms whose result does not depend on timing (`train.deterministic`).

    Where an operation has none, torch warns and goes on: that is so of a few on GPUs, and of none that a run uses on a CPU.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrix is multiplied
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


class SeededWorker:
    """What an engine's vLLM workers, which may be other processes, can do besides vLLM's own."""

    def rlcs_seed(self, position: list[int], deterministic: bool) -> None:
        """See `seed_process` and `be_deterministic`."""
        seed_process(*position)
        if deterministic:
            be_deterministic()
