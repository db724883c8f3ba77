"""What a vision-language model takes of a prompt's pixels, made by the model's own processor.

transformers' processors cut pictures into patches and say how many tokens each takes; vLLM calls the same ones. The
learner needs, once for each prompt whatever the number of its responses: patches and grids, which prompt tokens stand
for them, and the multimodal rotary positions [3, P] of the prompt (GLM-4.1V-Thinking, arXiv 2507.01006, section 2: time,
height and width).
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.adapters import base_model
from rlcs.errors import DataError, first_line
from rlcs.types import Prompt
from rlcs.vision import sees
from rlcs.vision.pixels import Pixels, has_pixels

if TYPE_CHECKING:
    import torch

Patches = tuple["torch.Tensor", "torch.Tensor"]
"""Of one picture: its patches, and its grid [1, 3]."""

_IMAGE, _VIDEO = 1, 2
"""Values of `mm_token_type_ids`."""


@dataclass(frozen=True, slots=True)
class VisionInputs:
    """The pixels of one prompt as the model takes them; P prompt tokens."""

    tensors: dict[str, torch.Tensor]
    """`pixel_values` and `image_grid_thw`, `pixel_values_videos` and `video_grid_thw`: those that there are."""
    image_places: NDArray[np.int64]
    """Prompt tokens that stand for the images' features, in their order."""
    video_places: NDArray[np.int64]
    """... for the videos'."""
    positions: NDArray[np.int64]
    """[3, P] rotary positions of the prompt."""

    @property
    def next_position(self) -> int:
        """Position of the first token after the prompt, in all three dimensions."""
        return int(self.positions.max()) + 1


