"""The head in float32 under bfloat16 autocast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rlcs.config import LearnerConfig
from rlcs.learner.batching import families
from rlcs.learner.forward import FLOAT32_HEAD, learned_logprobs
from rlcs.learner.learner import Learner
from rlcs.types import Batch


def test_the_heads_product_is_computed_in_float32(policy_folder: Path, make_random_batch: Callable[..., Batch]) -> None:
    config = LearnerConfig(threads=1, cast_lm_head_to_fp32=True)
    learner = Learner(str(policy_folder), config, dtype="bfloat16")
    head = learner.model.get_output_embeddings()
    assert getattr(head, FLOAT32_HEAD)
    batch = make_random_batch()
    seen: list[torch.dtype] = []
    head.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )  # its own forward is then called
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, *_ = learned_logprobs(
            learner.model, batch, families(batch, np.arange(batch.num_sequences)), temperature=1.0
        )
    logprobs.sum().backward()
    assert seen == [torch.float32]
    assert logprobs.dtype == torch.float32


def test_sharded_weights_refuse_it() -> None:
    with pytest.raises(ValueError, match="cast_lm_head_to_fp32 needs whole weights"):
        LearnerConfig(cast_lm_head_to_fp32=True, gpus=2)
