"""The data that flows through an iteration, from a prompt to the learner's batch.

| type | is | made by | read by |
|---|---|---|---|
| `Prompt` | a question, its reference answer, its domain and offline tier | `rlcs.data`, `rlcs.envs` | everyone |
| `Image`, `Video` | what a prompt shows, still encoded | `rlcs.data`, `rlcs.envs` | whoever turns prompts into tokens |
| `Response` | what the policy said: token ids, sampled logprobs, text, why it ended | `rlcs.rollout` | scoring, learner |
| `Score` | what a response is worth, and why | `rlcs.rewards` | curriculum, learner, run log |
| `Group` | a prompt and its G responses | `rlcs.rollout` | curriculum, learner, run log |
| `Batch` | flat token arrays with sequence offsets, no padding | `rlcs.learner` | the learner |

Shapes: G responses a prompt, P prompt tokens, T response tokens, S sequences in a batch, N tokens in a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import PIL.Image

Message = dict[str, Any]
"""A chat message: `{"role": ..., "content": text or list of parts}`, as `tokenizer.apply_chat_template` takes it."""

NUM_TIERS = 5
TIER_NAMES = ("very easy", "easy", "medium", "hard", "very hard")
"""Difficulty tiers 0 to 4 (GLM-4.1V-Thinking, arXiv 2507.01006, section 5)."""


class FinishReason(StrEnum):
    """Why a response ended."""

    STOP = "stop"
    """The policy ended it with its end-of-sequence token."""
    LENGTH = "length"
    """It reached `max_completion_length`; an episode, its last turn."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as an encoded file (PNG, JPEG, ...), which may be made only when it is needed.

    Two are equal if their digests are. Pickled, it takes a few hundred bytes unless it holds the file itself.
    """

    digest: str
    """32 hex digits that stand for the content: the same digest, the same picture."""
    source: bytes | Callable[[], bytes] = field(repr=False, compare=False)
    """The encoded file, or a function that gives it, the same bytes each time; it must be possible to pickle it."""
    size: tuple[int, int] | None = field(default=None, compare=False)
    """Width and height in pixels, where they are known without decoding it."""

    @classmethod
    def of(cls, data: bytes) -> Image:
        """The picture of an encoded file."""
        return cls(hashlib.sha256(data).hexdigest()[:32], data)

    @property
    def data(self) -> bytes:
        """The encoded file; made anew at each access where `source` is a function."""
        return self.source if isinstance(self.source, bytes) else self.source()

    def open(self) -> PIL.Image.Image:
        """The picture as RGB, decoded anew at each call. Raises ImageError if it cannot be decoded."""
        from rlcs.images import decode

        return decode(self.data)


@dataclass(frozen=True, slots=True)
class Video:
    """Frames in the order of time, evenly spaced: frame i is at `i / fps` seconds."""

    frames: tuple[Image, ...]
    """At least one; all of one size."""
    fps: float
    """Frames a second."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question put to the policy."""

    id: str
    """Stable hash of the content: see `prompt_id`."""
    messages: list[Message]
    """The conversation so far, in chat format; a part `{"type": "image"}` or `{"type": "video"}` for each picture and video."""
    answer: str
    """The reference answer, as text."""
    domain: str = "default"
    """The kind of task; curricula, rewards and tables group by it."""
    tier: int | None = None
    """Offline difficulty, 0 (very easy) to `NUM_TIERS - 1` (very hard), or None if not graded."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Any other columns of the row, JSON-like; handed to reward functions by name."""
    images: tuple[Image, ...] = ()
    """The pictures, in the order of the parts that stand for them."""
    videos: tuple[Video, ...] = ()
    """The videos, in the order of the parts that stand for them."""


def prompt_id(messages: list[Message], answer: str, images: Sequence[Image] = (), videos: Sequence[Video] = ()) -> str:
    """The stable id of a prompt: 16 hex digits of the SHA-256 of messages, reference answer, pictures and videos."""
    return content_id([messages, answer], images, videos)


def content_id(content: list[Any], images: Sequence[Image] = (), videos: Sequence[Video] = ()) -> str:
    """16 hex digits of the SHA-256 of JSON-like `content` and of what is shown with it."""
    if images or videos:
        shown = [[image.digest for image in images]]
        shown += [[f"{video.fps:g}", *(frame.digest for frame in video.frames)] for video in videos]
        content = [*content, shown]
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Score:
    """What a response is worth."""

    value: float
    """The reward, in [0, 1]."""
    correct: bool | None = None
    """Whether the answer is right; None where right and wrong do not apply."""
    parts: dict[str, float] = field(default_factory=dict)
    """Named components of the value."""
    detail: str = ""
    """Why, for a person."""
    seconds: float | None = field(default=None, compare=False)
    """Wall-clock time that the verifier spent on it, where that was measured."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What an environment said in the middle of a response: between two turns of an episode."""

    start: int
    """First token, counted from the beginning of the response."""
    end: int
    """Behind the last token."""
    text_start: int
    """First character in the text of the response."""
    text_end: int
    images: tuple[Image, ...] = ()
    """What it shows, in the order of the tokens that stand for it."""
    is_error: bool = False
    """Whether it tells of an environment that failed."""