class VisionProcessor:
    """The processor in a model's folder."""

    def __init__(self, path: str, *, trust_remote_code: bool = False) -> None:
        """Load it.

        Raises:
            DataError: the folder has no processor for images.
        """
        self._processor = load_processor(path, trust_remote_code=trust_remote_code)
        self._images: Any = self._processor.image_processor
        self.processed = 0
        """Prompts whose pixels were processed, and pictures of observations."""

    def num_tokens(self, prompt: Prompt) -> int:
        """Tokens that stand for what a prompt shows, less the placeholders that stand for it in its text."""
        sizes = [image.size or image.open().size for image in prompt.images]
        count = 0
        if sizes:
            count += self.image_tokens([(h, w) for w, h in sizes]) - len(sizes)
        for video in prompt.videos:
            width, height = video.frames[0].size or video.frames[0].open().size
            found = self._processor._get_num_multimodal_tokens(video_sizes=[(len(video.frames), height, width)])
            # A frame's time and marks stand beside its patches: at most 8 tokens a pair of frames.
            count += sum(found["num_video_tokens"]) + 8 * -(-len(video.frames) // 2)
        return count

    def image_tokens(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens that stand for images of so many pixels (height, width)."""
        if not sizes:
            return 0
        return int(sum(self._processor._get_num_multimodal_tokens(image_sizes=list(sizes))["num_image_tokens"]))

    def process(self, pixels: Pixels, prompt_ids: Sequence[int], model: Any) -> VisionInputs:
        """The inputs of `model` for `pixels`, whose tokens are already in `prompt_ids` [P].

        Raises:
            DataError: the prompt has other numbers of image tokens than its pixels take.
        """
        self.processed += 1
        tensors: dict[str, Any] = {}
        if pixels.images:
            found = self._images(images=pixels.pictures(), return_tensors="pt")
            tensors |= {"pixel_values": found["pixel_values"], "image_grid_thw": found["image_grid_thw"]}
        if pixels.videos:
            found = self._processor.video_processor(
                videos=[video.pixels for video in pixels.videos],
                video_metadata=[video.metadata for video in pixels.videos],
                do_sample_frames=False,
                return_tensors="pt",
            )
            tensors |= {
                "pixel_values_videos": found["pixel_values_videos"],
                "video_grid_thw": found["video_grid_thw"],
            }
        kinds = np.asarray(self._processor.create_mm_token_type_ids([list(prompt_ids)])[0])
        places = [np.flatnonzero(kinds == kind) for kind in (_IMAGE, _VIDEO)]
        merge = self._images.merge_size**2
        for where, name, what in zip(places, ("image_grid_thw", "video_grid_thw"), ("image", "video"), strict=True):
            wanted = int(tensors[name].prod(-1).sum()) // merge if name in tensors else 0
            if len(where) != wanted:
                raise DataError(
                    f"a prompt has {len(where)} {what} tokens, but its pixels take {wanted}: the engine's and the "
                    "learner's processors differ; use one model folder for both"
                )
        positions = self._positions(prompt_ids, kinds, tensors, pixels, model)
        return VisionInputs(tensors, places[0], places[1], positions)

    def process_episode(
        self,
        later: Pixels,
        prompt: Pixels | None,
        prompt_inputs: VisionInputs | None,
        token_ids: Sequence[int],
        model: Any,
        patches: dict[str, Patches],
    ) -> VisionInputs:
        """The inputs for the images `later` that an episode shows behind its prompt, with positions of all its tokens [L].

        `prompt_inputs` are those of what the prompt shows. `patches` keeps what was made of each picture, by digest. A
        policy samples image tokens in the last turn only, since no turn follows one that has some; they are none here.

        Raises:
            DataError: the episode has other numbers of image tokens than its pixels take.
        """
        import torch

        parts = []
        for digest, image in zip(later.digests, later.pictures(), strict=True):
            if digest not in patches:
                self.processed += 1
                found = self._images(images=[image], return_tensors="pt")
                patches[digest] = (found["pixel_values"], found["image_grid_thw"])
            parts.append(patches[digest])
        grids = torch.cat([grid for _, grid in parts])
        own = {"pixel_values": torch.cat([pixels for pixels, _ in parts]), "image_grid_thw": grids}
        before = prompt_inputs.tensors if prompt_inputs is not None else {}
        first = len(prompt_inputs.image_places) if prompt_inputs is not None else 0
        wanted = int(grids.prod(-1).sum()) // self._images.merge_size**2
        kinds = np.asarray(self._processor.create_mm_token_type_ids([list(token_ids)])[0])
        places = np.flatnonzero(kinds == _IMAGE)
        if len(places) < first + wanted:
            raise DataError(
                f"an episode has {len(places) - first} image tokens behind its prompt, but what it shows there takes {wanted}"
            )
        kinds[places[first + wanted :]] = 0
        videos = prompt_inputs.video_places if prompt_inputs is not None else np.zeros(0, np.int64)
        kinds[np.setdiff1d(np.flatnonzero(kinds == _VIDEO), videos)] = 0
        image_grids = torch.cat([before["image_grid_thw"], grids]) if "image_grid_thw" in before else grids
        tensors = {**before, "image_grid_thw": image_grids}
        positions = self._positions(token_ids, kinds, tensors, prompt, model)
        return VisionInputs(own, places[first : first + wanted], np.zeros(0, np.int64), positions)

    def _positions(
        self,
        token_ids: Sequence[int],
        kinds: NDArray[np.integer],
        tensors: dict[str, Any],
        pixels: Pixels | None,
        model: Any,
    ) -> NDArray[np.int64]:
        """[3, L] rotary positions of tokens of these kinds, with the grids of `tensors`."""
        import torch

        options = {
            "image_grid_thw": tensors.get("image_grid_thw"),
            "video_grid_thw": tensors.get("video_grid_thw"),
            "mm_token_type_ids": torch.from_numpy(kinds)[None],
        }
        if pixels is not None and pixels.videos:  # Qwen2.5-VL: seconds a grid of frames
            seconds = [self._processor.video_processor.temporal_patch_size / video.fps for video in pixels.videos]
            options["second_per_grid_ts"] = torch.tensor(seconds)
        known = inspect.signature(model.get_rope_index).parameters
        positions, _ = model.get_rope_index(
            torch.as_tensor(list(token_ids))[None], **{k: v for k, v in options.items() if k in known}
        )
        return in_order(positions[:, 0].numpy(), kinds)


def in_order(positions: NDArray[np.int64], kinds: NDArray[np.integer]) -> NDArray[np.int64]:
    """[3, P] positions where each run of one kind of tokens begins one after the largest position before it.

    That is how Qwen2-VL and its successors are defined (arXiv 2409.12191, section 2.1) and what vLLM computes. For
    Qwen2.5-VL transformers leaves a video's extent in time out, so that text after a long video would stand beside it.
    """
    starts = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    found = positions.copy()
    largest = -1
    for start, end in itertools.pairwise(starts):
        found[:, start:end] += largest + 1 - found[:, start].min()
        largest = int(found[:, start:end].max())
    return found


def load_processor(path: str, *, trust_remote_code: bool = False) -> Any:
    """The processor of a model's folder. Raises DataError if it has none for images."""
    from rlcs.vision.environment import prepare_process

    prepare_process()
    from transformers import AutoProcessor

    try:
        processor: Any = AutoProcessor.from_pretrained(path, trust_remote_code=trust_remote_code)
        if not hasattr(processor, "image_processor"):
            raise ValueError("it has a tokenizer only")
    except (OSError, ValueError, ImportError) as error:
        reason = first_line(error, limit=None)
        raise DataError(
            f"model {path}: no image processor could be loaded ({reason}); the folder needs processor_config.json or "
            "preprocessor_config.json, and the package torchvision must be installed"
        ) from error
    return processor


def media_tokens(config: Any) -> frozenset[int]:
    """The tokens of a vision-language model's configuration that stand for pixels or enclose them."""
    names = [name for name in vars(config) if name.endswith("_token_id")]
    values = [getattr(config, name) for name in names if name.startswith(("image", "video", "vision"))]
    return frozenset(value for value in values if isinstance(value, int))


def is_vision_model(path: str, *, trust_remote_code: bool = False) -> bool:
    """Whether a model's configuration has a vision tower."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base_model(path), trust_remote_code=trust_remote_code)
    return sees(config)


def check_shows_nothing(prompts: Sequence[Prompt], model: str) -> None:
    """Raises DataError if a prompt shows something, for a model that cannot see."""
    for row, prompt in enumerate(prompts):
        if has_pixels(prompt):
            raise DataError(
                f"prompt {row} (id {prompt.id}) has images, and model {model} takes text alone; set model.path to a "
                "vision-language model, or model.init: tiny-glm4v"
            )
