"""vLLM for whoever plays turns: add a request, take a step, see which requests have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlcs.errors import EngineError
from rlcs.rollout.work import SamplingSettings
from rlcs.vision.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Sample:
    """What the policy sampled for one request, T tokens."""

    key: str
    prompt_ids: Sequence[int]
    """The request's tokens with those that stand for its pixels."""
    token_ids: list[int]
    logprobs: NDArray[np.float32]
    """[T]"""
    is_cut: bool
    """Whether it was stopped at its limit."""


class Backend(Protocol):
    """Samples continuations."""

    def add(self, key: str, token_ids: Sequence[int], pixels: Pixels | None, max_tokens: int) -> None:
        """Ask for one continuation of `token_ids`, with one placeholder token for each picture and video of `pixels`."""
        ...

    def step(self) -> list[Sample]:
        """Sample a token of each request; the requests that have ended."""
        ...


class VllmBackend:
    """The `Backend` of an in-process vLLM engine."""

    def __init__(self, engine: Any, params: Callable[..., Any], lora: Any = None) -> None:
        """`params`: see `sampling_params`; `lora`: vLLM's request for an adapter."""
        self._engine = engine
        self._params = params
        self._lora = lora

    def add(self, key: str, token_ids: Sequence[int], pixels: Pixels | None, max_tokens: int) -> None:
        """See `Backend.add`."""
        wanted: dict[str, Any] = {"prompt_token_ids": list(token_ids)}
        if pixels is not None:
            wanted["multi_modal_data"] = multi_modal_data(pixels)
        self._engine.add_request(key, wanted, self._params(n=1, max_tokens=max_tokens), lora_request=self._lora)

    def step(self) -> list[Sample]:
        """See `Backend.step`."""
        ended = []
        for output in self._engine.step():
            if output.finished:
                (part,) = output.outputs
                tokens = list(part.token_ids)
                logprobs = sampled_logprobs(part.logprobs, len(tokens))
                is_cut = part.finish_reason == "length"
                ended.append(Sample(output.request_id, output.prompt_token_ids, tokens, logprobs, is_cut))
        return ended


def sampling_params(settings: SamplingSettings) -> Callable[..., Any]:
    """Makes vLLM's parameters of a request; `n` and `max_tokens` are left to give."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return partial(
        SamplingParams,
        temperature=settings.temperature,
        top_p=settings.top_p,
        logprobs=0,
        flat_logprobs=True,
        # Decoding token by token costs a fifth of the time of a small policy; whole responses are decoded at once.
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def multi_modal_data(pixels: Pixels) -> dict[str, Any]:
    """Pixels as vLLM takes them."""
    data: dict[str, Any] = {}
    if pixels.images:
        data["image"] = pixels.pictures()
    if pixels.videos:
        data["video"] = [(video.pixels, video.metadata | {"do_sample_frames": False}) for video in pixels.videos]
    return data


def sampled_logprobs(flat: Any, num_tokens: int) -> NDArray[np.float32]:
    """[T] the logprob of each sampled token, which vLLM puts first at its position."""
    if len(flat.start_indices) != num_tokens:
        raise EngineError(f"vLLM returned {len(flat.start_indices)} logprobs for {num_tokens} tokens")
    return np.asarray(flat.logprobs, dtype=np.float32)[np.asarray(flat.start_indices, dtype=np.int64)]
