"""Verifiers on the page of rewards: how long they take, how often they fail, and on what they take longest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlcs.dashboard.figures.rewards import verifiers
from rlcs.dashboard.responses import Sample, parts_of
from rlcs.dashboard.store import Run

_SLOWEST = 12


@dataclass(frozen=True, slots=True)
class VerifierRow:
    """A verifier over the last iterations."""

    name: str
    samples: float
    """Responses that it scored."""
    mean: float | None
    """Of its values."""
    p50: float | None
    """Milliseconds a response: the mean over iterations of the median, and of the 95th percentile."""
    p95: float | None
    most: float
    """Milliseconds of the slowest response."""
    timeouts: float
    errors: float


def verifier_rows(run: Run, window: int) -> list[VerifierRow]:
    """The verifiers of the last `window` iterations, the slowest first."""
    columns = run.columns

    def recent(name: str) -> list[float]:
        steps, values = columns.series(f"scoring/{name}")
        return [float(v) for s, v in zip(steps, values, strict=True) if s > columns.last_step - window and v == v]

    rows = [
        VerifierRow(
            name,
            sum(recent(f"samples/{name}")),
            columns.last(f"scoring/mean/{name}", window),
            columns.last(f"scoring/latency_p50_ms/{name}", window),
            columns.last(f"scoring/latency_p95_ms/{name}", window),
            max(recent(f"latency_max_ms/{name}"), default=0.0),
            sum(recent(f"timeouts/{name}")),
            sum(recent(f"errors/{name}")),
        )
        for name in verifiers(run)
    ]
    return sorted(rows, key=lambda row: -(row.p95 or 0.0))


def slowest(sample: Sample) -> list[dict[str, Any]]:
    """The responses that took a verifier longest, with `verifier` and `milliseconds`."""
    found = []
    for row in sample.rows:
        times = parts_of(row.get("reward_seconds"))
        if times:
            name = max(times, key=lambda verifier: times[verifier])
            found.append({**row, "verifier": name, "milliseconds": 1000 * times[name]})
    return sorted(found, key=lambda row: -float(row["milliseconds"]))[:_SLOWEST]
