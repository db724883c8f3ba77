"""Qwen2.5-VL: its processor, window attention and positions in the learner, and a run of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlcs.config import LearnerConfig
from rlcs.learner.batching import make_batch
from rlcs.learner.learner import Learner
from rlcs.runlog import read_evaluations, read_metrics
from rlcs.types import FinishReason, Group, Prompt, Response, Score
from rlcs.vision.pixels import decode_prompt
from rlcs.vision.processing import VisionProcessor, load_processor

from .tiny_qwen import build_tiny_qwen

G = 3


@pytest.fixture(scope="module")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen") / "policy"
    build_tiny_qwen(folder, ["How many circles? 1 2 3 When does the blue square come in? left right"] * 60)
    return folder


def test_logprobs_of_pictures_and_videos_are_those_of_transformers(
    tiny_qwen: Path, visual_prompts: list[Prompt]
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen).eval()
    processor = load_processor(str(tiny_qwen))
    counter = VisionProcessor(str(tiny_qwen))
    rng = np.random.default_rng(0)
    groups, expected = [], []
    for prompt in visual_prompts:
        pixels = decode_prompt(prompt)
        shown = {"images": [pixels.pictures()]} if pixels.images else {}
        if pixels.videos:
            shown = {"videos": [video.pixels for video in pixels.videos], "do_sample_frames": False}
            shown["video_metadata"] = [video.metadata for video in pixels.videos]
        text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        inputs = dict(processor(text=[text], **shown, add_special_tokens=False, return_tensors="pt"))
        plain = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(plain) + counter.num_tokens(prompt) >= inputs["input_ids"].shape[1]
        shown_inputs = counter.process(pixels, inputs["input_ids"][0].tolist(), model.model)
        if prompt.videos:  # text after it begins behind its last second, as in vLLM
            last, of_time = shown_inputs.video_places[-1], shown_inputs.positions[0]
            assert of_time[last + 1] == shown_inputs.positions[:, : last + 1].max() + 1
            assert of_time[last] > shown_inputs.positions[1, last]
        responses = []
        for sample in range(G):
            tokens = rng.integers(20, 250, rng.integers(3, 9)).astype(np.int32)
            zeros, mask = np.zeros(len(tokens), np.float32), np.ones(len(tokens), bool)
            responses.append(Response(tokens, zeros, mask, "", FinishReason.STOP, 0, Score(float(sample % 2))))
            ids = torch.cat([inputs["input_ids"], torch.from_numpy(tokens.astype(np.int64))[None]], 1)
            kinds = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(tokens)))
            after = shown_inputs.next_position + np.arange(len(tokens))
            places = np.concatenate([shown_inputs.positions, np.broadcast_to(after, (3, len(tokens)))], 1)
            inputs["position_ids"] = torch.from_numpy(places)[:, None]
            whole = {**inputs, "input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids)}
            with torch.no_grad():
                scores = torch.log_softmax(model(**whole).logits[0, -len(tokens) - 1 : -1], -1)
            expected.append(scores.gather(1, torch.from_numpy(tokens.astype(np.int64))[:, None])[:, 0].numpy())
        prompt_ids = inputs["input_ids"][0].numpy().astype(np.int32)
        groups.append(Group(prompt, prompt_ids, responses, media=pixels))
    batch = make_batch(groups, np.resize([1.0, -1.0, 0.5], G * len(groups)))
    learner = Learner(str(tiny_qwen), LearnerConfig(threads=1, learning_rate=1e-2))
    assert np.abs(learner.logprobs(batch)[batch.loss_mask] - np.concatenate(expected)).max() < 1e-4
    tower = learner.model.model.visual.patch_embed.proj.weight  # type: ignore[union-attr]
    before = tower.detach().clone()
    assert learner.update(batch)["learner/grad_norm"] > 0
    assert not torch.equal(tower, before)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_run_with_cold_start_pictures_and_video_agrees_with_its_engines(tiny_qwen: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlcs.cli", "train", str(Path("configs/quickstart_vision.yaml").absolute())]
    settings = [
        f"output_dir={tmp_path}",
        "name=qwen",
        "model.init=null",
        f"model.path={tiny_qwen}",
        "data.nothink=0.3",
        "data.tasks=[{task: counting, params: {size: 56}}, {task: video, params: {size: 56}}]",
        "data.train_per_level=12",
        "data.eval_per_level=1",
        "sft.steps=12",
        "sft.batch_size=8",
        "sft.num_solutions=200",
        "rollout.num_engines=1",
        "rollout.num_generations=4",
        "rollout.max_prompt_length=300",
        "rollout.max_completion_length=24",
        "eval.num_samples=1",
        "train.batch_size=6",
        "train.steps=3",
        "curriculum.max_expansion=1",
    ]
    result = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    metrics = read_metrics(tmp_path / "qwen")
    assert [line["step"] for line in metrics] == [1, 2, 3]
    for line in metrics:
        assert line["learner/logprob_gap_mean"] <= 1e-3
        assert "rollout/nothink" not in line or 0 < line["rollout/nothink"] <= 1
    assert any("rollout/nothink" in line for line in metrics)
    assert {row.domain for row in read_evaluations(tmp_path / "qwen")} == {"counting", "video"}
