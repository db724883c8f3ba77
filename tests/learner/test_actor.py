from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from rlcs.actors import ActorProcess
from rlcs.config import LearnerConfig
from rlcs.errors import CheckpointError, EngineError, LearnerLostError
from rlcs.learner.actor import LearnerActor
from rlcs.learner.group import LearnerGroup
from rlcs.learner.learner import Learner
from rlcs.types import Batch
from rlcs.weights import to_arrays, to_tensors


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    if started:
        ray.shutdown()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_survive_the_way_through_numpy_without_a_copy(dtype: torch.dtype) -> None:
    weights = {"a": torch.randn(3, 4).to(dtype), "b": torch.arange(3)}
    back = to_tensors(to_arrays(weights))
    for name, value in weights.items():
        assert back[name].dtype == value.dtype and torch.equal(back[name], value)
        assert back[name].data_ptr() == value.data_ptr()


def test_an_actor_does_as_a_learner_and_its_weights_are_views_of_shared_memory(
    ray_cluster: None, policy_folder: Path, make_random_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    import ray

    config = LearnerConfig(threads=1, learning_rate=1e-3)
    batch = make_random_batch()
    local = Learner(str(policy_folder), config, seed=1)
    expected = local.update(batch)
    actor = ray.remote(LearnerActor).options(num_cpus=0).remote(str(policy_folder), config, seed=1)
    try:
        assert ray.get(actor.process.remote()).pid > 0 and not ray.get(actor.ready.remote())
        assert ray.get(actor.load.remote())
        metrics = ray.get(actor.update.remote(batch), timeout=120)
        assert metrics["learner/loss"] == pytest.approx(expected["learner/loss"], abs=1e-6)
        arrays = ray.get(actor.weights.remote(), timeout=60)
        assert not any(array.flags.writeable or array.flags.owndata for array in arrays.values())
        tensors = to_tensors(arrays)
        assert tensors.keys() == local.weights().keys()
        for name, value in local.weights().items():
            torch.testing.assert_close(tensors[name], value, atol=1e-6, rtol=1e-5)
        ray.get(actor.save_state.remote(tmp_path / "state"), timeout=60)
        ray.get(actor.save_policy.remote(tmp_path / "policy"), timeout=60)
        local.load_state(tmp_path / "state")
        np.testing.assert_allclose(ray.get(actor.logprobs.remote(batch)), local.logprobs(batch), atol=1e-5)
        assert (tmp_path / "policy" / "model.safetensors").is_file()
    finally:
        ray.kill(actor)


def test_a_group_of_two_ranks_does_as_a_learner_and_names_a_rank_that_died(
    ray_cluster: None, policy_folder: Path, make_random_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    import ray

    settings = {"threads": 1, "learning_rate": 1e-3, "num_minibatches": 2}
    local = Learner(str(policy_folder), LearnerConfig(**settings), seed=1)
    group = LearnerGroup(str(policy_folder), LearnerConfig(**settings, num_ranks=2), seed=1)
    try:
        group.start()
        for seed in (1, 2):
            batch = make_random_batch(seed=seed)
            expected = local.update(batch, group_sizes=[4, 4, 4])
            metrics = group.update(batch, group_sizes=[4, 4, 4])
            assert metrics["learner/loss"] == pytest.approx(expected["learner/loss"], abs=1e-5)
        tensors = to_tensors(ray.get(group.weights(), timeout=60))
        for name, value in local.weights().items():
            torch.testing.assert_close(tensors[name], value, atol=1e-5, rtol=0)
        group.save_state(tmp_path / "state")
        group.save_policy(tmp_path / "policy")
        group.load_state(tmp_path / "state")
        np.testing.assert_allclose(group.logprobs(batch), local.logprobs(batch), atol=1e-4)
        with pytest.raises(CheckpointError, match="cannot be read"):
            group.load_state(tmp_path / "nowhere")
        ray.kill(group.actors[1])
        with pytest.raises(EngineError, match="rank 1 of 2 of the learner failed while updating the policy") as error:
            group.update(make_random_batch())
        assert "\n" not in str(error.value)
    finally:
        group.close()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_that_hangs_while_it_replaces_another_is_told_of_and_the_next_works(
    ray_cluster: None,
    policy_folder: Path,
    make_random_batch: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
) -> None:
    monkeypatch.setattr("rlcs.learner.group.reload_limit_s", lambda first_s: 4.0)
    config = LearnerConfig(threads=1, learning_rate=1e-3, num_ranks=ranks)
    group = LearnerGroup(str(policy_folder), config, options=[{"num_cpus": 0}] * ranks, seed=1)
    wait_all = group._wait_all

    def stopping(calls: Any, doing: str, timeout_s: float | None = None) -> list[Any]:
        answers = wait_all(calls, doing, timeout_s)
        if isinstance(answers[0], ActorProcess):
            os.kill(answers[-1].pid, signal.SIGSTOP)
        return answers

    try:
        group.start()
        monkeypatch.setattr(group, "_wait_all", stopping)
        with pytest.raises(LearnerLostError, match="no answer within 4 s while starting the learner"):
            group.restart()
        stopped = [process.pid for process in group._processes]
        monkeypatch.setattr(group, "_wait_all", wait_all)
        monkeypatch.setattr(group, "_load_timeout_s", 120.0)
        group.restart()
        assert group.restarts == 2 and not any(map(psutil.pid_exists, stopped))
        assert group.update(make_random_batch())["learner/loss"] is not None
    finally:
        group.close()
