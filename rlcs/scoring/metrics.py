"""Metrics of scoring: sums of events and seconds, means of rewards; and how those of several calls become one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from rlcs.types import Group, Score

_ERRORS = ("crashes", "memory_limits", "worker_errors", "verifier_errors")
"""Events that are a verifier's failure and no time-out."""
_MEAN, _SAMPLES = "scoring/mean/", "scoring/samples/"


def reward_means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """`scoring/mean/NAME` and `scoring/samples/NAME`, how many responses it is the mean of, of each reward's values."""
    metrics: dict[str, float] = {}
    for name, numbers in values.items():
        if numbers:
            metrics[_MEAN + name] = sum(numbers) / len(numbers)
            metrics[_SAMPLES + name] = float(len(numbers))
    return metrics


def merge_metrics(calls: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of several calls of `ScoringFleet.score` as if it had been one: means by their samples, else sums."""
    merged: dict[str, float] = {}
    for metrics in calls:
        for name, value in metrics.items():
            weight = metrics[_SAMPLES + name.removeprefix(_MEAN)] if name.startswith(_MEAN) else 1.0
            merged[name] = merged.get(name, 0.0) + weight * value
    for name in merged:
        if name.startswith(_MEAN):
            merged[name] /= merged[_SAMPLES + name.removeprefix(_MEAN)]
    return merged


def failures_of(name: str, counts: Mapping[str, int]) -> dict[str, int]:
    """`timeouts/NAME` and `errors/NAME` of what a reward counted, where there were any."""
    found = {"timeouts": counts.get("timeouts", 0), "errors": sum(counts.get(event, 0) for event in _ERRORS)}
    return {f"{event}/{name}": times for event, times in found.items() if times}


def sample_seconds(scores: Sequence[Score | None], seconds: float) -> list[float]:
    """[n] the time of each score of a batch that took `seconds`: its own, or its share of what the others left."""
    known = [None if score is None else score.seconds for score in scores]
    rest = max(0.0, seconds - sum(own for own in known if own is not None))
    share = rest / max(1, known.count(None))
    return [share if own is None else own for own in known]


def latency_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """`scoring/latency_p50_ms/NAME`, `.../latency_p95_ms/NAME` and `.../latency_max_ms/NAME`: milliseconds a response."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for group in groups:
        for response in group.responses:
            for name, spent in response.reward_seconds.items():
                seconds[name].append(spent)
    metrics: dict[str, float] = {}
    for name, values in seconds.items():
        for key, quantile in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
            metrics[f"scoring/latency_{key}_ms/{name}"] = 1000 * float(np.quantile(values, quantile))
    return metrics
