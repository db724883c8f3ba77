"""What does not fit: sequences longer than the token budget of a micro-step, and memory that runs out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from rlcs.config import LearnerConfig
from rlcs.errors import RLCSError
from rlcs.types import Group, Response
from rlcs.vision.pixels import first_images

logger = logging.getLogger(__name__)


def limit_lengths(groups: Sequence[Group], config: LearnerConfig) -> tuple[list[Group], dict[str, float]]:
    """The groups as `config.long_sequences` wants them, and `learner/long_sequences`, how many there were.

    A long sequence is a prompt and response of more than `config.tokens_per_micro_batch` tokens. The groups keep their
    responses and rewards, so that advantages stay what they are: `drop` learns no token of a long one, `truncate` only
    those within the budget. The given groups are not changed.

    Raises:
        RLCSError: there is a long sequence, and the configuration says `error`.
    """
    budget, how = config.tokens_per_micro_batch, config.long_sequences
    count = 0
    worst: tuple[int, str] = (0, "")
    fitting = []
    for group in groups:
        room = budget - len(group.prompt_ids)
        long = [index for index, response in enumerate(group.responses) if len(response.token_ids) > room]
        count += len(long)
        for index in long:
            worst = max(worst, (len(group.prompt_ids) + len(group.responses[index].token_ids), group.prompt.id))
        if long and how in ("drop", "truncate"):
            keep = max(0, room) if how == "truncate" else 0
            responses = [_shortened(r, keep) if index in long else r for index, r in enumerate(group.responses)]
            group = replace(group, responses=responses)
        fitting.append(group)
    if count:
        told = (
            f"{count} sequence{'s' * (count > 1)} of more than learner.tokens_per_micro_batch ({budget}) tokens, the "
            f"longest {worst[0]}, of prompt {worst[1]}"
        )
        if how == "error":
            raise RLCSError(
                f"learner: {told}: raise the budget, lower rollout.max_completion_length, or set learner.long_sequences"
            )
        logger.warning("learner: %s: %s", told, _DONE[how])
    return fitting, {"learner/long_sequences": float(count)}


_DONE = {"alone": "each takes a micro-step of its own", "drop": "not learned from", "truncate": "cut at the budget"}


def _shortened(response: Response, keep: int) -> Response:
    """The first `keep` tokens of a response; without any, all of it with nothing to learn."""
    observations = tuple(each for each in response.observations if each.end <= keep)
    if len(observations) < len(response.observations):  # an observation is kept whole, since its pictures are
        keep = min(keep, response.observations[len(observations)].start)
    if not keep:
        return replace(response, loss_mask=np.zeros_like(response.loss_mask))
    media, shown = response.media, sum(len(each.images) for each in observations)
    if media is not None:
        media = first_images(media, shown) if shown else None
    return replace(
        response,
        token_ids=response.token_ids[:keep],
        logprobs=response.logprobs[:keep],
        loss_mask=response.loss_mask[:keep],
        observations=observations,
        media=media,
    )


@contextmanager
def memory_advice(config: LearnerConfig, doing: str) -> Iterator[None]:
    """Memory that runs out inside becomes one line that says which setting to lower.

    Raises:
        RLCSError: there was too little memory.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_little(config, doing) from error
    except RuntimeError as error:  # PyTorch's allocator on CPUs has no error of its own
        if "can't allocate memory" not in str(error):
            raise
        raise _too_little(config, doing) from error


def _too_little(config: LearnerConfig, doing: str) -> RLCSError:
    settings = [f"lower learner.tokens_per_micro_batch ({config.tokens_per_micro_batch})"]
    if not config.gradient_checkpointing:
        settings.append("set learner.gradient_checkpointing to true")
    if config.gpus:
        settings.append("give the learner more GPUs (learner.gpus)")
        settings.append("lower rollout.gpu_memory_utilization where an engine shares the GPU")
    else:
        settings.append("lower rollout.max_completion_length")
    return RLCSError(f"learner: out of memory while {doing}: {', or '.join(settings)}")
