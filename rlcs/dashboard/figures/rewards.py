"""The plots of rewards: can the score be trusted?"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from rlcs.dashboard.figures.figure import FEW_POINTS, Figure, Series, domain_colour, line
from rlcs.dashboard.figures.overview import accuracy
from rlcs.dashboard.responses import Sample, counts_at, parts_of
from rlcs.dashboard.store import Run

_BINS = 10
_MOMENTS = 24
"""Iterations at which texts are looked at for plots over time."""


def reward_figures(run: Run, sample: Sample) -> list[Figure]:
    """All plots; `sample` are the newest responses."""
    return [
        _distribution(run, sample),
        _parts(sample),
        _against_held_out(run),
        *_over_time(run),
        _failures(run),
        _failing(run),
        _latency(run),
        _seconds(run),
    ]


def verifiers(run: Run) -> list[str]:
    """Names of the rewards whose time was recorded."""
    return run.columns.below("scoring/latency_p95_ms")


def _distribution(run: Run, sample: Sample) -> Figure:
    """Histogram of rewards by domain."""
    figure = Figure(
        "distribution",
        "Rewards of the newest responses, by domain",
        "bars",
        note=f"Iterations {sample.first} to {sample.last}. All at one end: the reward has nothing left to say.",
        y_label="share of responses",
        x_label="reward",
        percent=True,
        empty="No responses were recorded.",
    )
    if not sample.rows:
        return figure
    names = [f"{i / _BINS:.1f}-{(i + 1) / _BINS:.1f}" for i in range(_BINS)]
    rewards: dict[str, list[float]] = defaultdict(list)
    for row in sample.rows:
        if row["reward"] is not None:
            rewards[row["domain"]].append(row["reward"])
    values = {value for of_domain in rewards.values() for value in of_domain}
    for index, domain in enumerate(run.domains):
        if domain in rewards:
            found = np.asarray(rewards[domain])
            if values <= {0.0, 1.0}:  # right or wrong: two bars say it
                names, counts = ["0", "1"], np.array([(found == 0).sum(), (found == 1).sum()])
            else:
                counts = np.histogram(np.clip(found, 0, 1), bins=_BINS, range=(0, 1))[0]
            figure.series.append(Series(domain, names, (counts / counts.sum()).tolist(), domain_colour(index)[0]))
    return figure


def _parts(sample: Sample) -> Figure:
    """Mean of each part of the reward by domain."""
    figure = Figure(
        "parts",
        "Parts of the reward: the mean of each",
        "bars",
        note="Of the newest responses.",
        y_label="mean",
        x_label="",
        zero=True,
        empty="No parts were recorded.",
    )
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sample.rows:
        for name, value in parts_of(row["parts"]).items():
            sums[name][row["domain"]].append(value)
    domains = sorted({domain for of_part in sums.values() for domain in of_part})
    names = sorted(sums)
    for index, domain in enumerate(domains):
        means = [float(np.mean(sums[name][domain])) if sums[name].get(domain) else None for name in names]
        figure.series.append(Series(domain, names, means, domain_colour(index)[0]))
    return figure


def _against_held_out(run: Run) -> Figure:
    """Training reward beside held-out accuracy."""
    figure = Figure(
        "against",
        "Training reward beside held-out accuracy",
        "lines",
        note="If the reward rises and accuracy does not, the policy has found a way to please the reward.",
        y_label="reward, accuracy",
        percent=True,
    )
    if "reward/mean" in run.columns:
        figure.series.append(line("reward in training", run.columns.series("reward/mean")))
    held_out = [series for series in accuracy(run).series if series.name == "all"]
    for series in held_out:
        series.name, series.colour = "accuracy, held out", "d0"
        figure.series.append(series)
    return figure


def _over_time(run: Run) -> list[Figure]:
    """Most frequent answer and repetition over time, from the texts of a few iterations; length from the metrics."""
    same = Figure(
        "same_answer",
        "Share of the most frequent answer, by domain",
        "lines",
        note=f"Looked at in some {_MOMENTS} iterations. One answer that takes over needs no thinking.",
        y_label="share of responses",
        percent=True,
        smooth=False,
        empty="No responses were recorded.",
    )
    worn = Figure(
        "repetition",
        "Share of texts that repeat themselves or mix languages",
        "lines",
        y_label="share of responses",
        percent=True,
        smooth=False,
        empty="No responses were recorded.",
    )
    files = run.database.rollout_files()
    length = Figure("lengths", "Length of the responses", "lines", y_label="tokens", zero=True)
    if "rollout/mean_length" in run.columns:
        length.series.append(line("mean", run.columns.series("rollout/mean_length")))
    if files:
        first, last = files[0].first, files[-1].last
        width = (
            1 << max(0, (last - first) // _MOMENTS).bit_length()
        )  # a power of two: most moments stay as the run grows
        steps = [*range(first, last, width), last]
        samples = [(step, counts_at(run, step)) for step in steps]
        samples = [(step, sample) for step, sample in samples if sample.answers]
        for index, domain in enumerate(run.domains):
            points = [(step, _top(s.answers[domain])) for step, s in samples if domain in s.answers]
            if points:
                colour, dashed = domain_colour(index)
                x, y = [float(step) for step, _ in points], [share for _, share in points]
                same.series.append(Series(domain, x, y, colour, dashed=dashed))
        if samples:
            x = [float(step) for step, _ in samples]
            worn.series = [
                Series("repeat themselves", x, [sample.repetitive for _, sample in samples], "main"),
                Series("mix languages", x, [sample.mixed for _, sample in samples], "second"),
            ]
    return [same, worn, length]


def _failures(run: Run) -> Figure:
    """What scoring counted: time-outs, crashes, faults of the format."""
    figure = Figure(
        "failures",
        "What scoring had to complain of",
        "lines",
        note="Responses an iteration. The largest counts are shown; all are among the metrics scoring/...",
        y_label="responses",
        zero=True,
    )
    names = [n for n in run.columns.below("scoring") if n not in ("seconds",)]
    always = [name for name in ("timeouts", "crashes") if name in names]
    totals = {name: float(np.nansum(run.columns.series(f"scoring/{name}")[1])) for name in names if name not in always}
    most = sorted((name for name in totals if totals[name] > 0), key=lambda name: -totals[name])[:4]
    for index, name in enumerate([*always, *most]):
        figure.series.append(
            line(name.replace("_", " "), run.columns.series(f"scoring/{name}"), domain_colour(index)[0])
        )
    return figure


def _failing(run: Run) -> Figure:
    """Time-outs and errors by verifier, in all."""
    figure = Figure(
        "failing",
        "Responses that a verifier failed on, by verifier",
        "lines",
        note="Time-outs and errors together; such responses are worth 0, whatever they say.",
        y_label="responses an iteration",
        zero=True,
        empty="Not recorded: an older version wrote this run.",
    )
    for index, name in enumerate(verifiers(run)):
        x, late = run.columns.series(f"scoring/timeouts/{name}")
        _, errors = run.columns.series(f"scoring/errors/{name}")
        if len(x) and len(x) == len(errors):
            colour, dashed = domain_colour(index)
            figure.series.append(line(name, (x, late + errors), colour, dashed=dashed, most=FEW_POINTS))
    return figure


def _latency(run: Run) -> Figure:
    """The 95th percentile of the time that each verifier spends on a response."""
    figure = Figure(
        "latency",
        "Time of a response at each verifier, the 95th percentile",
        "lines",
        y_label="milliseconds",
        log=True,
        empty="Not recorded: an older version wrote this run.",
    )
    for index, name in enumerate(verifiers(run)):
        colour, dashed = domain_colour(index)
        data = run.columns.series(f"scoring/latency_p95_ms/{name}")
        figure.series.append(line(name, data, colour, dashed=dashed, most=FEW_POINTS))
    return figure


def _seconds(run: Run) -> Figure:
    """How long scoring took."""
    figure = Figure("scoring_time", "Time that scoring took", "lines", y_label="seconds an iteration", zero=True)
    for name, label, colour in (
        ("scoring/seconds", "in all", "main"),
        ("time/score", "as the trainer waited", "second"),
    ):
        if name in run.columns:
            figure.series.append(line(label, run.columns.series(name), colour))
    return figure


def _top(answers: Counter[str]) -> float:
    return answers.most_common(1)[0][1] / sum(answers.values())
