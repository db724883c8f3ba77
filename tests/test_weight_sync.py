"""The choice of the way, the messages to vLLM's engines, and the order of versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from rlcs.config import Config
from rlcs.errors import ConfigError, EngineError
from rlcs.weight_sync import SyncReport, choose_backend, vllm_backend
from rlcs.weight_sync.messages import EngineClient
from rlcs.weight_sync.object_store import ObjectStoreSync


def config(learner_gpus: float = 0, placement: str = "split", **rollout: Any) -> Config:
    return Config(
        cluster={"placement": placement},  # type: ignore[arg-type]
        model={"path": "somewhere"},  # type: ignore[arg-type]
        data={"train": "rows.jsonl"},  # type: ignore[arg-type]
        rollout=rollout,  # type: ignore[arg-type]
        learner={"gpus": learner_gpus},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("learner", "engine", "num_engines", "expected"),
    [
        (0, 0, 2, "object_store"),
        (1, 0, 1, "object_store"),
        (0, 1, 1, "object_store"),
        (1, 1, 3, "nccl"),
        (4, 2, 2, "nccl"),
        (0.4, 0.5, 1, "cuda_ipc"),
        (0.4, 0.5, 2, "object_store"),  # two engines of half a GPU may be on two GPUs
        (0.6, 0.6, 1, "object_store"),
    ],
)
def test_the_placement_chooses_the_way(learner: float, engine: float, num_engines: int, expected: str) -> None:
    assert choose_backend(config(learner, gpus_per_engine=engine, num_engines=num_engines)) == expected


@pytest.mark.parametrize(("num_engines", "expected"), [(1, "cuda_ipc"), (2, "object_store")])
def test_engines_in_turns_with_the_learner_never_meet_it_by_nccl(num_engines: int, expected: str) -> None:
    turns = config(num_engines, gpus_per_engine=1, num_engines=num_engines, placement="colocate")
    assert choose_backend(turns) == expected


def test_rollouts_beside_the_update_need_engines_that_are_awake() -> None:
    with pytest.raises(ValidationError, match="engines sleep meanwhile"):
        config(1, gpus_per_engine=1, max_staleness=1, placement="colocate")


def test_of_a_lora_policy_only_the_adapter_travels() -> None:
    def lora(**rollout: Any) -> Config:
        tree: dict[str, Any] = {"model": {"path": "somewhere", "lora": {}}, "data": {"train": "rows.jsonl"}}
        return Config(**tree, rollout={"gpus_per_engine": 1, **rollout}, learner={"gpus": 1})

    assert choose_backend(lora()) == choose_backend(lora(weight_sync="object_store")) == "adapter"
    with pytest.raises(ConfigError, match="model.lora trains an adapter"):
        choose_backend(lora(weight_sync="nccl"))


def test_the_object_store_can_always_be_asked_for() -> None:
    assert choose_backend(config(1, gpus_per_engine=1, weight_sync="object_store")) == "object_store"


@pytest.mark.parametrize("asked", ["nccl", "cuda_ipc"])
def test_a_way_that_the_placement_does_not_allow_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=f"rollout.weight_sync {asked} does not fit") as caught:
        choose_backend(config(weight_sync=asked))
    assert caught.value.exit_code == 2 and "object_store" in str(caught.value)


def test_stale_rollouts_need_importance_sampling() -> None:
    tree: dict[str, Any] = {"model": {"path": "somewhere"}, "data": {"train": "rows.jsonl"}}
    with pytest.raises(ValidationError, match="importance_sampling_correction"):
        Config(**tree, rollout={"max_staleness": 1}, learner={"importance_sampling_correction": False})
    assert Config(**tree).rollout.max_staleness == 0


def test_engines_are_started_with_vllms_name_of_the_way() -> None:
    assert [vllm_backend(name) for name in ("object_store", "adapter")] == [None, None]
    assert [vllm_backend(name) for name in ("cuda_ipc", "nccl")] == ["ipc", "nccl"]


class Recorder:
    """Keeps the messages to each engine."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[dict[str, Any]]]] = []

    def __call__(self, method: str, arguments: Sequence[dict[str, Any]]) -> None:
        self.calls.append((method, list(arguments)))


def test_every_worker_of_every_engine_gets_a_rank_of_its_own() -> None:
    recorder = Recorder()
    client = EngineClient(recorder, num_engines=3, workers_per_engine=2)
    assert client.world_size == 7
    client.init_weight_transfer_engine({"rank_offset": 1, "world_size": 7, "packed": True})
    ((method, arguments),) = recorder.calls
    assert method == "init_weight_transfer_engine"
    # A worker's rank is its engine's offset and its own number in the engine.
    ranks = [own["init_info"]["rank_offset"] + worker for own in arguments for worker in range(2)]
    assert ranks == [1, 2, 3, 4, 5, 6]
    assert all(own["init_info"]["packed"] for own in arguments)


def test_an_update_reaches_all_engines_whole() -> None:
    recorder = Recorder()
    client = EngineClient(recorder, num_engines=2, workers_per_engine=1)
    client.init_weight_transfer_engine({"packed": True})  # CUDA IPC has no ranks
    client.start_weight_update()
    client.update_weights({"names": ["a"]})
    client.finish_weight_update()
    assert recorder.calls == [
        ("init_weight_transfer_engine", [{"init_info": {"packed": True}}] * 2),
        ("start_weight_update", [{}] * 2),
        ("update_weights", [{"update_info": {"names": ["a"]}}] * 2),
        ("finish_weight_update", [{}] * 2),
    ]


class Learner:
    def weights(self) -> list[int]:
        return [1, 2, 3]

    def submit(self, method: str, *arguments: Any) -> Any:
        raise NotImplementedError

    def wait(self, calls: Any, doing: str, timeout_s: float) -> Any:
        raise NotImplementedError


class Engines:
    def __init__(self) -> None:
        self.engines: list[Any] = []
        self.versions: list[int] = []
        self.fails = False

    def sync(self, weights: list[int], version: int) -> int:
        if self.fails:
            raise EngineError("an actor died")
        self.adopt(version)
        return len(weights)

    def adopt(self, version: int) -> None:
        self.versions.append(version)


def test_a_sync_reports_its_way_bytes_and_speed() -> None:
    report = ObjectStoreSync(Learner(), Engines()).sync(1)
    assert (report.backend, report.version, report.num_bytes) == ("object_store", 1, 3)
    assert SyncReport("nccl", 1, 4_000_000_000, 2.0).metrics() == {"sync/bytes": 4e9, "sync/gb_per_s": 2.0}


@pytest.mark.parametrize("version", [4, 5])
def test_weights_never_go_back(version: int) -> None:
    engines = Engines()
    with pytest.raises(EngineError, match="version 5 already"):
        ObjectStoreSync(Learner(), engines, version=5).sync(version)
    assert engines.versions == []


def test_a_sync_that_failed_can_be_tried_again() -> None:
    engines = Engines()
    sync = ObjectStoreSync(Learner(), engines)
    engines.fails = True
    with pytest.raises(EngineError):
        sync.sync(1)
    engines.fails = False
    assert sync.sync(1).version == 1
