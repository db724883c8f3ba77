"""Two ranks give the critic and the policy of one, with whole copies (ddp) and with shards (fsdp)."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlcs.config import LearnerConfig
from rlcs.learner.distributed import Ranks, connect, open_store
from rlcs.learner.learner import Learner
from rlcs.learner.sharding import whole
from rlcs.types import Batch

CASES = [(trunk, parallel) for trunk in ("own", "shared") for parallel in ("ddp", "fsdp")]
Case = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def learn(folder: Path, batches: list[Batch], trunk: str, parallel: str, ranks: Ranks | None, scratch: Path) -> Case:
    """Weights of policy and critic after an update a batch, the last two of them after a restart; and the metrics."""
    settings: dict[str, Any] = {
        "advantage_estimator": "gae", "critic": trunk, "critic_warmup": 1, "num_minibatches": 2, "threads": 1,
        "learning_rate": 1e-3, "critic_learning_rate": 1e-3, "tokens_per_micro_batch": 120, "parallel": parallel,
        "num_ranks": 2 if ranks else 1, "importance_sampling_correction": False,
    }  # fmt: skip
    metrics = []
    learner = None
    for index, batch in enumerate(batches):
        if index in (0, len(batches) - 2):
            if learner is not None:
                learner.save_state(scratch)
                if ranks is not None:
                    ranks.barrier()
            learner = Learner(str(folder), LearnerConfig(**settings), seed=1, max_completion_length=32, ranks=ranks)
            if index:
                learner.load_state(scratch)
        assert learner is not None
        metrics.append(learner.update(batch, group_sizes=[4, 4, 4], rewards=np.arange(12) % 3.0))
    assert learner is not None and learner._critic is not None
    modules = {"policy": learner.model, "critic": learner._critic._trained}
    weights = {
        f"{kind}.{name}": whole(value.detach()).clone()
        for kind, module in modules.items()
        for name, value in module.named_parameters()
    }
    return weights, metrics


def run_rank(rank: int, folder: Path, batches: list[Batch], port: Any, results: Any, scratch: Path) -> None:
    torch.set_num_threads(1)
    store: Any = open_store("127.0.0.1") if rank == 0 else None
    if rank == 0:
        port.put(store.port)
    else:
        store = ("127.0.0.1", port.get(timeout=120))
    ranks = connect(rank, 2, store, device=torch.device("cpu"), local_size=2, timeout_s=120)
    found = [
        learn(folder, batches, *case, ranks, scratch / "-".join(case))  # both ranks name the same folder
        for case in CASES
    ]
    results.put((rank, [({name: value.numpy() for name, value in w.items()}, metrics) for w, metrics in found]))
    ranks.close()


def wait_for(results: Any, processes: list[Any]) -> Any:
    """A rank's result, or an error as soon as a rank has died."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            return results.get(timeout=1)
        assert not any(process.exitcode for process in processes), "a rank died"
    raise AssertionError("no result in time")


def test_two_ranks_equal_one(policy_folder: Path, make_random_batch: Callable[..., Batch], tmp_path: Path) -> None:
    batches = [make_random_batch(seed=seed, forced=True) for seed in range(4)]
    context = multiprocessing.get_context("spawn")
    port, results = context.Queue(), context.Queue()
    processes = [
        context.Process(target=run_rank, args=(rank, policy_folder, batches, port, results, tmp_path / "two"))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        found = dict(wait_for(results, processes) for _ in processes)
    finally:
        for process in processes:
            process.join(timeout=30)
            process.kill()
    for index, (trunk, parallel) in enumerate(CASES):
        weights, metrics = learn(policy_folder, batches, trunk, parallel, None, tmp_path / f"one-{trunk}-{parallel}")
        for rank in range(2):
            theirs, their_metrics = found[rank][index]
            assert theirs.keys() == weights.keys()
            for name, value in weights.items():
                np.testing.assert_allclose(theirs[name], value.numpy(), atol=1e-5, err_msg=f"{trunk} {parallel} {name}")
            for ours, other in zip(metrics, their_metrics, strict=True):
                for name in ("explained_variance", "value_loss", "value_clip", "critic_grad_norm", "return_mean"):
                    assert abs(ours[f"learner/{name}"] - other[f"learner/{name}"]) < 1e-4, (name, trunk, parallel)
