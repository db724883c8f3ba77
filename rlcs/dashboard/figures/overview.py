"""The plots of the overview: is it learning, is it healthy?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlcs.dashboard.columns import Floats, thin
from rlcs.dashboard.figures.figure import MOST_POINTS, Figure, Series, domain_colour, line, wilson
from rlcs.dashboard.store import Run
from rlcs.dashboard.terminal import STAGES
from rlcs.runlog import EvaluationRow

_STAGES = ("generate", "score", "learn", "sync", "select", "draw", "write")


def overview_figures(run: Run) -> list[Figure]:
    """All plots of one run."""
    return [
        reward(run),
        accuracy(run),
        _metrics(
            run,
            Figure(
                "useful",
                "Share of groups that taught something",
                "lines",
                note="A group whose responses are all right or all wrong has no signal.",
                y_label="share of groups",
                percent=True,
            ),
            [("rollout/useful", "of the groups drawn"), ("rollout/useful_learned", "of the groups learned from")],
        ),
        _metrics(
            run,
            Figure(
                "expansion",
                "How many times more prompts are drawn than learned from",
                "lines",
                note="The curriculum's moving average of 1 / (1 - share of groups without a signal).",
                y_label="times",
                zero=True,
            ),
            [("curriculum/expansion", "expansion")],
        ),
        _metrics(
            run,
            Figure("length", "Length of the responses", "lines", y_label="tokens", zero=True),
            [("rollout/mean_length", "mean")],
        ),
        _metrics(
            run,
            Figure("truncated", "Share of responses that were cut off", "lines", y_label="share", percent=True),
            [("rollout/truncated", "reached the longest length")],
        ),
        _metrics(
            run,
            Figure(
                "entropy",
                "How undecided the policy is",
                "lines",
                note="Near 0 it always says the same, and nothing is explored.",
                y_label="entropy (nats a token)",
                zero=True,
            ),
            [("learner/entropy", "entropy")],
        ),
        _metrics(
            run,
            Figure("clip", "Share of tokens whose update was clipped", "lines", y_label="share", percent=True),
            [("learner/clip_high", "above 1 + epsilon_high"), ("learner/clip_low", "below 1 - epsilon")],
        ),
        _metrics(
            run,
            Figure(
                "gap",
                "Engine and learner disagree about log-probabilities by",
                "lines",
                note="Should stay small: what is learned from was sampled by the engine.",
                y_label="nats a token",
                log=True,
            ),
            [("learner/logprob_gap_mean", "mean"), ("learner/logprob_gap_max", "largest")],
        ),
        _metrics(
            run,
            Figure("grad_norm", "Length of the gradient before clipping", "lines", y_label="norm", log=True),
            [("learner/grad_norm", "gradient norm")],
        ),
        _metrics(
            run,
            Figure("speed", "Tokens generated a second", "lines", y_label="tokens/s", zero=True),
            [("rollout/tokens_per_s", "all engines")],
        ),
        stage_times(run),
    ]


def reward(run: Run) -> Figure:
    """Training reward, all and by domain."""
    figure = Figure("reward", "Reward in training, by domain", "lines", y_label="mean reward", zero=True)
    figure.note = "Of the prompts that the curriculum chose: harder ones as the policy gets better. See accuracy, too."
    for index, domain in enumerate(run.domains):
        data = run.columns.series(f"reward/{domain}")
        if len(data[0]):
            colour, dashed = domain_colour(index)
            figure.series.append(line(domain, data, colour, dashed=dashed))
    if "reward/mean" in run.columns:
        figure.series.append(line("all", run.columns.series("reward/mean")))
    return figure


def accuracy(run: Run) -> Figure:
    """Held-out accuracy, with the interval that the number of samples leaves."""
    figure = Figure(
        "accuracy",
        "Accuracy on held-out prompts, by domain",
        "lines",
        note="Share of right responses; the band is the 95 % interval for so many responses.",
        y_label="accuracy",
        percent=True,
        smooth=False,
        empty="No evaluation yet. With train.eval_every there is one every so many iterations.",
    )
    for index, domain in enumerate(run.domains):
        rows = [row for row in run.evaluations if row.domain == domain]
        if rows:
            colour, dashed = domain_colour(index)
            series = accuracy_series(rows, domain, colour)
            series.dashed = dashed
            figure.series.append(series)
    if run.evaluations:
        figure.series.append(accuracy_series(run.evaluations, "all", "main"))
    return figure


def accuracy_series(rows: Sequence[EvaluationRow], name: str, colour: str) -> Series:
    """pass@1 by iteration with its interval, over all `rows` of an iteration."""
    right: dict[int, float] = defaultdict(float)
    total: dict[int, float] = defaultdict(float)
    for row in rows:
        total[row.step] += row.num_prompts * row.num_samples
        right[row.step] += row.num_prompts * row.num_samples * row.pass_at_1
    steps = sorted(total)
    rights, totals = np.array([right[step] for step in steps]), np.array([total[step] for step in steps])
    low, high = wilson(rights, totals)
    return Series(name, steps, (rights / totals).tolist(), colour, low=low.tolist(), high=high.tolist(), points=True)


def stage_times(run: Run) -> Figure:
    """Seconds of each stage, stacked; what is left of the whole is `other`."""
    figure = Figure("stages", "Where the time of an iteration goes", "area", y_label="seconds", zero=True, wide=True)
    x, total = run.columns.series("time/total")
    if not len(x):
        return figure
    kept = thin(x, total, MOST_POINTS // 4)
    rest = total.copy()
    for index, stage in enumerate(_STAGES):
        steps, values = run.columns.series(f"time/{stage}")
        if not len(steps):
            continue
        aligned: Floats = np.zeros(len(x))
        place = np.searchsorted(x, steps)
        inside = (place < len(x)) & (x[np.minimum(place, len(x) - 1)] == steps)
        aligned[place[inside]] = values[inside]
        rest -= aligned
        name = STAGES.get(stage, stage)
        figure.series.append(Series(name, x[kept].tolist(), aligned[kept].tolist(), f"d{index % 7}"))
    figure.series.append(Series("other", x[kept].tolist(), np.maximum(rest, 0)[kept].tolist(), "muted"))
    return figure


def metric(run: Run, name: str) -> Figure:
    """Any metric by its name."""
    figure = Figure(f"metric-{name}", name, "lines", y_label=name.rpartition("/")[2])
    return _metrics(run, figure, [(name, name)])


_COMPARED = (
    ("reward/mean", "Reward in training", "mean reward", "zero"),
    ("rollout/useful", "Share of groups that taught something", "share of groups", "percent"),
    ("curriculum/expansion", "How many times more prompts are drawn than learned from", "times", "zero"),
    ("rollout/mean_length", "Length of the responses", "tokens", "zero"),
    ("learner/entropy", "How undecided the policy is", "entropy (nats a token)", "zero"),
    ("learner/grad_norm", "Length of the gradient before clipping", "norm", "log"),
    ("learner/logprob_gap_mean", "Engine and learner disagree about log-probabilities by", "nats a token", "log"),
    ("rollout/tokens_per_s", "Tokens generated a second", "tokens/s", "zero"),
    ("time/total", "Time of an iteration", "seconds", "zero"),
)


AXES = {"step": "iteration", "tokens": "tokens generated (millions)", "hours": "hours"}
"""What runs are compared over: at equal iterations, tokens or time."""


def compare_figures(runs: Sequence[Run], *, grouped: bool, axis: str = "step") -> list[Figure]:
    """The main plots of several runs; `grouped`: the mean and the range of runs whose names differ in a last number."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[seed_group(run.name) if grouped else run.name].append(run)
    accuracies = Figure(
        "accuracy",
        "Accuracy on held-out prompts",
        "lines",
        x_label=AXES[axis],
        y_label="accuracy",
        percent=True,
        smooth=False,
        note="The band is the range over runs of a group, or the 95 % interval of one run.",
    )
    for index, (name, members) in enumerate(groups.items()):
        each = [_moved(run, accuracy_series(run.evaluations, name, "main"), axis) for run in members if run.evaluations]
        if each:
            accuracies.series.append(_joined(name, each, *domain_colour(index)))
    figures = [accuracies]
    for metric_name, title, label, form in _COMPARED:
        figure = Figure(metric_name.replace("/", "-"), title, "lines", x_label=AXES[axis], y_label=label)
        figure.zero, figure.percent, figure.log = form == "zero", form == "percent", form == "log"
        for index, (name, members) in enumerate(groups.items()):
            having = [run for run in members if metric_name in run.columns]
            each = [_moved(run, line(name, run.columns.series(metric_name)), axis) for run in having]
            if each:
                figure.series.append(_joined(name, each, *domain_colour(index)))
        figures.append(figure)
    return figures


