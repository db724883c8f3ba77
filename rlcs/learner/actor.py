"""The learner as a Ray actor: the only one, or one rank of `rlcs.learner.group.LearnerGroup`.

Weights travel as numpy arrays: see `rlcs.weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.actors import ActorProcess, own_process
from rlcs.checkpoint import check_room
from rlcs.config import LearnerConfig
from rlcs.errors import EngineError
from rlcs.learner.snapshot import Writing, WritingState
from rlcs.types import Batch
from rlcs.vitals import Vitals, measure
from rlcs.weights import to_arrays

if TYPE_CHECKING:
    from rlcs.learner.learner import Learner
    from rlcs.learner.transfer import WeightSender

_TRANSFER_TIMEOUT_S = 600.0


class LearnerActor:
    """`rlcs.learner.learner.Learner` behind Ray.

    `ray.remote(LearnerActor).options(...).remote(model_path, config, ...)` starts one. Arguments and methods are the
    learner's, but `weights` returns numpy arrays. The policy is loaded by `load`, or by `join` once all ranks are there.
    """

    def __init__(self, model_path: str, config: LearnerConfig, **options: Any) -> None:
        self._arguments = (model_path, config, options)
        self._store: Any = None
        self._loaded: Learner | None = None
        self._sender: WeightSender | None = None
        self._writing: Writing | None = None

    def open_store(self) -> tuple[str, int]:
        """The meeting point of the ranks, kept here: host and a free port. Rank 0's to call, before `join`."""
        import ray

        from rlcs.learner.distributed import open_store

        self._store = open_store(ray.util.get_node_ip_address())
        return self._store.host, self._store.port

    def join(self, rank: int, store: tuple[str, int], local_size: int) -> bool:
        """Join the group of all ranks, `local_size` of them on this machine, and load the policy; True when done."""
        from rlcs.learner.distributed import connect
        from rlcs.learner.model import learner_device

        config = self._arguments[1]
        device = learner_device(config)
        size = config.data_parallel_size
        self._load(connect(rank, size, self._store or store, device=device, local_size=local_size))
        return True

    def load(self) -> bool:
        """Load the policy as the only rank; True when done."""
        self._load(None)
        return True

    def _load(self, ranks: Any) -> None:
        from rlcs.learner.learner import Learner
        from rlcs.learner.limits import memory_advice

        model_path, config, options = self._arguments
        with memory_advice(config, "loading the policy"):
            self._loaded = Learner(model_path, config, ranks=ranks, **options)

    @property
    def _learner(self) -> Learner:
        assert self._loaded is not None, "there is no policy before `load` or `join`"
        return self._loaded

    def ready(self) -> bool:
        """True, once the policy is loaded."""
        return self._loaded is not None

    def process(self) -> ActorProcess:
        """This actor's process, which is there before the policy is loaded."""
        return own_process()

    def update(
        self,
        batch: Batch,
        num_groups: int | None = None,
        group_sizes: list[int] | None = None,
        rewards: NDArray[np.float64] | None = None,
        rate_factor: float = 1.0,
    ) -> dict[str, float]:
        """See `Learner.update`."""
        from rlcs.learner.limits import memory_advice

        with memory_advice(self._arguments[1], "updating the policy"):
            return self._learner.update(batch, num_groups, group_sizes, rewards, rate_factor)

    def logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """See `Learner.logprobs`."""
        return self._learner.logprobs(batch)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The policy's weights; `to_tensors` makes tensors of them. Ray copies them once, into shared memory."""
        return to_arrays(self._learner.weights())

    def open_transfer(self, backend: str, engines: list[Any], workers_per_engine: int) -> None:
        """Connect the first rank with vLLM's workers of the engines' actors; `backend` is vLLM's name of the way."""
        import ray

        from rlcs.learner.transfer import WeightSender, WeightSource, engine_call
        from rlcs.weight_sync.messages import EngineClient

        learner = self._learner
        weights = learner.live_weights()  # of all ranks: each may hold a piece
        if not weights:
            return
        client = EngineClient(engine_call(engines, _TRANSFER_TIMEOUT_S), len(engines), workers_per_engine)
        source = WeightSource(learner.dtype, learner.device)
        self._sender = WeightSender(backend, client, source, weights, ray.util.get_node_ip_address())

    def send_weights(self) -> int:
        """Send the policy's weights the way that `open_transfer` opened; returns their bytes, 0 but on the first rank."""
        weights = self._learner.live_weights()
        return self._sender.send(weights) if self._sender is not None else 0

    def vitals(self) -> Vitals:
        """How this process is."""
        return measure()

    def save_policy(self, folder: Path) -> None:
        """See `Learner.save_policy`."""
        self._learner.save_policy(folder)

    def save_state(self, folder: Path) -> None:
        """See `Learner.save_state`."""
        self._learner.save_state(folder)

    def begin_save(self, folder: Path, background: bool) -> None:
        """Write `policy/` and `learner/` of a checkpoint, beside what comes next if in the `background`; the first rank does.

        Raises:
            CheckpointError: there is no room for them. What goes wrong later is told by `saving`.
        """
        snapshot = self._learner.snapshot(copy=background)
        if snapshot.num_bytes:
            check_room(folder, snapshot.num_bytes)
            self._writing = Writing(snapshot, folder)
            if not background:
                self._writing.join()

    def saving(self) -> WritingState:
        """How far what `begin_save` began is. Raises EngineError where it began nothing: another process did."""
        if self._writing is None:
            raise EngineError("the learner that began the checkpoint is no more")
        return self._writing.state

    def load_state(self, folder: Path) -> None:
        """See `Learner.load_state`."""
        self._learner.load_state(folder)
