"""An episode as one sequence of tokens: response, observation, response, ... behind the prompt. Pure; knows no vLLM.

Tokens exist twice. As *sent*, a picture is one placeholder token, which the engine itself replaces; as *known*, it is as
many tokens as its features, and that is what the learner gets. What the policy sampled is the same in both, and is never
tokenized again. Observations and forced tokens have loss mask False and log-probability 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlcs.rollout.force_answer import Sampled
from rlcs.turns import Between
from rlcs.types import FinishReason, Image, Observation, Response, Score


@dataclass(slots=True)
class Said:
    """What the environment said between two turns."""

    between: Between
    num_tokens: int
    """With those of its pictures."""
    images: tuple[Image, ...] = ()
    is_error: bool = False
    known: list[int] | None = None
    """Its tokens as the engine saw them, once they are known."""


@dataclass(slots=True)
class Trajectory:
    """An episode so far. Turn i + 1 follows what was said in place i."""

    turns: list[Sampled] = field(default_factory=lambda: [Sampled()])
    said: list[Said] = field(default_factory=list)

    @property
    def turn(self) -> Sampled:
        """The turn that goes on, or has just ended."""
        return self.turns[-1]

    @property
    def images(self) -> list[Image]:
        """What all observations show, in order."""
        return [image for each in self.said for image in each.images]

    @property
    def size(self) -> int:
        """T, tokens behind the prompt, those of pictures among them."""
        return sum(len(turn.token_ids) for turn in self.turns) + sum(each.num_tokens for each in self.said)

    @property
    def sent(self) -> list[int]:
        """What follows the prompt in the next request."""
        tokens: list[int] = []
        for index, turn in enumerate(self.turns):
            tokens += turn.token_ids
            if index < len(self.said):
                tokens += self.said[index].between.token_ids
        return tokens

    def room(self, max_tokens: int, max_turn_tokens: int | None) -> int:
        """Tokens that the present turn may still have, of an episode of at most `max_tokens`."""
        left = max_tokens - self.size
        return left if max_turn_tokens is None else min(left, max_turn_tokens - len(self.turn.token_ids))

    def say(self, said: Said) -> None:
        """The environment says something; the next turn begins."""
        self.said.append(said)
        self.turns.append(Sampled())

    def learn_sent(self, prompt_tokens: int, request: Sequence[int]) -> None:
        """Take the tokens of the last observation from what the engine saw: `request` holds prompt and episode so far."""
        if not self.said or self.said[-1].known is not None:
            return
        last = self.said[-1]
        start = prompt_tokens + self.size - last.num_tokens - len(self.turn.token_ids)
        last.known = list(request[start : len(request) - len(self.turn.token_ids)])
        last.num_tokens = len(last.known)

    def response(
        self,
        decode: Callable[[Sequence[int]], str],
        end_token: int | None,
        finish_reason: FinishReason,
        version: int,
        score: Score | None,
    ) -> Response:
        """The episode as one response; `decode` keeps special tokens, an `end_token` at the end of a turn is no text."""
        tokens: list[int] = []
        logprobs: list[float] = []
        mask: list[bool] = []
        text = ""
        observations = []
        for index, turn in enumerate(self.turns):
            tokens += turn.token_ids
            logprobs += turn.logprobs
            mask += turn.loss_mask
            ends = bool(turn.token_ids) and turn.token_ids[-1] == end_token
            text += decode(turn.token_ids[:-1] if ends else turn.token_ids)
            if index == len(self.said):
                break
            said = self.said[index]
            known = said.between.token_ids if said.known is None else said.known
            start, text_start = len(tokens), len(text)
            tokens += known
            logprobs += [0.0] * len(known)
            mask += [False] * len(known)
            text += said.between.text
            observations.append(Observation(start, len(tokens), text_start, len(text), said.images, said.is_error))
        return Response(
            token_ids=np.asarray(tokens, dtype=np.int32),
            logprobs=np.asarray(logprobs, dtype=np.float32),
            loss_mask=np.asarray(mask, dtype=bool),
            text=text,
            finish_reason=finish_reason,
            policy_version=version,
            observations=tuple(observations),
            episode=score,
        )
