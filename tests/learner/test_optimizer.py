"""The optimizers learn, skip, and go on bit by bit from a checkpoint."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlcs.config import LearnerConfig
from rlcs.errors import CheckpointError, ConfigError
from rlcs.learner.learner import Learner
from rlcs.learner.optimizer import Combined
from rlcs.types import Batch

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
each_optimizer = pytest.mark.parametrize(
    "optimizer", ["adamw", "muon", pytest.param("adamw_8bit", marks=needs_bitsandbytes)]
)


def learner(policy: Path, optimizer: str, **changes: object) -> Learner:
    return Learner(
        str(policy),
        LearnerConfig.model_validate({"optimizer": optimizer, "learning_rate": 1e-3, "threads": 1, **changes}),
    )


@each_optimizer
def test_an_optimizer_goes_on_bit_by_bit(
    optimizer: str, policy_folder: Path, make_random_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    batch = make_random_batch(4, 4)
    one, two = learner(policy_folder, optimizer), learner(policy_folder, optimizer)
    before = {name: value.clone() for name, value in one.weights().items()}
    for _ in range(2):
        one.update(batch)
    assert any(not torch.equal(before[name], value) for name, value in one.weights().items())
    one.save_state(tmp_path)
    two.load_state(tmp_path)
    for each in (one, two):
        each.update(batch)
    for name, value in one.weights().items():
        assert torch.equal(value, two.weights()[name]), name


def test_muon_takes_the_matrices_of_the_layers_only(policy_folder: Path) -> None:
    optimizer = learner(policy_folder, "muon").optimizer
    assert isinstance(optimizer, Combined)
    muon, adam = optimizer.parts
    embeddings = 300
    matrices = [p for group in muon.param_groups for p in group["params"]]
    assert len(matrices) == 2 * 7
    assert all(p.dim() == 2 and p.shape[0] < embeddings for p in matrices)
    assert any(p.shape[0] >= embeddings for group in adam.param_groups for p in group["params"])


def test_a_checkpoint_of_another_optimizer_is_refused(
    policy_folder: Path, make_random_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    one = learner(policy_folder, "muon")
    one.update(make_random_batch(2, 2))
    one.save_state(tmp_path)
    with pytest.raises(CheckpointError, match=r"another learner\.optimizer"):
        learner(policy_folder, "adamw").load_state(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_moments_of_eight_bits_without_bitsandbytes_are_refused(policy_folder: Path) -> None:
    with pytest.raises(ConfigError, match="needs bitsandbytes"):
        learner(policy_folder, "adamw_8bit")
