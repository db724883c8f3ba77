"""Which engine generates what: requests wait in one queue, longest first, and engines pull.

Guided self-scheduling (Polychronopoulos and Kuck, 1987): a pull takes at most its share of the tokens that remain, so
pulls shrink towards the end and a slow engine leaves work to the others. Nothing here knows Ray or vLLM.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.types import Prompt, Response

Take = Callable[[int], list[int]]
"""Asks for up to so many requests more; an empty list means that there are none left."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine made of one request."""

    index: int
    """Of the prompt."""
    responses: list[Response]
    prompt_ids: NDArray[np.int32] | None
    """[P] the prompt's tokens with those that stand for its pixels; None for text alone, where nothing changes."""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How responses are sampled."""

    max_tokens: int
    """Longest response, in tokens."""
    temperature: float
    top_p: float
    thinking_budget: int | None = None
    """Tokens of thinking after which the answer is forced: see `rlcs.rollout.force_answer`."""


class WorkQueue:
    """Hands out the indices of requests, the longest expected first, and knows which engine holds which.

    A request whose engine failed is under suspicion. An engine holds at most one of those at a time, so that a second
    failure has one suspect.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, float]] = deque()
        self._remaining_tokens = 0.0
        self._num_engines = 1
        self._held: dict[str, set[int]] = {}
        self._suspects: set[int] = set()

    def fill(
        self,
        expected_tokens: Sequence[float],
        num_engines: int,
        indices: Sequence[int] | None = None,
        suspects: Sequence[int] = (),
    ) -> None:
        """Replace the queue by `indices`, or all of 0 to n - 1, with the expected cost [n] in tokens of each request."""
        wanted = range(len(expected_tokens)) if indices is None else indices
        order = sorted(wanted, key=lambda index: -expected_tokens[index])
        self._waiting = deque((index, float(expected_tokens[index])) for index in order)
        self._remaining_tokens = float(sum(cost for _, cost in self._waiting))
        self._num_engines = num_engines
        self._held = {}
        self._suspects = set(suspects)

    def waiting(self) -> int:
        """How many requests nobody has taken yet."""
        return len(self._waiting)

    def take(self, most: int, engine: str = "", finished: Sequence[int] = ()) -> list[int]:
        """Up to `most` requests, one at least if any waits; an empty list means that there is nothing for this engine.

        `finished`: the requests that `engine` has answered since it last asked.
        """
        held = self._held.setdefault(engine, set())
        held.difference_update(finished)
        share = self._remaining_tokens / self._num_engines
        suspicious = not held.isdisjoint(self._suspects)
        taken: list[int] = []
        passed: list[tuple[int, float]] = []
        tokens = 0.0
        while self._waiting and len(taken) < most:
            index, cost = self._waiting[0]
            if taken and tokens + cost > share:
                break
            self._waiting.popleft()
            if index in self._suspects:
                if suspicious:
                    passed.append((index, cost))
                    continue
                suspicious = True
            taken.append(index)
            tokens += cost
        self._waiting.extendleft(reversed(passed))
        self._remaining_tokens -= tokens
        held.update(taken)
        return taken

    def lose(self, engine: str) -> list[int]:
        """The requests that an engine which failed held; they are forgotten until they are put back."""
        return sorted(self._held.pop(engine, ()))

    def put_back(self, requests: Sequence[tuple[int, float]]) -> None:
        """Let requests (index and expected tokens) whose engine failed wait again, before all others, as suspects."""
        self._waiting.extendleft(reversed(requests))
        self._remaining_tokens += sum(cost for _, cost in requests)
        self._suspects.update(index for index, _ in requests)


def deal(expected_tokens: Sequence[float], num_engines: int) -> list[list[int]]:
    """[engines] the requests of each, the longest first, where nothing may depend on which engine is faster.

    Each request goes to the engine with the least expected work so far (Graham, 1969: at most 4/3 of the best time).
    """
    shares: list[list[int]] = [[] for _ in range(num_engines)]
    loads = [0.0] * num_engines
    for index in sorted(range(len(expected_tokens)), key=lambda index: -expected_tokens[index]):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += expected_tokens[index]
    return shares


class LengthEstimator:
    """Expected response length of a prompt: a moving average for each domain and tier.

    A cell that was never seen is expected to be as long as the mean of the others, or `default` tokens.
    """

    def __init__(self, default: float, ema: float = 0.7) -> None:
        self._default = default
        self._ema = ema
        self._means: dict[tuple[str, int | None], float] = {}

    def estimate(self, prompt: Prompt) -> float:
        """Tokens that a response to `prompt` is expected to have."""
        known = self._means.get((prompt.domain, prompt.tier))
        if known is not None:
            return known
        return float(np.mean(list(self._means.values()))) if self._means else self._default

    def observe(self, prompt: Prompt, lengths: NDArray[np.int64]) -> None:
        """Learn from the response lengths [G] of one group."""
        cell = (prompt.domain, prompt.tier)
        mean = float(lengths.mean())
        self._means[cell] = self._ema * self._means.get(cell, mean) + (1 - self._ema) * mean

    def state_dict(self) -> dict[str, Any]:
        """JSON that `load_state_dict` takes."""
        return {"lengths": [[domain, tier, mean] for (domain, tier), mean in self._means.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._means = {(str(domain), tier): float(mean) for domain, tier, mean in state["lengths"]}
