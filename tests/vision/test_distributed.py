"""Two ranks of a policy that sees give the weights of one; a rank or a minibatch may have no picture to look at."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlcs.config import LearnerConfig
from rlcs.envs.base import load_env
from rlcs.learner.batching import make_batch
from rlcs.learner.distributed import open_store
from rlcs.learner.learner import Learner
from rlcs.types import Batch, FinishReason, Group, Prompt, Response
from rlcs.vision.pixels import Pixels, decode_prompt
from rlcs.vision.processing import load_processor

RANK = Path(__file__).parents[1] / "learner" / "rank.py"
GROUPS = [4, 4, 4]
CONFIG = {"threads": 1, "learning_rate": 1e-4, "tokens_per_micro_batch": 80, "num_minibatches": 3, "beta": 0.1}
OPTIONS = {"seed": 1, "max_completion_length": 32}
STEPS = ["batch-0", "batch-1"]


@pytest.fixture(scope="module")
def batches(tiny_glm4v: Path) -> dict[str, Batch]:
    """Two groups that see a picture each, and one of text."""
    processor = load_processor(str(tiny_glm4v))
    env = load_env("visual")
    seeing = list(islice(env.generate("counting", env.levels("counting")[0], domain="counting", tier=0, seed=0), 2))
    text = Prompt("text", [{"role": "user", "content": "How many circles?"}], "3")
    shown: list[Pixels | None] = [decode_prompt(prompt) for prompt in seeing] + [None]
    made = {}
    for seed, name in enumerate(STEPS):
        rng = np.random.default_rng(seed)
        groups = []
        for prompt, pixels in zip([*seeing, text], shown, strict=True):
            written = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
            pictures = {"images": [pixels.pictures()]} if pixels is not None else {}
            ids = processor(text=[written], add_special_tokens=False, return_tensors="np", **pictures)["input_ids"][0]
            responses = []
            for _ in range(4):
                tokens = rng.integers(20, 250, rng.integers(3, 20)).astype(np.int32)
                zeros, mask = np.zeros(len(tokens), np.float32), np.ones(len(tokens), np.bool_)
                responses.append(Response(tokens, zeros, mask, "", FinishReason.STOP, 0))
            groups.append(Group(prompt, ids.astype(np.int32), responses, media=pixels))
        made[name] = make_batch(groups, rng.normal(size=12))
    return made


@pytest.fixture(scope="module")
def together(tiny_glm4v: Path, batches: dict[str, Batch], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    (folder / "pictures").mkdir()
    for name, batch in batches.items():
        fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch) if f.name != "media"}
        np.savez(folder / f"{name}.npz", **fields)
    media = list(batches[STEPS[0]].media)
    for group, pixels in enumerate(media[::4]):
        if pixels is not None:
            np.save(folder / "pictures" / f"{group}.npy", pixels.images[0])
    (folder / "pictures" / "owners.json").write_text(json.dumps([index // 4 for index in range(len(media))]))
    plan: dict[str, Any] = {
        parallel: {
            "policy": str(tiny_glm4v),
            "config": {**CONFIG, "num_ranks": 2, "parallel": parallel},
            "options": OPTIONS,
            "batches": STEPS,
            "group_sizes": GROUPS,
            "rewards": [0.0] * 12,
            "load": None,
        }
        for parallel in ("ddp", "fsdp")
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    store = open_store("127.0.0.1")
    processes = [
        subprocess.Popen(
            [sys.executable, str(RANK), str(rank), "2", str(store.port), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=200)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.fixture(scope="module")
def alone(tiny_glm4v: Path, batches: dict[str, Batch]) -> Learner:
    learner = Learner(str(tiny_glm4v), LearnerConfig(**CONFIG), **OPTIONS)
    for name in STEPS:
        learner.update(batches[name], group_sizes=GROUPS)
    return learner


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_that_see_give_the_weights_of_one(alone: Learner, together: Path, parallel: str) -> None:
    weights = load_file(together / parallel / "weights.safetensors")
    expected = alone.weights()
    assert weights.keys() == expected.keys() and any("visual" in name for name in weights)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
