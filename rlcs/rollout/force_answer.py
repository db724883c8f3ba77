"""Force answering: a response that spends its thinking budget is made to answer.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5): when thinking has reached its budget, the end of thinking is inserted and
the model goes on with its answer, so that long thinking costs the answer's quality and not the answer. Inserted tokens
were not chosen by the policy: they have loss mask False and log-probability 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlcs.response_format import ANSWER_OPEN, THINK_CLOSE


@dataclass(slots=True)
class Sampled:
    """A response so far, T tokens."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)
    is_cut: bool = False
    """Whether the engine stopped it at its limit."""

    def extend(self, token_ids: Sequence[int], logprobs: NDArray[np.float32], *, is_cut: bool) -> None:
        """Append what the policy sampled."""
        self.token_ids.extend(token_ids)
        self.logprobs.extend(logprobs.tolist())
        self.loss_mask.extend([True] * len(token_ids))
        self.is_cut = is_cut

    def force(self, token_ids: Sequence[int]) -> None:
        """Append what the policy did not choose."""
        self.token_ids.extend(token_ids)
        self.logprobs.extend([0.0] * len(token_ids))
        self.loss_mask.extend([False] * len(token_ids))


@dataclass(frozen=True, slots=True)
class ForceAnswer:
    """When a response is made to answer, and by which tokens."""

    budget: int
    """Tokens of thinking, at most."""
    close: tuple[int, ...]
    """The tokens that end the thinking."""
    forced: tuple[int, ...]
    """What is inserted: the end of thinking, and what opens the answer."""

    @classmethod
    def of(cls, budget: int, tokenizer: object) -> ForceAnswer:
        """For a tokenizer of transformers and the paper's response format."""
        close, forced = (
            tuple(tokenizer.encode(text, add_special_tokens=False))  # type: ignore[attr-defined]
            for text in (THINK_CLOSE, THINK_CLOSE + ANSWER_OPEN)
        )
        return cls(budget, close, forced)

    def continuation(self, response: Sampled, max_tokens: int) -> tuple[int, ...] | None:
        """What to insert before a response goes on, maybe nothing; None if it is finished.

        A response goes on if it was cut at the budget and has room for more than what is inserted.
        """
        if not response.is_cut:
            return None
        inserted = () if contains(response.token_ids, self.close) else self.forced
        return inserted if len(response.token_ids) + len(inserted) < max_tokens else None


def contains(token_ids: Sequence[int], part: Sequence[int]) -> bool:
    """Whether `part` stands somewhere in `token_ids`, without a gap."""
    size = len(part)
    return any(tuple(token_ids[i : i + size]) == tuple(part) for i in range(len(token_ids) - size + 1))
