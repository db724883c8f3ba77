"""What vLLM's trainer engines are given; and, on a GPU, weights that arrive through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlcs.learner.transfer import WeightSource


def weights() -> dict[str, torch.Tensor]:
    return {
        "embed": torch.arange(12.0).reshape(3, 4),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "steps": torch.arange(3),
    }


def test_what_is_declared_is_what_is_sent() -> None:
    source = WeightSource(torch.bfloat16, torch.device("cpu"))
    source.weights = weights()
    sent = list(source)
    assert [(meta.name, meta.dtype, meta.shape) for meta in source.metadata()] == [
        (name, value.dtype, tuple(value.shape)) for name, value in sent
    ]
    assert all(value.is_contiguous() for _, value in sent)
    assert [value.dtype for _, value in sent] == [torch.bfloat16, torch.bfloat16, torch.int64]
    assert torch.equal(sent[1][1].float(), weights()["turned"])
    assert source.num_bytes() == sum(value.nbytes for _, value in sent) == (12 + 6) * 2 + 3 * 8
    assert source.largest() == 24


def test_a_source_can_be_read_again() -> None:
    source = WeightSource(torch.float32, torch.device("cpu"))
    source.weights = weights()
    assert [name for name, _ in source] == [name for name, _ in source] == list(weights())


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda_ipc", "nccl"])
def test_an_engine_samples_from_the_learners_weights(backend: str, tmp_path: Path) -> None:
    from rlcs.actors import start_ray, stop_ray
    from rlcs.config import ClusterConfig, Config, TinyConfig
    from rlcs.fleets import start_learner
    from rlcs.learner.batching import make_batch
    from rlcs.models import build_tiny_policy, load_tokenizer
    from rlcs.rollout.fleet import RolloutFleet
    from rlcs.types import Prompt
    from rlcs.weight_sync import choose_backend, open_weight_sync, vllm_backend

    num_gpus = torch.cuda.device_count()
    if backend == "nccl" and num_gpus < 2:
        pytest.skip("nccl needs two GPUs")
    share = 1.0 if backend == "nccl" else 0.4
    before, after = tmp_path / "before", tmp_path / "after"
    shape = TinyConfig(hidden_size=128, num_layers=2, num_heads=2, intermediate_size=128)
    build_tiny_policy(before, shape, ["what is 1 + 1?"], seed=0)
    build_tiny_policy(after, shape, ["what is 1 + 1?"], seed=1)
    config = Config(
        model={"path": str(before)},  # type: ignore[arg-type]
        data={"train": "none.jsonl"},  # type: ignore[arg-type]
        rollout={"gpus_per_engine": share, "gpu_memory_utilization": 0.3, "weight_sync": backend},  # type: ignore[arg-type]
        learner={"gpus": share},  # type: ignore[arg-type]
    )
    start_ray(ClusterConfig(num_gpus=num_gpus))
    try:
        tokenizer = load_tokenizer(str(before))
        transfer = vllm_backend(choose_backend(config))
        rollouts = RolloutFleet(str(before), config.model, config.rollout, tokenizer, seed=0, transfer=transfer)
        rollouts.start()
        learner = start_learner(str(after), config)
        learner.start()
        sync = open_weight_sync(config, learner, rollouts)
        for version in (1, 2):
            assert sync.sync(version).num_bytes > 0
        prompt = Prompt("p", [{"role": "user", "content": "what is 1 + 1?"}], "2")
        (group,) = rollouts.generate([prompt], num_samples=8)
        assert {response.policy_version for response in group.responses} == {2}
        batch = make_batch([group], [np.zeros(8)])
        gap = np.abs(learner.logprobs(batch) - batch.logprobs)[batch.loss_mask]
        assert gap.max() < 1e-2
        rollouts.close()
    finally:
        stop_ray()
