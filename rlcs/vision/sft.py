"""Worked solutions about pictures, made into batches while the cold start goes on: pixels are drawn when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcs.errors import DataError
from rlcs.turns import TurnTemplate
from rlcs.types import Image, Prompt
from rlcs.vision.pixels import decode_prompt

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Label of tokens that are not learned (Hugging Face's convention)."""


@dataclass(frozen=True, slots=True)
class LaterTurn:
    """A turn of a worked episode behind the first, with what stands before it."""

    observation: tuple[dict[str, Any], ...]
    """Parts of the message."""
    images: tuple[Image, ...]
    response: str


class VisionCollator:
    """Batches of padded rows with their patches, by the model's own processor."""

    def __init__(
        self,
        processor: Any,
        prompts: Sequence[Prompt],
        responses: Sequence[str],
        later: Sequence[Sequence[LaterTurn]] = (),
    ) -> None:
        """Rows are asked for by `{"example": i}`: `prompts[i]` and the text of its response, without the end token, and
        `later[i]`, the turns behind it.
        """
        self._processor = processor
        self._prompts = prompts
        self._responses = responses
        self._later = later
        self._template = TurnTemplate(processor.tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """[B, L] input_ids, attention_mask, labels and mm_token_type_ids, and the vision tensors."""
        import torch

        tokenizer = self._processor.tokenizer
        parts = [self._example(int(row["example"])) for row in rows]
        longest = max(len(part["input_ids"]) for part in parts)
        filling = {
            "input_ids": tokenizer.pad_token_id,
            "attention_mask": 0,
            "labels": IGNORED,
            "mm_token_type_ids": 0,  # nosec B105
        }
        batch = {
            name: torch.stack(
                [torch.nn.functional.pad(part[name], (0, longest - len(part[name])), value=value) for part in parts]
            )
            for name, value in filling.items()
        }
        for name in _VISION_TENSORS:
            found = [part[name] for part in parts if name in part]
            if found:
                batch[name] = torch.cat(found)
        return batch

    def _example(self, index: int) -> dict[str, torch.Tensor]:
        """The row of one example, and its vision tensors."""
        prompt, response = self._prompts[index], self._responses[index]
        tokenizer = self._processor.tokenizer
        pixels = decode_prompt(prompt)
        shown: dict[str, Any] = {"images": [pixels.pictures()]} if pixels.images else {}
        if pixels.videos:
            shown["videos"] = [video.pixels for video in pixels.videos]
            shown["video_metadata"] = [video.metadata for video in pixels.videos]
            shown["do_sample_frames"] = False
        text = self._processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        text += response + tokenizer.eos_token
        row = dict(self._processor(text=[text], **shown, add_special_tokens=False, return_tensors="pt"))
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            row[name] = row[name][0]
        labels = row["input_ids"].clone()
        labels[: len(labels) - len(tokenizer.encode(response, add_special_tokens=False)) - 1] = IGNORED
        row["labels"] = labels
        for turn in self._later[index] if self._later else ():
            row = joined(row, self._turn(prompt, turn))
        return as_images(row) if type(self._processor).__name__ == "Glm4vProcessor" else row

    def _turn(self, prompt: Prompt, turn: LaterTurn) -> dict[str, torch.Tensor]:
        """The part of a row that is an observation and the response to it."""
        tokenizer = self._processor.tokenizer
        between = self._template.between(prompt.messages, turn.observation, tokenizer.eos_token_id)
        shown: dict[str, Any] = {"images": [[image.open() for image in turn.images]]} if turn.images else {}
        text = between.text + turn.response + tokenizer.eos_token
        row = dict(self._processor(text=[text], **shown, add_special_tokens=False, return_tensors="pt"))
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            row[name] = row[name][0]
        labels = row["input_ids"].clone()
        labels[: len(labels) - len(tokenizer.encode(turn.response, add_special_tokens=False)) - 1] = IGNORED
        row["labels"] = labels
        return row


_VISION_TENSORS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


def joined(row: dict[str, torch.Tensor], more: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A row with `more` behind it."""
    import torch

    return {
        name: torch.cat([part[name] for part in (row, more) if name in part]) for name in dict.fromkeys([*row, *more])
    }


def as_images(row: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A GLM-4.1V row whose videos are given as images: each pair of frames is one of grid [1, h, w].

    The model computes the same of both, and knows them apart by nothing but the tensors they come in; its forward takes
    no batch that has both.
    """
    import torch

    if "video_grid_thw" not in row:
        return row
    if "image_grid_thw" in row:
        raise DataError("a worked solution has images and videos both, which GLM-4.1V's training forward does not take")
    grids = row.pop("video_grid_thw")
    frames = torch.repeat_interleave(grids, grids[:, 0], dim=0)
    frames[:, 0] = 1
    kinds = row["mm_token_type_ids"]
    return row | {
        "pixel_values": row.pop("pixel_values_videos"),
        "image_grid_thw": frames,
        "mm_token_type_ids": torch.where(kinds == 2, torch.ones_like(kinds), kinds),
    }
