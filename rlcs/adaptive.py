"""Adaptive rollouts: a few responses to each prompt first, the rest to the prompts where they teach most.

The rule is `rlcs.curricula.adaptive.allocate_responses`; here it meets the settings `rollout.first_generations`,
`rollout.max_generations` and `rollout.adaptive_prompts` and real groups. An iteration generates as many responses as
without it, `train.batch_size` x `rollout.num_generations`, in two requests; what settled groups do not need goes to the
others. Nothing is kept between iterations, so that a resumed run needs nothing saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlcs.config import Config, RolloutConfig
from rlcs.curricula.adaptive import AdaptivePlan, allocate_responses
from rlcs.curricula.base import Curriculum
from rlcs.curricula.quadrature import Floats
from rlcs.errors import ConfigError
from rlcs.rollout.requests import answered
from rlcs.types import Group, Prompt

Request = Callable[[Sequence[Prompt], Sequence[int]], list[Group]]
"""Generates and scores so many responses to each of some prompts; a group each, in their order."""


def adaptive_plan(rollout: RolloutConfig) -> AdaptivePlan | None:
    """The plan of these settings as the simulator takes it; None where they are off."""
    if not rollout.first_generations:
        return None
    size = rollout.num_generations
    return AdaptivePlan(
        prompts=rollout.adaptive_prompts, first=rollout.first_generations / size, most=rollout.largest_group / size
    )


def check_predicts(config: Config, curriculum: Curriculum) -> None:
    """Raises ConfigError if adaptive rollouts are on and the curriculum predicts no pass rates."""
    if config.rollout.first_generations and curriculum.predict_logits(np.zeros(1, dtype=np.int64)) is None:
        raise ConfigError(
            f"rollout.first_generations needs a curriculum that predicts pass rates, and {config.curriculum.kind!r} does "
            "not: set curriculum.kind=posterior, or rollout.first_generations=0"
        )


def num_prompts(config: Config, curriculum: Curriculum, wanted: int) -> int:
    """How many prompts an iteration draws at first, for `wanted` new groups to learn from."""
    if not config.rollout.first_generations:
        return curriculum.num_prompts(wanted)
    return max(1, round(config.rollout.adaptive_prompts * config.train.batch_size))


def respond_adaptively(
    prompts: Sequence[Prompt], belief: tuple[Floats, Floats], rollout: RolloutConfig, budget: int, request: Request
) -> list[Group]:
    """Scored groups of `prompts` [n] with `budget` responses in all, or less where no group may grow further.

    `belief`: [n] means and [n] variances of the logits of the prompts' pass rates (`Curriculum.predict_logits`).
    """
    first = rollout.first_generations
    groups = request(prompts, [first] * len(prompts))
    if len(groups) < len(prompts):  # some are set aside
        places = answered(prompts, groups)
        prompts, belief = [prompts[place] for place in places], (belief[0][places], belief[1][places])
    right = np.asarray([group.pass_rate * first for group in groups])
    extra = allocate_responses(*belief, right, first, budget - first * len(prompts), rollout.largest_group - first)
    asked = np.flatnonzero(extra)
    more_prompts = [prompts[i] for i in asked]
    more_groups = request(more_prompts, extra[asked].tolist())
    for index, more in zip(asked[answered(more_prompts, more_groups)], more_groups, strict=True):
        groups[index].responses += more.responses
    return groups