@dataclass(slots=True)
class Response:
    """One completion of a prompt, as the engine sampled it; of a task of several turns, the whole episode."""

    token_ids: NDArray[np.int32]
    """[T] the sampled tokens, the end-of-sequence token included; between turns, what the environment said."""
    logprobs: NDArray[np.float32]
    """[T] their log-probabilities under the policy that sampled them."""
    loss_mask: NDArray[np.bool_]
    """[T] False on tokens that the policy did not choose (forced ones, and observations)."""
    text: str
    """The decoded response, special tokens kept, the end-of-sequence token left out; all turns of an episode."""
    finish_reason: FinishReason
    policy_version: int
    """Number of weight updates that the sampling policy had seen."""
    reward: Score | None = None
    """Set by scoring."""
    reward_seconds: dict[str, float] = field(default_factory=dict)
    """Time that each reward spent on it, set by scoring; its share of a batch where samples are not timed."""
    observations: tuple[Observation, ...] = ()
    """What an environment said between the turns of an episode."""
    episode: Score | None = None
    """What the environment says that the episode is worth; None of a single turn."""
    media: Any = None
    """Where the decoded pixels of the observations are, as `Group.media`; None where they show nothing."""

    @property
    def num_turns(self) -> int:
        """How often it was the policy's turn."""
        return len(self.observations) + 1

    @property
    def num_observed(self) -> int:
        """Tokens of observations."""
        return sum(each.end - each.start for each in self.observations)

    @property
    def last_text(self) -> str:
        """The text of the last turn, all of it where there is one."""
        return self.text[self.observations[-1].text_end :] if self.observations else self.text

    @property
    def is_forced(self) -> bool:
        """Whether tokens were inserted that neither the policy nor an environment chose."""
        return int(np.sum(self.loss_mask)) + self.num_observed < len(self.loss_mask)


@dataclass(slots=True)
class Group:
    """A prompt and its G responses."""

    prompt: Prompt
    prompt_ids: NDArray[np.int32]
    """[P] the prompt's tokens, as the engine saw them."""
    responses: list[Response]
    predicted_pass_rate: float | None = None
    """What the curriculum expected before the group was rolled out."""
    media: Any = None
    """Where the decoded pixels of the prompt are (`rlcs.vision.pixels.Loadable`), or None for text alone."""

    @property
    def rewards(self) -> NDArray[np.float64]:
        """[G] the reward of each response. Raises ValueError if the group is not scored."""
        values = []
        for response in self.responses:
            if response.reward is None:
                raise ValueError(f"group of prompt {self.prompt.id} has a response without a score")
            values.append(response.reward.value)
        return np.asarray(values, dtype=np.float64)

    @property
    def pass_rate(self) -> float:
        """Share of responses that are right; the mean reward where right and wrong do not apply."""
        marks = [
            float(r.reward.correct) if r.reward is not None and r.reward.correct is not None else None
            for r in self.responses
        ]
        known = [mark for mark in marks if mark is not None]
        return float(np.mean(known)) if len(known) == len(marks) else float(self.rewards.mean())

    @property
    def is_degenerate(self) -> bool:
        """Whether all rewards are equal, so that the group has no learning signal for GRPO."""
        rewards = self.rewards
        return bool(rewards.max() - rewards.min() < 1e-9)

    @property
    def generated_tokens(self) -> int:
        """Tokens sampled for the group."""
        return sum(len(r.token_ids) - r.num_observed for r in self.responses)


@dataclass(slots=True)
class Batch:
    """What the learner takes: S sequences (prompt and response) laid end to end, N tokens, no padding.

    Sequence s is `[offsets[s], offsets[s + 1])`. Arrays over tokens are aligned with `token_ids`: `logprobs[i]` is the
    log-probability of `token_ids[i]` given what stands before it in its sequence.
    """

    token_ids: NDArray[np.int64]
    """[N]"""
    offsets: NDArray[np.int64]
    """[S + 1] starts of the sequences, and N."""
    loss_mask: NDArray[np.bool_]
    """[N] True on response tokens that the policy chose."""
    logprobs: NDArray[np.float32]
    """[N] log-probabilities as sampled, 0 where `loss_mask` is False."""
    advantages: NDArray[np.float32]
    """[N] advantage of each token, 0 where `loss_mask` is False."""
    media: Sequence[Any] = ()
    """[S] `Group.media` of each sequence, one object for all responses to a prompt, or an `EpisodeMedia` of
    `rlcs.vision.pixels` with it; empty where all is text."""

    @property
    def num_sequences(self) -> int:
        """S."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[S] tokens in each sequence."""
        return np.diff(self.offsets)
