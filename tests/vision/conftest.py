from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from rlcs.config import TinyConfig
from rlcs.envs.base import load_env
from rlcs.types import Prompt
from rlcs.vision.tiny_glm4v import build_tiny_glm4v

SHAPE = TinyConfig(
    hidden_size=64,
    num_layers=2,
    num_heads=2,
    intermediate_size=96,
    vocab_size=330,
    vision_layers=2,
    vision_hidden_size=64,
    max_position_embeddings=512,
)


@pytest.fixture(scope="session")
def tiny_glm4v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy of GLM-4.1V's architecture; shared: copy it before changing it."""
    folder = tmp_path_factory.mktemp("glm4v") / "policy"
    build_tiny_glm4v(folder, SHAPE, ["How many circles? 1 2 3 When does the blue square come in?"] * 60, seed=0)
    return folder


@pytest.fixture(scope="session")
def visual_prompts() -> list[Prompt]:
    """Two prompts each of pictures and of videos; the pictures are of one size and have the same question."""
    env = load_env("visual")
    return [
        prompt
        for task in ("counting", "video")
        for prompt in islice(env.generate(task, env.levels(task)[0], domain=task, tier=0, seed=0), 2)
    ]
