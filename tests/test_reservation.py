"""Actors start on the GPUs that the placement gives them: Ray with four GPUs that do not exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from rlcs.actors import start_ray, stop_ray
from rlcs.config import ClusterConfig, Config
from rlcs.errors import ConfigError
from rlcs.reservation import Reservation


class Seer:
    def gpus(self) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    stop_ray()  # another file's cluster would have no GPUs
    start_ray(ClusterConfig(num_cpus=8, num_gpus=4))
    yield
    stop_ray()


def config(placement: str, engines: int, gpus_per_engine: int, ranks: int) -> Config:
    rollout = {"num_engines": engines, "gpus_per_engine": gpus_per_engine, "tensor_parallel_size": gpus_per_engine}
    tree: dict[str, Any] = {
        "model": {"init": "tiny"},
        "data": {"train": "train.jsonl"},
        "cluster": {"placement": placement},
        "rollout": rollout,
        "learner": {"gpus": ranks},
    }
    return Config.model_validate(tree)


def seen(options: list[dict[str, Any]]) -> list[set[str]]:
    actors = [ray.remote(Seer).options(**one).remote() for one in options]
    found = ray.get([actor.gpus.remote() for actor in actors], timeout=60)
    for actor in actors:
        ray.kill(actor)
    return [set(text.split(",")) for text in found]


@pytest.mark.parametrize(
    ("placement", "engines", "per_engine", "ranks"), [("split", 1, 2, 2), ("colocate", 2, 2, 4), ("colocate", 1, 1, 1)]
)
def test_engines_and_ranks_see_their_gpus(placement: str, engines: int, per_engine: int, ranks: int) -> None:
    reserved = Reservation(config(placement, engines, per_engine, ranks))
    try:
        for_engines, for_ranks = seen(reserved.engines()), seen(reserved.learners())
    finally:
        reserved.release()
    assert all(len(gpus) == per_engine for gpus in for_engines)
    assert all(len(gpus) == 1 for gpus in for_ranks)
    assert sum(map(len, for_engines)) == len(set().union(*for_engines))
    assert sum(map(len, for_ranks)) == len(set().union(*for_ranks))
    common = set().union(*for_engines) & set().union(*for_ranks)
    assert len(common) == (0 if placement == "split" else ranks)


def test_more_gpus_than_the_cluster_has_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="no GPU is left for engine 3 on 1 node of 4 GPUs"):
        Reservation(config("split", 4, 1, 1))


def test_without_gpus_actors_start_anywhere() -> None:
    reserved = Reservation(Config.model_validate({"model": {"init": "tiny"}, "data": {"train": "train.jsonl"}}))
    assert reserved.learners() == [{"num_cpus": 0, "num_gpus": 0}]
