"""What a person should look at: signs of reward hacking, of a sick learner, of a broken verifier.

Each limit is a setting of `logging.alarms`. An alarm is about the newest iterations; it goes when its cause does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rlcs.config_logging import AlarmConfig
from rlcs.dashboard.columns import Columns
from rlcs.dashboard.responses import Sample, newest, parts_of
from rlcs.dashboard.store import Run
from rlcs.runlog import mean_over_prompts


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something to look at."""

    title: str
    text: str
    setting: str
    """The limit that was passed, as KEY=VALUE."""


def find_alarms(run: Run, sample: Sample | None = None) -> list[Alarm]:
    """The alarms of a run as of now; `sample` saves reading the newest responses again."""
    limits = run.config.logging.alarms if run.config else AlarmConfig()
    if not run.columns.last_step:
        return []
    found = [*_numbers(run, limits), *_held_out(run, limits)]
    sample = newest(run, limits.window) if sample is None else sample
    if sample.rows:
        found += [*_texts(sample, limits), *_rewards(sample, limits), *_length(run, limits)]
    return found


def _alarm(title: str, text: str, limits: AlarmConfig, name: str) -> Alarm:
    return Alarm(title, text, f"logging.alarms.{name}={getattr(limits, name):g}")


def _numbers(run: Run, limits: AlarmConfig) -> Iterator[Alarm]:
    """Of the metrics: not finite, useful share, gap, entropy, gradient, failures of scoring."""
    columns = run.columns
    bad = []
    for name in columns.names:
        values = columns.series(name)[1][-limits.window :]
        if not np.isfinite(values).all():
            bad.append(name)
    if bad:
        names = ", ".join(bad[:4]) + (" and others" if len(bad) > 4 else "")
        yield Alarm("Values that are not finite.", f"In the last {limits.window} iterations: {names}.", "")
    useful = columns.last("rollout/useful", limits.window)
    if useful is not None and useful < limits.useful_share:
        text = f"{useful:.0%} of the groups drawn in the last {limits.window} iterations had right and wrong responses."
        yield _alarm("Few groups teach anything.", text, limits, "useful_share")
    gap = columns.last("learner/logprob_gap_mean", 3)
    if gap is not None and gap > limits.logprob_gap:
        text = f"Their log-probabilities differ by {gap:.3g} a token on average."
        yield _alarm("Engine and learner disagree.", text, limits, "logprob_gap")
    _, entropy = columns.series("learner/entropy")
    if len(entropy) > 2:
        start, now = float(np.nanmean(entropy[:3])), float(np.nanmean(entropy[-3:]))
        if now < limits.entropy_share * start:
            text = f"Entropy fell from {start:.3g} to {now:.3g}: the policy explores no more."
            yield _alarm("The policy is nearly certain.", text, limits, "entropy_share")
    _, norm = columns.series("learner/grad_norm")
    norm = norm[np.isfinite(norm)]
    if len(norm) >= 5 and norm[-1] > limits.grad_norm_ratio * float(np.median(norm)):
        text = f"The gradient norm is {norm[-1]:.3g}, its median {float(np.median(norm)):.3g}."
        yield _alarm("The gradient jumped.", text, limits, "grad_norm_ratio")
    failing = list(_failing(columns, limits))
    yield from failing
    failures = (
        0.0
        if failing
        else sum(columns.last(f"scoring/{name}", limits.window) or 0.0 for name in ("timeouts", "crashes"))
    )
    responses = columns.last("rollout/responses", limits.window)
    if responses and failures / responses > limits.failure_share:
        text = f"{failures / responses:.1%} of the responses of the last {limits.window} iterations timed out or crashed it."
        yield _alarm("A reward fails.", text, limits, "failure_share")


def _failing(columns: Columns, limits: AlarmConfig) -> Iterator[Alarm]:
    """Verifiers that fail on too many of the responses that they are handed."""
    for name in columns.below("scoring/timeouts"):
        late, errors, scored = (
            columns.last(f"scoring/{what}/{name}", limits.window) or 0.0 for what in ("timeouts", "errors", "samples")
        )
        if scored and (late + errors) / scored > limits.failure_share:
            text = (
                f"“{name}” timed out on {late / scored:.1%} and failed on {errors / scored:.1%} of its responses "
                f"in the last {limits.window} iterations."
            )
            yield _alarm("A reward fails.", text, limits, "failure_share")


