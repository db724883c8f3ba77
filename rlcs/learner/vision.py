"""Packed rows of a vision-language model: features in the places of image tokens, and multimodal rotary positions.

A prompt's pixels go through the vision tower once a micro-batch, whatever the number of its responses, since they stand
in the shared prefix of its family (`rlcs.learner.packing`). Only tokens of the prompt and of an episode's observations
take features: an image token that the policy itself samples is embedded like any other token, as vLLM does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.errors import ConfigError, DataError
from rlcs.learner import attention
from rlcs.learner.batching import Family
from rlcs.types import Batch
from rlcs.vision import sees
from rlcs.vision.pixels import EpisodeMedia, prompt_media
from rlcs.vision.processing import Patches, VisionInputs, VisionProcessor

if TYPE_CHECKING:
    import torch

    from rlcs.learner.packing import Packed

_KINDS = (
    ("image_places", "get_image_features", "pixel_values", "image_grid_thw"),
    ("video_places", "get_video_features", "pixel_values_videos", "video_grid_thw"),
)


class VisionCache:
    """The processed pixels of the present batch, each prompt's once for all passes over it."""

    def __init__(self, model: Any, processor: VisionProcessor) -> None:
        """For one model and its processor."""
        self._model = model
        self.processor = processor
        self._media: Sequence[Any] = ()
        self._inputs: dict[int, VisionInputs] = {}
        self._patches: dict[str, Patches] = {}

    def of(self, batch: Batch, sequence: int) -> VisionInputs | None:
        """The vision inputs of a sequence's prompt, or None if it shows nothing."""
        media = prompt_media(self._media_of(batch, sequence))
        if media is None:
            return None
        key = id(media)  # one object for all responses to a prompt; it lives as long as `self._media`
        if key not in self._inputs:
            start, end = int(batch.offsets[sequence]), int(batch.offsets[sequence + 1])
            learned = batch.loss_mask[start:end]
            prompt = batch.token_ids[start : start + (int(learned.argmax()) if learned.any() else end - start)]
            self._inputs[key] = self.processor.process(media.load(), prompt.tolist(), self._model.model)
        return self._inputs[key]

    def later(self, batch: Batch, sequence: int) -> VisionInputs | None:
        """What an episode shows behind its prompt, or None if nothing: its places and positions are of the whole sequence."""
        media = self._media_of(batch, sequence)
        if not isinstance(media, EpisodeMedia):
            return None
        key = id(media)
        if key not in self._inputs:
            tokens = batch.token_ids[batch.offsets[sequence] : batch.offsets[sequence + 1]].tolist()
            prompt = media.prompt and media.prompt.load()
            self._inputs[key] = self.processor.process_episode(
                media.later.load(), prompt, self.of(batch, sequence), tokens, self._model.model, self._patches
            )
        return self._inputs[key]

    def _media_of(self, batch: Batch, sequence: int) -> Any:
        if not batch.media:  # a batch of text, such as an idle pass beside another batch
            return None
        if batch.media is not self._media:  # another batch
            self._media = batch.media
            self._inputs = {}
            self._patches = {}
        return batch.media[sequence]


def add_cache(model: Any, path: str, *, trust_remote_code: bool = False) -> None:
    """Give a vision-language model that was loaded from `path` its cache; a model of text needs none.

    Raises:
        ConfigError: the model sees, but its rows cannot be packed.
        DataError: the folder has no processor.
    """
    if not sees(model.config):
        return
    if not attention.is_packed(model):
        raise ConfigError(f"model {path}: a vision-language model needs learner.layout packed")
    model._rlcs_vision = VisionCache(model, VisionProcessor(path, trust_remote_code=trust_remote_code))


def cache_of(model: Any) -> VisionCache | None:
    """The cache of a vision-language model; None of a model of text."""
    cache: VisionCache | None = getattr(model, "_rlcs_vision", None)
    return cache


def share_cache(model: Any, other: Any) -> None:
    """Let `other`, a copy of `model`, use its processed pixels."""
    if cache_of(model) is not None:
        other._rlcs_vision = cache_of(model)


