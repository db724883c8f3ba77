"""From a configuration to an open `WeightSync`."""

from __future__ import annotations

from rlcs.config import Config
from rlcs.weight_sync.base import Receivers, Sender, WeightSync
from rlcs.weight_sync.choice import choose_backend
from rlcs.weight_sync.object_store import AdapterSync, ObjectStoreSync
from rlcs.weight_sync.transfer import TransferSync


def open_weight_sync(config: Config, learner: Sender, rollouts: Receivers, *, version: int = 0) -> WeightSync:
    """The way of the weights, ready for its first sync; `version` is that of the engines' weights.

    Raises:
        EngineError: learner and engines could not be connected.
    """
    backend = choose_backend(config)
    sync: WeightSync
    if backend in (ObjectStoreSync.name, AdapterSync.name):
        way = AdapterSync if backend == AdapterSync.name else ObjectStoreSync
        sync = way(learner, rollouts, version=version)
    else:
        workers = config.rollout.tensor_parallel_size
        sync = TransferSync(backend, learner, rollouts, workers_per_engine=workers, version=version)
    sync.open()
    return sync
