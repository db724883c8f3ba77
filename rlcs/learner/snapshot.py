"""A learner as of one moment, in memory: it is written to the disk while the learner goes on.

`Learner.snapshot` collects it, from all ranks where the policy is sharded; `Writing` writes it in a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlcs.errors import one_line
from rlcs.learner.sharding import is_sharded, whole

if TYPE_CHECKING:
    import torch

Write = Callable[[Path], None]
"""Fills a folder, which need not exist yet."""


class Copies:
    """Tensors as they are now, each kept once however often it is asked for."""

    def __init__(self, *, keep: bool, copy: bool) -> None:
        """`keep`: False on a rank that only helps to gather what is sharded. `copy`: onto the CPU; else plain tensors stay
        what they are, and what is made of them must be written before they change.
        """
        self.keep = keep
        self._copy = copy
        self._made: dict[tuple[object, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, value: torch.Tensor) -> torch.Tensor:
        """The whole of a tensor. All ranks must ask for the same ones; a rank that keeps nothing gets what it gave."""
        if is_sharded(value):
            key: tuple[object, ...] = (id(value),)
        else:
            key = (value.data_ptr(), tuple(value.shape), tuple(value.stride()), value.dtype, value.device)
        if value.numel() and key in self._made:
            return self._made[key][1]
        full = whole(value.detach())
        if not self.keep:
            self._made[key] = (value, value)  # the first rank does not gather it again, so nor must this one
            return value
        if is_sharded(value):
            full = full.cpu()
        elif self._copy:
            # Not `to("cpu")`, which on a CPU is the live tensor itself.
            full = full.clone() if full.device.type == "cpu" else full.cpu()
        self._made[key] = (value, full)  # the original too, so that its address stays its own
        return full


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a learner, ready to be written."""

    num_bytes: int
    """How much will be written, about."""
    write: Write


def nothing(folder: Path) -> None:
    """What a rank writes that only helped to gather."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a checkpoint holds of a learner. On ranks other than the first there is nothing to write."""

    policy: Piece
    state: tuple[Piece, ...]

    @property
    def num_bytes(self) -> int:
        """How much will be written, about."""
        return sum(piece.num_bytes for piece in (self.policy, *self.state))

    def write(self, folder: Path) -> None:
        """Fill `policy/` and `learner/` of a folder."""
        self.policy.write(folder / "policy")
        for piece in self.state:
            piece.write(folder / "learner")


@dataclass(frozen=True, slots=True)
class WritingState:
    """How far a snapshot is."""

    is_done: bool
    error: str | None = None
    """Why it could not be written."""
    seconds: float = 0.0


class Writing:
    """Writes a snapshot to a folder, in a thread."""

    def __init__(self, snapshot: Snapshot, folder: Path) -> None:
        self._error: str | None = None
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, args=(snapshot, folder), name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def state(self) -> WritingState:
        """How far it is; asking takes no time."""
        if self._thread.is_alive():
            return WritingState(is_done=False)
        return WritingState(True, self._error, self._seconds)

    def join(self) -> None:
        """Wait until it is done."""
        self._thread.join()

    def _run(self, snapshot: Snapshot, folder: Path) -> None:
        try:
            snapshot.write(folder)
        except Exception as error:  # told to the trainer, which asks for `state`
            self._error = one_line(error, 400, typed=True)
        self._seconds = time.perf_counter() - self._started


def num_bytes(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None = None) -> int:
    """Of tensors in a file, as `dtype` if given."""
    return sum(value.numel() * (dtype or value.dtype).itemsize for value in tensors.values())


def cast(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The same on the CPU with floating-point ones in `dtype`; one tensor under two names stays one."""
    made: dict[int, torch.Tensor] = {}
    result = {}
    for name, value in tensors.items():
        if id(value) not in made:
            made[id(value)] = value.to("cpu", dtype if value.is_floating_point() else value.dtype)
        result[name] = made[id(value)]
    return result
