"""Metrics of scoring: sums of events and seconds, means of rewards; and how those of several calls become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
