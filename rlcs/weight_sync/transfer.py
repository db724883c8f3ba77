"""Weight sync through vLLM's own weight-transfer engines: from GPU to GPU, without a detour through host memory.

`nccl`: the learner's first rank broadcasts to all workers of all engines. `cuda_ipc`: the engine maps the learner's
memory on the GPU that both use. The driver only asks; the sending end is `rlcs.learner.transfer`, in the learner's
process, and the receiving end lives in vLLM's workers.

Written against vLLM 0.32's source; not yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

from rlcs.weight_sync.base import Receivers, Sender, WeightSync
from rlcs.weight_sync.choice import vllm_backend

_TIMEOUT_S = 900.0


class TransferSync(WeightSync):
    """`nccl` or `cuda_ipc`."""

    def __init__(
        self, backend: str, learner: Sender, rollouts: Receivers, *, workers_per_engine: int, version: int = 0
    ) -> None:
        super().__init__(learner, rollouts, version=version)
        self.name = backend  # type: ignore[misc]  # one class for two names
        self._workers = workers_per_engine
        self._connected: list[Any] = []

    def open(self) -> None:
        """Connect the learner's first rank with the engines' workers."""
        self._connected = list(self._rollouts.engines)
        calls = self._learner.submit("open_transfer", vllm_backend(self.name), self._connected, self._workers)
        self._learner.wait(calls, f"connecting the learner with the engines ({self.name})", _TIMEOUT_S)

    def _send(self, version: int) -> int:
        self._rollouts.settle()
        if list(self._rollouts.engines) != self._connected:  # one was replaced
            self.open()
        calls = self._learner.submit("send_weights")
        num_bytes = self._learner.wait(calls, f"syncing weights ({self.name})", _TIMEOUT_S)
        self._rollouts.adopt(version)
        return int(num_bytes)
