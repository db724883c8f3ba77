"""What vLLM's weight-transfer engines are told (`vllm.distributed.weight_transfer`), and whom.

vLLM's trainer engine speaks to the inference side through an object with four methods, `VLLMWeightSyncClient`. Its own
client for Ray sends every actor the same message, which is right for the data-parallel ranks of one deployment: those
count their NCCL ranks on. Engines of RLCS are deployments of their own, each of which would take rank 1; `EngineClient`
gives each its own offset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Call = Callable[[str, Sequence[dict[str, Any]]], None]
"""Calls a method of the workers of every engine, with arguments for each engine, and waits for all."""


class EngineClient:
    """vLLM's `VLLMWeightSyncClient` over several engines of `workers_per_engine` (tensor-parallel) GPUs each."""

    def __init__(self, call: Call, num_engines: int, workers_per_engine: int) -> None:
        self._call = call
        self._num_engines = num_engines
        self._workers = workers_per_engine

    @property
    def world_size(self) -> int:
        """NCCL ranks: the learner's sender, then every worker of every engine."""
        return 1 + self._num_engines * self._workers

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connect; the NCCL ranks of engine i begin at `rank_offset + i * workers_per_engine`."""
        arguments = []
        for index in range(self._num_engines):
            own = dict(init_info)
            if "rank_offset" in own:
                own["rank_offset"] += index * self._workers
            arguments.append({"init_info": own})
        self._call("init_weight_transfer_engine", arguments)

    def start_weight_update(self) -> None:
        """Begin an update."""
        self._call("start_weight_update", [{}] * self._num_engines)

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Receive a chunk: names, dtypes, shapes, and handles where memory is shared."""
        self._call("update_weights", [{"update_info": update_info}] * self._num_engines)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """End an update."""
        self._call("finish_weight_update", [{}] * self._num_engines)
