"""A tiny policy with random weights, and batches for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from rlcs.config import TinyConfig
from rlcs.learner.batching import make_batch
from rlcs.models import build_tiny_policy
from rlcs.types import Batch, FinishReason, Group, Prompt, Response

# The first example of a test pays for imports; how long one takes says nothing here.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

VOCABULARY = 300
MakeGroups = Callable[..., list[Group]]
MakeBatch = Callable[..., Batch]


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 policy of 0.1 M parameters whose logits are not near uniform."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy")
    shape = TinyConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.02,  # transformers' own, as models that are not made here have it
    )
    build_tiny_policy(folder, shape, ["one two three 4 5 6"], seed=0)
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * (1 if "norm" in name else 8) for name, value in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


@pytest.fixture(scope="session")
def make_groups() -> MakeGroups:
    """Groups of random tokens: `make_groups(groups, size, seed=0, forced=False)`."""

    def make(num_groups: int, size: int, *, seed: int = 0, forced: bool = False) -> list[Group]:
        rng = np.random.default_rng(seed)
        groups = []
        for index in range(num_groups):
            responses = []
            for _ in range(size):
                length = int(rng.integers(1, 30))
                mask = np.ones(length, np.bool_)
                if forced and length > 4:
                    mask[2:4] = False
                responses.append(
                    Response(
                        token_ids=rng.integers(0, VOCABULARY, length).astype(np.int32),
                        logprobs=rng.normal(-4, 1, length).astype(np.float32),
                        loss_mask=mask,
                        text="",
                        finish_reason=FinishReason.STOP,
                        policy_version=0,
                    )
                )
            prompt_ids = rng.integers(0, VOCABULARY, int(rng.integers(1, 20))).astype(np.int32)
            groups.append(Group(Prompt(str(index), [], ""), prompt_ids, responses))
        return groups

    return make


@pytest.fixture(scope="session")
def make_random_batch(make_groups: MakeGroups) -> MakeBatch:
    """A batch of random tokens and advantages, with the arguments of `make_groups`."""

    def make(num_groups: int = 3, size: int = 4, *, seed: int = 0, forced: bool = False) -> Batch:
        groups = make_groups(num_groups, size, seed=seed, forced=forced)
        return make_batch(groups, np.random.default_rng(seed + 1).normal(size=num_groups * size))

    return make
