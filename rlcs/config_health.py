"""`health`: what a run watches itself for, and what it does then."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from rlcs.config_section import Section

Action = Literal["off", "warn", "stop", "roll_back"]
"""`roll_back`: go on from the last good checkpoint with a lower learning rate."""

WATCHES = ("non_finite", "reward_collapse", "entropy_collapse", "runaway_length", "logprob_gap")
"""Names of the watches, each a setting."""


class HealthConfig(Section):
    """What is done about training that goes wrong: off, warn, stop, or roll_back to the last good checkpoint."""

    window: PositiveInt = Field(10, description="Iterations whose mean is looked at, and compared with earlier ones.")
    non_finite: Action = Field("warn", description="Rewards, losses or gradients that are not finite.")
    reward_collapse: Action = Field("warn", description="The mean reward falls below a share of its best.")
    reward_share: float = Field(0.5, gt=0, lt=1, description="... this share.")
    entropy_collapse: Action = Field("warn", description="Entropy falls below a share of that at the start.")
    entropy_share: float = Field(0.05, gt=0, lt=1, description="... this share.")
    runaway_length: Action = Field("warn", description="Responses get longer than a multiple of those at the start.")
    length_growth: float = Field(4.0, gt=1, description="... this multiple.")
    logprob_gap: Action = Field("warn", description="Engine and learner differ in the log-probabilities of tokens.")
    max_logprob_gap: PositiveFloat = Field(0.1, description="... by so much, on average over tokens and the window.")
    learning_rate_factor: float = Field(
        0.5, gt=0, le=1, description="By what a roll-back multiplies the learning rates of policy and critic."
    )
    max_roll_backs: NonNegativeInt = Field(3, description="Roll-backs of a run; the next cause for one stops it.")

    def first_to(self, action: Action) -> str | None:
        """The first watch with this action, or None."""
        return next((watch for watch in WATCHES if getattr(self, watch) == action), None)