def _held_out(run: Run, limits: AlarmConfig) -> Iterator[Alarm]:
    """Training reward rose, held-out accuracy did not."""
    steps = sorted({row.step for row in run.evaluations})
    x, reward = run.columns.series("reward/mean")
    if len(steps) < 2 or len(x) < 2:
        return
    after = steps[-1]
    before = max((step for step in steps if step <= after - limits.window), default=None)
    if before is None:
        return

    def accuracy(step: int) -> float:
        return mean_over_prompts([row for row in run.evaluations if row.step == step], "pass_at_1")

    def trained(step: int) -> float:
        near = np.argsort(np.abs(x - step), kind="stable")[:5]
        return float(np.nanmean(reward[near]))

    gain, held_out = trained(after) - trained(before), accuracy(after) - accuracy(before)
    if gain > limits.reward_gain and held_out <= 0:
        text = (
            f"Between iterations {before} and {after} the reward rose by {gain:.2f} and held-out accuracy by "
            f"{100 * held_out:.1f} points: look for a way to please the reward without solving the task."
        )
        yield _alarm("The reward rises, accuracy does not.", text, limits, "reward_gain")


def _texts(sample: Sample, limits: AlarmConfig) -> Iterator[Alarm]:
    """One answer takes over, repetition, mixed languages."""
    where = f"iterations {sample.first} to {sample.last}"
    for domain, answers in sorted(sample.answers.items()):
        total = sum(answers.values())
        answer, count = answers.most_common(1)[0]
        if total >= 50 and len(answers) > 1 and count / total > limits.answer_share:
            shown = f"“{answer}”" if answer else "no answer at all"
            text = f"{count / total:.0%} of the responses to “{domain}” in {where} give {shown}."
            yield _alarm("One answer takes over.", text, limits, "answer_share")
    for share, what in ((sample.repetitive, "repeat themselves"), (sample.mixed, "mix languages")):
        if share > limits.repetition_share:
            text = f"{share:.0%} of the responses in {where} {what}."
            yield _alarm("The texts degenerate.", text, limits, "repetition_share")


def _rewards(sample: Sample, limits: AlarmConfig) -> Iterator[Alarm]:
    """A reward that gives one value whatever is said."""
    recent = [row for row in sample.rows if row["step"] > sample.last - limits.constant_iterations]
    if len({row["step"] for row in recent}) < limits.constant_iterations or len(recent) < 50:
        return
    values: dict[tuple[str, str], set[float]] = {}
    counts: dict[tuple[str, str], int] = {}
    for row in recent:
        parts = parts_of(row["parts"])
        for name, value in parts.items():
            if name.rpartition(".")[0] in parts:
                continue  # a part of a reward may well be the same everywhere
            values.setdefault((row["domain"], name), set()).add(round(value, 6))
            counts[row["domain"], name] = counts.get((row["domain"], name), 0) + 1
    for (domain, name), seen in sorted(values.items()):
        if len(seen) == 1 and counts[domain, name] >= 20:
            text = f"“{name}” gave {next(iter(seen)):g} to all {counts[domain, name]} responses of “{domain}”."
            yield _alarm("A reward does not vary.", text, limits, "constant_iterations")


def _length(run: Run, limits: AlarmConfig) -> Iterator[Alarm]:
    """The length of responses doubled."""
    x, length = run.columns.series("rollout/mean_length")
    if len(x) <= limits.window:
        return
    before = float(np.nanmedian(length[-limits.window - 3 : -limits.window + 2]))
    now = float(np.nanmedian(length[-3:]))
    if before > 0 and now > limits.length_growth * before:
        text = f"From {before:.0f} to {now:.0f} tokens within {limits.window} iterations."
        yield _alarm("Responses grow long.", text, limits, "length_growth")