def freeze(model: Any, parts: Sequence[str]) -> None:
    """Keep `parts` of a vision-language model as they are: vision_tower, projector, decoder.

    Raises:
        ConfigError: the model has no such parts, or nothing is left to learn.
    """
    if not parts:
        return
    visual = getattr(model.model, "visual", None)
    merger = getattr(visual, "merger", None)
    if visual is None or merger is None:
        raise ConfigError(f"model.freeze: a {type(model).__name__} has no vision tower and projector; leave it empty")
    projector = set(merger.parameters())
    members = {
        "vision_tower": [p for p in visual.parameters() if p not in projector],
        "projector": list(projector),
        "decoder": [*model.model.language_model.parameters(), *model.get_output_embeddings().parameters()],
    }
    for part in parts:
        for parameter in members[part]:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("model.freeze names every part of the model: leave one of them to learn")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the prompts of a packed row show: N tokens, K features of a kind."""

    position_ids: torch.Tensor
    """[3, 1, N] multimodal rotary positions."""
    kinds: list[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]
    """For images and for videos, where there are some: the model's method, patches, grids, and [K] places in the row."""


def lay_out(batch: Batch, families: Sequence[Family], cache: VisionCache, device: torch.device) -> Shown:
    """What the row that `rlcs.learner.packing.pack` makes of `families` shows, and its positions."""
    import torch

    positions: list[NDArray[np.int64]] = []
    shown: list[tuple[int, VisionInputs]] = []  # where a sequence begins in the row, what it shows
    cursor = 0
    for family in families:
        inputs = cache.of(batch, int(family.sequences[0]))
        if inputs is not None:
            shown.append((cursor, inputs))
            if family.prefix:
                _check_prefix(inputs, family.prefix)
        for rank, sequence in enumerate(family.sequences):
            own = family.prefix if rank else 0
            length = int(batch.lengths[sequence])
            later = cache.later(batch, int(sequence))
            if later is None:
                positions.append(_positions(inputs, own, length))
            else:
                positions.append(later.positions[:, own:length])
                shown.append((cursor - own, later))
            cursor += length - own
    kinds = []
    for places_name, method, pixels_name, grid_name in _KINDS:
        some = [(start, inputs) for start, inputs in shown if len(getattr(inputs, places_name))]
        if some:
            patches, grids = (
                torch.cat([inputs.tensors[name] for _, inputs in some]).to(device) for name in (pixels_name, grid_name)
            )
            places = np.concatenate([start + getattr(inputs, places_name) for start, inputs in some])
            kinds.append((method, patches, grids, torch.from_numpy(places).to(device)))
    return Shown(torch.from_numpy(np.concatenate(positions, axis=1))[:, None].to(device), kinds)


def hidden_states(model: Any, input_ids: torch.Tensor, shown: Shown, packed: Packed) -> torch.Tensor:
    """[1, N, width] last hidden states of the decoder for the tokens [1, N] of a packed row."""
    import torch

    embeds = model.get_input_embeddings()(input_ids)
    for method, patches, grids, places in shown.kinds:
        features = torch.cat(tuple(getattr(model.model, method)(patches, grids, return_dict=True).pooler_output))
        embeds = embeds.index_copy(1, places, features.to(embeds.dtype)[None])
    decoder = model.model.language_model
    outputs = decoder(inputs_embeds=embeds, position_ids=shown.position_ids, use_cache=False, packed=packed)
    hidden: torch.Tensor = outputs.last_hidden_state
    return hidden


def _positions(inputs: VisionInputs | None, first: int, end: int) -> NDArray[np.int64]:
    """[3, end - first] rotary positions of the tokens `first` to `end` of a sequence."""
    if inputs is None:
        return np.broadcast_to(np.arange(first, end), (3, end - first))
    known = inputs.positions.shape[1]
    prompt = inputs.positions[:, first : min(end, known)]
    after = inputs.next_position + np.arange(max(first - known, 0), max(end - known, 0))
    return np.concatenate([prompt, np.broadcast_to(after, (3, len(after)))], axis=1)


def _check_prefix(inputs: VisionInputs, prefix: int) -> None:
    last = max((int(places[-1]) for places in (inputs.image_places, inputs.video_places) if len(places)), default=-1)
    if last >= prefix:
        raise DataError(
            f"a group shares {prefix} prompt tokens, but its images reach to token {last}: the engine gave its responses "
            "different prompts"
        )
