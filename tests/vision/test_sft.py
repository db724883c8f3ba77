"""The cold start on pictures, whose batches are made by processes of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import rlcs.sft
from rlcs.config import SFTSection
from rlcs.errors import DataError
from rlcs.sft import SFTExample, train_sft
from rlcs.types import Image, Prompt

CONFIG = SFTSection(steps=3, batch_size=2, warmup_steps=0)


def test_it_does_not_matter_who_makes_the_batches(
    tiny_glm4v: Path, visual_prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [SFTExample(prompt, prompt.answer) for prompt in visual_prompts]
    weights = []
    for workers in (0, 2):
        monkeypatch.setattr(rlcs.sft, "_num_workers", lambda n=workers: n)
        output = tmp_path / str(workers)
        train_sft(str(tiny_glm4v), examples, CONFIG, output, seed=1, callbacks=[])
        weights.append(load_file(output / "model.safetensors"))
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_ends_it_with_one_line(
    tiny_glm4v: Path,
    visual_prompts: list[Prompt],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    monkeypatch.setattr(rlcs.sft, "_num_workers", lambda: workers)
    damaged = replace(visual_prompts[0], images=(Image.of(b"\x89PNG\r\n\x1a\n and no more"),))
    with pytest.raises(DataError) as caught:
        train_sft(str(tiny_glm4v), [SFTExample(damaged, "1")], CONFIG, tmp_path / "out", seed=1, callbacks=[])
    assert "\n" not in str(caught.value) and str(caught.value).startswith("it is ")