def _moved(run: Run, series: Series, axis: str) -> Series:
    """The series over tokens or hours in place of iterations, where the run has recorded them."""
    name, unit = {"tokens": ("progress/generated_tokens", 1e6), "hours": ("progress/seconds", 3600.0)}.get(
        axis, ("", 1.0)
    )
    steps, done = run.columns.series(name)
    if len(steps):
        places = np.array([float(x) for x in series.x])
        series.x = (np.interp(places, np.append(0.0, steps), np.append(0.0, done)) / unit).tolist()
    return series


def seed_group(name: str) -> str:
    """The name without a last number: `rlcs-0` and `rlcs-1` are one group, `rlcs`."""
    stem = name.rstrip("0123456789")
    return stem.rstrip("-_.") or name if stem != name else name


def _joined(name: str, each: Sequence[Series], colour: str, dashed: bool) -> Series:
    """One line; of several, the mean at the iterations that all have, and the range."""
    if len(each) == 1:
        only = each[0]
        return Series(name, only.x, only.y, colour, only.low, only.high, dashed, only.points)
    xs = [np.array([float(x) for x in series.x]) for series in each]
    ys = [np.array([np.nan if y is None else y for y in series.y], dtype=np.float64) for series in each]
    if each[0].points and len({len(x) for x in xs}) == 1:  # the k-th evaluation of each, wherever it was made
        shared, table = np.mean(xs, axis=0), np.array(ys)
    else:
        first, last = max(x[0] for x in xs), min(x[-1] for x in xs)
        shared = np.linspace(first, last, min(400, max(len(x) for x in xs)))
        table = np.array([np.interp(shared, x, y) for x, y in zip(xs, ys, strict=True)])
    label = f"{name} (mean of {len(each)} runs)"
    return Series(
        label,
        shared.tolist(),
        table.mean(axis=0).tolist(),
        colour,
        table.min(axis=0).tolist(),
        table.max(axis=0).tolist(),
        dashed,
        each[0].points,
    )


def _metrics(run: Run, figure: Figure, named: Sequence[tuple[str, str]]) -> Figure:
    colours = ("main", "second", "muted")
    for (name, label), colour in zip(named, colours, strict=False):
        if name in run.columns:
            figure.series.append(line(label, run.columns.series(name), colour))
    return figure
