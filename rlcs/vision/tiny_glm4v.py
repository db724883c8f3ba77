"""A tiny policy of exactly GLM-4.1V-Thinking's architecture, with random weights and the real processor.

`Glm4vForConditionalGeneration` (arXiv 2507.01006, section 2): a vision transformer with a 3D-convolutional patch
embedding, a merger that projects 2x2 patches into the decoder's width, and a GLM decoder with multimodal rotary
positions. An image of 112 x 112 pixels is 16 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlcs.config import TinyConfig
from rlcs.models import build_tokenizer

IMAGE_TOKENS = ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>")
VIDEO_TOKENS = ("<|begin_of_video|>", "<|video|>", "<|end_of_video|>")

PATCH_SIZE = 14
MERGE_SIZE = 2
TEMPORAL_PATCH_SIZE = 2
SMALLEST_EDGE, LARGEST_EDGE = 28, 448

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|begin_of_image|><|image|><|end_of_image|>' }}"
    "{% elif part['type'] == 'video' %}{{ '<|begin_of_video|><|video|><|end_of_video|>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tiny_glm4v(folder: Path, config: TinyConfig, texts: Iterable[str], seed: int) -> None:
    """Write a small random vision-language policy with its processor to `folder`, an ordinary Hugging Face folder."""
    import torch
    from transformers import (
        Glm4vConfig,
        Glm4vForConditionalGeneration,
        Glm4vImageProcessor,
        Glm4vProcessor,
        Glm4vVideoProcessor,
    )

    tokenizer: Any = build_tokenizer(texts, config.vocab_size, (*IMAGE_TOKENS, *VIDEO_TOKENS), CHAT_TEMPLATE)
    ids = dict(zip(("start", "image", "end"), tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS)), strict=True))
    video = dict(zip(("start", "video", "end"), tokenizer.convert_tokens_to_ids(list(VIDEO_TOKENS)), strict=True))
    head_size = config.hidden_size // config.num_heads
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Glm4vForConditionalGeneration(
            Glm4vConfig(
                text_config={
                    # A multiple of 64 suits every kernel; the spare rows are never sampled by a trained policy.
                    "vocab_size": -(-len(tokenizer) // 64) * 64,
                    "hidden_size": config.hidden_size,
                    "intermediate_size": config.intermediate_size,
                    "num_hidden_layers": config.num_layers,
                    "num_attention_heads": config.num_heads,
                    "num_key_value_heads": config.num_heads,
                    "max_position_embeddings": config.max_position_embeddings,
                    # transformers' layers have these biases in any case; vLLM builds them only if told so.
                    "attention_bias": True,
                    "initializer_range": config.initializer_range,
                    "rope_parameters": rope_parameters(head_size),
                    "pad_token_id": tokenizer.pad_token_id,
                    "eos_token_id": tokenizer.eos_token_id,
                },
                vision_config={
                    "depth": config.vision_layers,
                    "hidden_size": config.vision_hidden_size,
                    "num_heads": config.vision_hidden_size // 32,
                    "intermediate_size": 2 * config.hidden_size,
                    "out_hidden_size": config.hidden_size,
                    "image_size": 112,
                    "patch_size": PATCH_SIZE,
                    "spatial_merge_size": MERGE_SIZE,
                    "temporal_patch_size": TEMPORAL_PATCH_SIZE,
                    "initializer_range": config.initializer_range,
                },
                image_start_token_id=ids["start"],
                image_end_token_id=ids["end"],
                video_start_token_id=video["start"],
                video_end_token_id=video["end"],
                image_token_id=ids["image"],
                video_token_id=video["video"],
                tie_word_embeddings=False,
            )
        )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    sizes = {"shortest_edge": SMALLEST_EDGE**2, "longest_edge": LARGEST_EDGE**2}  # in pixels, whatever their names say
    shape: dict[str, Any] = {
        "patch_size": PATCH_SIZE,
        "merge_size": MERGE_SIZE,
        "temporal_patch_size": TEMPORAL_PATCH_SIZE,
        # White, the ground of most made pictures, is zero: else it outweighs what is drawn on it, and a vision tower
        # from nothing sees several times later.
        "image_mean": [1.0] * 3,
        "image_std": [0.27] * 3,
    }
    processor = Glm4vProcessor(
        Glm4vImageProcessor(size=sizes, **shape),
        tokenizer,
        Glm4vVideoProcessor(size=sizes | {"longest_edge": 16 * LARGEST_EDGE**2}, **shape),
        chat_template=CHAT_TEMPLATE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def rope_parameters(head_size: int) -> dict[str, Any]:
    """Multimodal rotary positions on half of each head, as in GLM-4.1V: sections of time, height and width."""
    pairs = head_size // 4
    time = pairs // 4
    height = (pairs - time) // 2
    return {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [time, height, pairs - time - height],
        "partial_rotary_factor": 0.5,
    }
