"""Scoring: Ray actors that carry responses to the rewards of their domain."""

from rlcs.scoring.combine import combine
from rlcs.scoring.fleet import ScoringFleet
from rlcs.scoring.metrics import latency_metrics, merge_metrics

__all__ = ["ScoringFleet", "combine", "latency_metrics", "merge_metrics"]
