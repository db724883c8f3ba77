"""The settings of episodes: tasks of several turns that an environment plays with the policy."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from rlcs.config_section import Section


class EpisodesConfig(Section):
    """Tasks of several turns; without effect where the environment has none."""

    max_turns: PositiveInt | None = Field(
        None, description="Responses after which an episode ends; the environment's own limit if null."
    )
    max_turn_length: PositiveInt | None = Field(
        None,
        description="Longest response of a turn, in tokens; null: what is left of max_completion_length, in which all turns "
        "and what the environment says between them must fit.",
    )
    step_timeout_s: PositiveFloat = Field(
        30.0,
        description="Time limit of one step of the environment, in seconds; the policy is told of one that takes longer.",
    )
    workers: PositiveInt = Field(1, description="Processes in which an engine's environment takes its steps.")
