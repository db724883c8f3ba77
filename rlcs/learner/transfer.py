"""The sending end of vLLM's weight-transfer engines, in a learner's process (see `rlcs.weight_sync.transfer`).

vLLM's trainer engine asks its source for the weights twice: for names, types and shapes, then for the tensors, one at a
time. They are put on the GPU and turned into the run's dtype one at a time too, so a policy kept in float32 costs no
second copy of itself.

Written against vLLM 0.32's source; not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CHUNK_BYTES = 2**30
"""Memory on the GPU for one chunk; a larger weight gets a chunk of its own size."""


@dataclass(frozen=True, slots=True)
class WeightMeta:
    """What vLLM calls ParamMeta."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class WeightSource:
    """Weights as vLLM's trainer engines read them; `weights` is replaced before each sync."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.weights: Mapping[str, torch.Tensor] = {}
        self._dtype = dtype
        self._device = device

    def metadata(self) -> list[WeightMeta]:
        """Names, types and shapes of what iteration yields, in its order."""
        return [WeightMeta(name, self._sent_as(value), tuple(value.shape)) for name, value in self.weights.items()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in self.weights.items():
            yield name, value.detach().to(self._device, self._sent_as(value)).contiguous()

    def num_bytes(self) -> int:
        """Bytes of all weights as they are sent."""
        return sum(value.numel() * self._sent_as(value).itemsize for value in self.weights.values())

    def largest(self) -> int:
        """Bytes of the largest weight."""
        return max(value.numel() * self._sent_as(value).itemsize for value in self.weights.values())

    def _sent_as(self, value: torch.Tensor) -> torch.dtype:
        return self._dtype if value.is_floating_point() else value.dtype


class WeightSender:
    """Sends weights to the workers of all engines."""

    def __init__(
        self, backend: str, client: Any, source: WeightSource, weights: Mapping[str, torch.Tensor], host: str
    ) -> None:
        """Connect; `backend` is vLLM's name, `client` an `rlcs.weight_sync.messages.EngineClient`, `host` this machine's
        address in the cluster. `weights` show how large a chunk must be.
        """
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

        self._source = source
        source.weights = weights
        size = max(CHUNK_BYTES, source.largest())
        source.weights = {}
        init: Any
        if backend == "nccl":
            from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
            from vllm.utils.network_utils import get_open_port

            init = NCCLTrainerInitInfo(
                master_address=host,
                master_port=get_open_port(),
                world_size=client.world_size,
                packed=True,
                packed_buffer_size_bytes=size,
                rank=0,
            )
        else:
            from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

            # Packed: plain handles would keep a second copy of all weights alive where they change their type.
            init = IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=size, rank=0)
        self._engine = WeightTransferTrainerFactory.trainer_init(init, client=client, source=source)  # type: ignore[arg-type]

    def send(self, weights: Mapping[str, torch.Tensor]) -> int:
        """Send them; returns their bytes."""
        self._source.weights = weights
        try:
            self._engine.send_weights()
            return self._source.num_bytes()
        finally:
            self._source.weights = {}


def engine_call(engines: Sequence[Any], timeout_s: float) -> Callable[[str, Sequence[dict[str, Any]]], None]:
    """Calls a method of vLLM's workers through the engines' actors, and waits for all of them."""
    from rlcs.actors import get

    def call(method: str, arguments: Sequence[dict[str, Any]]) -> None:
        calls = [engine.transfer.remote(method, own) for engine, own in zip(engines, arguments, strict=True)]
        get(calls, timeout_s, f"syncing weights ({method})")

    return call
