"""The data-parallel ranks of the learner: a `torch.distributed` group, as one of its processes sees it.

Every rank has the whole batch, computes its share of each minibatch, and the shares are summed: loss weights are those
of the whole minibatch (`rlcs.learner.losses.sequence_weights`), so gradients are added up, not averaged. One rank is a
group in which nothing happens: no process group, no copy, no message.

Gradients of replicated parameters travel in flat buckets, as those of DistributedDataParallel do; gradients of sharded
ones are summed by FSDP itself (`rlcs.learner.sharding`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch._C._distributed_c10d import TCPStore

TIMEOUT_S = 1800.0
"""How long a rank waits for the others in one collective operation."""
BUCKET_BYTES = 25 * 2**20
"""Gradients that travel together, as in DistributedDataParallel; a larger one travels alone, without a copy."""

Scalar = TypeVar("Scalar", bound=np.generic)


class Ranks:
    """The group of ranks. `Ranks()` is a single one; `connect` joins several."""

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1) -> None:
        """`local_size`: how many of the `size` ranks run on this machine."""
        self.rank = rank
        self.size = size
        self.local_size = local_size

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and speaks for all."""
        return self.rank == 0

    def sum(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """The sum over ranks of an array [...] that has the same shape on each."""
        return self._reduce(values, "SUM")

    def max(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """The largest over ranks, element by element."""
        return self._reduce(values, "MAX")

    def broadcast(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Rank 0's array; the others give one of the same shape and type."""
        if self.size == 1:
            return values
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(values).copy())
        torch.distributed.broadcast(tensor, src=0)
        return tensor.numpy()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients of replicated parameters over ranks, in place.

        A parameter without a gradient on some ranks counts as 0 there; one without on all ranks stays without.
        """
        if self.size == 1:
            return
        import torch

        trained = [parameter for parameter in parameters if parameter.requires_grad]
        present = self.max(np.array([parameter.grad is not None for parameter in trained], np.uint8))
        gradients = []
        for parameter, exists in zip(trained, present, strict=True):
            if exists:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                torch.distributed.all_reduce(bucket[0])
                continue
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            torch.distributed.all_reduce(flat)
            parts = flat.split([gradient.numel() for gradient in bucket])
            torch._foreach_copy_(bucket, [part.view_as(g) for part, g in zip(parts, bucket, strict=True)])

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.max(np.zeros(1, np.uint8))

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            import torch

            torch.distributed.destroy_process_group()

    def _reduce(self, values: NDArray[Scalar], operation: str) -> NDArray[Scalar]:
        if self.size == 1:
            return values
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(values).copy())
        torch.distributed.all_reduce(tensor, op=getattr(torch.distributed.ReduceOp, operation))
        return tensor.numpy()


def open_store(host: str) -> TCPStore:
    """The meeting point of the ranks, kept by rank 0 on a free port (`.port`) of its machine, `host` to the others."""
    from torch._C._distributed_c10d import TCPStore

    return TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=TIMEOUT_S))


def connect(
    rank: int,
    size: int,
    store: TCPStore | tuple[str, int],
    *,
    device: torch.device,
    local_size: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> Ranks:
    """Join the group as `rank` of `size`; `store` is rank 0's, or its host and port. Waits for the others.

    Arrays travel by gloo; gradients by gloo on CPUs and by nccl on GPUs.
    """
    if size == 1:
        return Ranks()
    from torch._C._distributed_c10d import TCPStore
    from torch.distributed import init_process_group

    timeout = timedelta(seconds=timeout_s)
    if isinstance(store, tuple):
        store = TCPStore(store[0], store[1], is_master=False, timeout=timeout)
    gpu: dict[str, Any] = {}
    if device.type == "cuda":
        import torch

        gpu["device_id"] = torch.device("cuda", device.index or 0)  # Ray shows a rank only its own GPU
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout, **gpu)
    return Ranks(rank, size, local_size)


def _buckets(gradients: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Neighbours of one type, at most `BUCKET_BYTES` together, in the same order on all ranks."""
    buckets: list[list[torch.Tensor]] = []
    room = 0
    for gradient in gradients:
        size = gradient.numel() * gradient.element_size()
        if not buckets or size > room or gradient.dtype != buckets[-1][0].dtype:
            buckets.append([])
            room = BUCKET_BYTES
        buckets[-1].append(gradient)
        room -= size
    return buckets
