from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from rlcs.data import DataSplits
from rlcs.errors import DataError
from rlcs.images import encode_png
from rlcs.launch import leave_out_long
from rlcs.models import load_model
from rlcs.preflight import check_prompt_lengths
from rlcs.response_format import render_response
from rlcs.types import Image, Prompt
from rlcs.vision.environment import vision_env
from rlcs.vision.pixels import decode_prompt, has_pixels
from rlcs.vision.processing import VisionProcessor, check_shows_nothing, is_vision_model, load_processor
from rlcs.vision.sft import IGNORED, VisionCollator


def test_the_tiny_policy_is_a_folder_of_glm4v(tiny_glm4v: Path) -> None:
    assert type(load_model(str(tiny_glm4v))).__name__ == "Glm4vForConditionalGeneration"
    assert is_vision_model(str(tiny_glm4v))
    tokenizer = load_processor(str(tiny_glm4v)).tokenizer
    for token in ("<think>", "<|begin_of_box|>", "<|image|>", "<|begin_of_video|>"):
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1


def test_a_video_has_the_time_behind_each_pair_of_frames(tiny_glm4v: Path, visual_prompts: list[Prompt]) -> None:
    processor = load_processor(str(tiny_glm4v))
    prompt = visual_prompts[2]
    pixels = decode_prompt(prompt)
    (video,) = pixels.videos
    text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    ids = processor(
        text=[text], videos=[video.pixels], video_metadata=[video.metadata], do_sample_frames=False
    )["input_ids"][0]  # fmt: skip
    parts = processor.tokenizer.decode(ids).replace("<|image|>", "").split("<|end_of_image|>")
    times = [int(part.split("<")[0]) for part in parts[1:]]
    pairs = len(video.pixels) // 2
    assert times == [int(2 * pair / video.fps) for pair in range(pairs)]


def test_positions_go_on_behind_the_picture(tiny_glm4v: Path, visual_prompts: list[Prompt]) -> None:
    processor = load_processor(str(tiny_glm4v))
    model = load_model(str(tiny_glm4v))
    pixels = decode_prompt(visual_prompts[0])
    text = processor.apply_chat_template(visual_prompts[0].messages, add_generation_prompt=True, tokenize=False)
    ids = processor(text=[text], images=[pixels.pictures()])["input_ids"][0]
    inputs = VisionProcessor(str(tiny_glm4v)).process(pixels, ids, model.model)
    assert len(inputs.image_places) == 16 and not len(inputs.video_places)
    height, width = (
        inputs.positions[1:, inputs.image_places].reshape(2, 4, 4) - inputs.positions[0, inputs.image_places[0]]
    )
    assert np.array_equal(height, np.repeat(np.arange(4), 4).reshape(4, 4))
    assert np.array_equal(width, np.tile(np.arange(4), (4, 1)))
    assert inputs.next_position == len(ids) - 16 + 4


def test_tokens_of_pixels_are_counted_before_anything_is_processed(
    tiny_glm4v: Path, visual_prompts: list[Prompt]
) -> None:
    counter = VisionProcessor(str(tiny_glm4v))
    assert counter.num_tokens(visual_prompts[0]) == 15  # 16, of which one stands in the text
    assert counter.processed == 0
    assert counter.num_tokens(visual_prompts[2]) > 3 * 8


def with_picture(name: str, size: tuple[int, int]) -> Prompt:
    image = Image.of(encode_png(PIL.Image.new("RGB", size)))
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    return Prompt(name, messages, "1", images=(replace(image, size=size),))


def test_one_picture_of_more_tokens_than_the_context_is_found_among_many(
    tiny_glm4v: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [with_picture(f"small {n}", (56, 56)) for n in range(70)]
    prompts.insert(41, with_picture("huge", (448, 448)))
    limits: dict[str, Any] = {
        "tokenizer": load_processor(str(tiny_glm4v)).tokenizer,
        "max_prompt_length": 300,
        "context_length": 120,
        "max_completion_length": 50,
        "vision": VisionProcessor(str(tiny_glm4v)),
    }
    shown = limits["vision"].num_tokens(prompts[41])
    assert shown > 70 > limits["vision"].num_tokens(prompts[0])
    tokens = rf"has \d+ tokens \({shown} of them for what it shows\), and with rollout\.max_completion_length"
    with pytest.raises(
        DataError, match=rf"prompt huge \('\[image\] How many\?'\) {tokens}.*the model's context \(120\)"
    ):
        check_prompt_lengths(prompts, **limits)
    data = DataSplits(train=list(prompts), eval=[with_picture("held out", (56, 56))])
    leave_out_long(data, limits)
    assert len(data.train) == 70 and len(data.eval) == 1
    assert "1 prompts are too long for the policy and left out, the longest huge" in caplog.text
    with pytest.raises(DataError, match="prompt huge"):
        leave_out_long(DataSplits(train=[prompts[41]], eval=[]), limits)


def test_the_cold_start_learns_the_response_alone(tiny_glm4v: Path, visual_prompts: list[Prompt]) -> None:
    processor = load_processor(str(tiny_glm4v))
    responses = [render_response("1", "2") for _ in visual_prompts]
    batch = VisionCollator(processor, visual_prompts, responses)([{"example": index} for index in range(4)])
    for line in range(4):
        learned = batch["input_ids"][line][batch["labels"][line] != IGNORED]
        assert processor.tokenizer.decode(learned) == responses[0] + processor.tokenizer.eos_token
    loss = load_model(str(tiny_glm4v))(**batch).loss
    assert np.isfinite(float(loss))


def test_pictures_for_a_model_of_text_are_refused(visual_prompts: list[Prompt]) -> None:
    assert has_pixels(visual_prompts[0])
    with pytest.raises(DataError, match="takes text alone"):
        check_shows_nothing(visual_prompts, "small")


def test_a_folder_without_a_processor_is_named(tiny_policy: Path) -> None:
    with pytest.raises(DataError, match="no image processor"):
        load_processor(str(tiny_policy))


def test_every_process_can_import_torchvision(tmp_path: Path) -> None:
    code = "import torchvision, sys; from torchvision.transforms.v2 import functional; print(torchvision.__version__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**vision_env(), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_hook_leaves_another_sitecustomize_its_turn(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['SEEN'] = 'yes'\n")
    hook = vision_env()["PYTHONPATH"].split(":")[0]
    result = subprocess.run(
        [sys.executable, "-c", "import os; print(os.environ.get('SEEN'))"],
        env={"PYTHONPATH": f"{hook}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.strip() == "yes", result.stderr
