"""Decoded pictures and video frames of a prompt, and how they travel: decoded once, put into shared memory once.

The fleet of engines decodes an iteration's prompts and puts all pixels into Ray's object store; engines and learner
ranks read them from there without a copy. What each makes of them, its processor does: `rlcs.rollout.engine` gives them
to vLLM, `rlcs.vision.processing` makes the learner's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlcs.types import Prompt, Response, Video

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, slots=True)
class Frames:
    """A decoded video."""

    pixels: NDArray[np.uint8]
    """[T, H, W, 3]"""
    fps: float
    """Frames a second."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What transformers' and vLLM's video processors want to know; all frames are used as they are."""
        count = len(self.pixels)
        return {
            "fps": self.fps,
            "duration": count / self.fps,
            "total_num_frames": count,
            "frames_indices": list(range(count)),
            "video_backend": "numpy",
        }


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a prompt shows, decoded."""

    images: tuple[NDArray[np.uint8], ...]
    """[H, W, 3] each, in the order of the prompt's parts."""
    videos: tuple[Frames, ...] = ()
    digests: tuple[str, ...] = ()
    """Of the images, where they are known: the same digest, the same picture."""

    def load(self) -> Pixels:
        """Itself: see `Loadable`."""
        return self

    def pictures(self) -> list[PIL.Image.Image]:
        """The images for a processor."""
        import PIL.Image

        return [PIL.Image.fromarray(image) for image in self.images]


class Loadable(Protocol):
    """Pixels, or where to find them."""

    def load(self) -> Pixels:
        """The pixels; reading them from shared memory copies nothing."""
        ...


@dataclass(frozen=True, slots=True)
class SharedPixels:
    """Place `index` of a list of `Pixels` in Ray's object store."""

    reference: Any
    """A Ray object reference to a list of `Pixels`."""
    index: int

    def load(self) -> Pixels:
        """See `Loadable`."""
        import ray

        return ray.get(self.reference)[self.index]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class EpisodeMedia:
    """What a sequence shows that is an episode: its prompt, and what the environment showed later."""

    prompt: Any
    """`Group.media`: one object for all episodes of a prompt; None where it shows nothing."""
    later: Loadable


def prompt_media(media: Any) -> Any:
    """Of what a sequence shows, where the pixels of its prompt are."""
    return media.prompt if isinstance(media, EpisodeMedia) else media


def first_images(media: Loadable, count: int) -> Pixels:
    """The first `count` images of what is to be found at `media`."""
    pixels = media.load()
    return Pixels(pixels.images[:count], digests=pixels.digests[:count])


def share_episodes(groups: Sequence[Sequence[Response]]) -> None:
    """Put the pixels of observations into Ray's object store, a picture that several episodes show once."""
    shown = [response for responses in groups for response in responses if response.media is not None]
    if not shown:
        return
    import ray

    known: dict[str, NDArray[np.uint8]] = {}
    pixels = [
        Pixels(
            tuple(
                known.setdefault(digest, image)
                for digest, image in zip(response.media.digests, response.media.images, strict=True)
            ),
            digests=response.media.digests,
        )
        for response in shown
    ]
    reference = ray.put(pixels)
    for place, response in enumerate(shown):
        response.media = SharedPixels(reference, place)


def without_media(prompt: Prompt) -> Prompt:
    """The prompt without its pictures and videos."""
    return replace(prompt, images=(), videos=()) if has_pixels(prompt) else prompt


def has_pixels(prompt: Prompt) -> bool:
    """Whether a prompt shows something."""
    return bool(prompt.images or prompt.videos)


def decode_prompt(prompt: Prompt) -> Pixels:
    """The pixels of what a prompt shows. Raises ImageError if a picture cannot be decoded."""
    return Pixels(
        tuple(np.asarray(image.open()) for image in prompt.images), tuple(_decode_video(v) for v in prompt.videos)
    )


def pixels_of(prompt: Prompt) -> Pixels | None:
    """The pixels of what a prompt shows, None for text alone. Raises ImageError if a picture cannot be decoded."""
    return decode_prompt(prompt) if has_pixels(prompt) else None


class PixelStore:
    """Puts the pixels of prompts into Ray's object store, each prompt's once until `clear`."""

    def __init__(self) -> None:
        self._known: dict[str, SharedPixels] = {}
        self.decoded = 0
        """Prompts whose pixels were decoded."""

    def share(self, prompts: Sequence[Prompt]) -> list[SharedPixels | None]:
        """[n] where the pixels of each prompt are; None for text alone. Raises ImageError if one cannot be decoded."""
        import ray

        new = list({p.id: p for p in prompts if has_pixels(p) and p.id not in self._known}.values())
        if new:
            reference = ray.put([decode_prompt(prompt) for prompt in new])
            self._known |= {prompt.id: SharedPixels(reference, place) for place, prompt in enumerate(new)}
            self.decoded += len(new)
        return [self._known[prompt.id] if has_pixels(prompt) else None for prompt in prompts]

    def clear(self) -> None:
        """Forget all: an iteration is over. Pixels that a batch still refers to stay in the store."""
        self._known.clear()


def _decode_video(video: Video) -> Frames:
    return Frames(np.stack([np.asarray(frame.open()) for frame in video.frames]), video.fps)
