"""Scoring: Ray actors on CPUs that carry responses to the rewards."""

from rlcs.scoring.combine import combine
from rlcs.scoring.fleet import ScoringFleet

__all__ = ["ScoringFleet", "combine"]
