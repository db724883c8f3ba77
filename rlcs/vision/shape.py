"""How large the vision tower and the projector of a model are, from its config.json: for estimates of memory.

A tower is L blocks of width w with a gated MLP of width m behind a patch embedding; d is the decoder's width, s x s patches
become one token:

    GLM-4.1V      blocks L (4 w^2 + 3 w d), patches 3 t p^2 w, positions (image / p)^2 w, downsampling s^2 w d;
                  projector d^2 + 3 d m                (its config's intermediate_size is the projector's)
    Qwen2.5-VL    blocks L (4 w^2 + 3 w m), patches 3 t p^2 w; projector (s^2 w)^2 + s^2 w d
    others        as Qwen2.5-VL, about
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATCHES_PER_TOKEN = 4
"""Of 2 x 2 patches that are merged, where config.json does not say."""


@dataclass(frozen=True, slots=True)
class VisionShape:
    """Sizes of what sees; biases and norms are left out."""

    hidden_size: int
    num_layers: int
    intermediate_size: int
    """Width of a block's MLP."""
    other_parameters: int
    """Of the tower, outside of its blocks."""
    projector_parameters: int
    """Of what maps patches to the decoder's width (`model.freeze` calls it projector)."""
    patches_per_token: int = PATCHES_PER_TOKEN

    @property
    def layer_parameters(self) -> int:
        """Parameters of a block's matrices."""
        return 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size

    @property
    def tower_parameters(self) -> int:
        """Parameters of the tower without the projector."""
        return self.num_layers * self.layer_parameters + self.other_parameters

    @property
    def num_parameters(self) -> int:
        """Tower and projector."""
        return self.tower_parameters + self.projector_parameters


def vision_shape(vision: Mapping[str, Any], decoder_width: int) -> VisionShape | None:
    """The shape that a `vision_config` says; None where it lacks a width or depth."""

    def size(*names: str, default: int = 0) -> int:
        found = (vision.get(name) for name in names)
        return next((v for v in found if isinstance(v, int) and not isinstance(v, bool) and v > 0), default)

    width, depth = size("hidden_size"), size("depth", "num_hidden_layers")
    if not width or not depth:
        return None
    out = size("out_hidden_size", default=decoder_width)
    inner = size("intermediate_size", default=4 * width)
    merge, patch = size("spatial_merge_size", default=2), size("patch_size", default=14)
    patches = 3 * size("temporal_patch_size", default=1) * patch**2 * width
    together = merge**2 * width
    if str(vision.get("model_type", "")).startswith("glm4v"):
        positions = (size("image_size", default=336) // patch) ** 2 * width
        return VisionShape(
            width, depth, out, patches + positions + together * out, out * out + 3 * out * inner, merge**2
        )
    return VisionShape(width, depth, inner, patches, together**2 + together * out, merge**2)


KNOWN: dict[str, tuple[tuple[int, int, int, int, int, int, int, bool], Mapping[str, Any]]] = {
    # hidden, layers, heads, key-value heads, head width, MLP width, vocabulary, tied
    "GLM-4.1V-9B": (
        (4096, 40, 32, 2, 128, 13696, 151552, False),
        {
            "model_type": "glm4v",
            "hidden_size": 1536,
            "depth": 24,
            "intermediate_size": 13696,
            "out_hidden_size": 4096,
            "image_size": 336,
            "temporal_patch_size": 2,
        },
    ),
    "Qwen2.5-VL-3B": (
        (2048, 36, 16, 2, 128, 11008, 151936, True),
        {
            "hidden_size": 1280,
            "depth": 32,
            "intermediate_size": 3420,
            "out_hidden_size": 2048,
            "temporal_patch_size": 2,
        },
    ),
    "Qwen2.5-VL-7B": (
        (3584, 28, 28, 4, 128, 18944, 152064, False),
        {
            "hidden_size": 1280,
            "depth": 32,
            "intermediate_size": 3420,
            "out_hidden_size": 3584,
            "temporal_patch_size": 2,
        },
    ),
}
"""Decoder and `vision_config` of well-known models, from their own config.json; looked up by the beginning of a hub name."""
