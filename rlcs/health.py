"""Training health: watches over the metrics of a run that say when it goes wrong, and since when.

Each watch compares the mean over the last `health.window` iterations with a limit, with the start of the run or with the
best window so far. A watch that has spoken is silent until its cause has gone, or until a whole window later.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlcs.config_health import WATCHES, Action, HealthConfig
from rlcs.json_text import finite

_FINITE = ("reward/mean", "learner/loss", "learner/grad_norm", "learner/entropy", "learner/logprob_gap_mean")
_REWARD, _ENTROPY, _LENGTH, _GAP = (
    "reward/mean",
    "learner/entropy",
    "rollout/mean_length",
    "learner/logprob_gap_mean",
)
_SKIPPED = "learner/skipped_steps"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a watch has found."""

    watch: str
    """Its setting of `health`."""
    action: Action
    text: str
    """One line for a person: what, with figures."""
    good_step: int
    """The last iteration before what the watch looked at: checkpoints up to it are good."""


class HealthWatch:
    """Use: `observe` once an iteration; `replay` after a run was resumed or rolled back."""

    _best_reward: float
    _skipped: float | None

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._forget()

    def replay(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Forget all, then see the metrics of the iterations that are still part of the run, oldest first."""
        self._forget()
        for row in rows:
            self.observe(int(row["step"]), row)

    def observe(self, step: int, metrics: Mapping[str, float]) -> list[Finding]:
        """What is wrong as of iteration `step`, given its metrics; the most serious action first.

        A metric that is missing is not watched.
        """
        for name, values in self._recent.items():
            value = finite(metrics.get(name))
            if value is not None:
                values.append(value)
        found = dict(self._look(step, metrics))
        for name, values in self._recent.items():
            if len(values) == self._config.window and name not in self._start:
                self._start[name] = _mean(values)
        if len(self._recent[_REWARD]) == self._config.window:
            self._best_reward = max(self._best_reward, _mean(self._recent[_REWARD]))
        findings = []
        for watch in WATCHES:
            action: Action = getattr(self._config, watch)
            if watch not in found or action == "off":
                self._spoken.pop(watch, None)
            elif step >= self._spoken.get(watch, -math.inf) + self._config.window:
                self._spoken[watch] = step
                text, span = found[watch]
                findings.append(Finding(watch, action, text, step - span))
        return sorted(findings, key=lambda finding: ("roll_back", "stop", "warn").index(finding.action))

    def _forget(self) -> None:
        window = self._config.window
        self._recent: dict[str, deque[float]] = {
            name: deque(maxlen=window) for name in (_REWARD, _ENTROPY, _LENGTH, _GAP)
        }
        self._start: dict[str, float] = {}  # the mean of the first window
        self._best_reward = 0.0
        self._skipped = None
        self._spoken: dict[str, int] = {}  # by watch: the iteration in which it last spoke

    def _look(self, step: int, metrics: Mapping[str, float]) -> Iterator[tuple[str, tuple[str, int]]]:
        """Watches that have a cause to speak: their text, and how many iterations they looked at."""
        config, window = self._config, self._config.window
        bad = [name for name in _FINITE if name in metrics and finite(metrics[name]) is None]  # null where it was not
        skipped = finite(metrics.get(_SKIPPED))
        new = 0 if skipped is None or self._skipped is None else skipped - self._skipped
        self._skipped = self._skipped if skipped is None else skipped
        if bad:
            yield "non_finite", (f"not finite: {', '.join(bad)}", 1)
        elif new > 0:
            yield "non_finite", (f"{new:.0f} optimizer steps skipped, since their gradients were not finite", 1)
        means = {name: _mean(values) for name, values in self._recent.items() if len(values) == window}
        reward = means.get(_REWARD)
        if reward is not None and reward < config.reward_share * self._best_reward:
            yield (
                "reward_collapse",
                (f"the mean reward of {window} iterations is {reward:.3g}; it was {self._best_reward:.3g}", window),
            )
        for watch, name, what in (
            ("entropy_collapse", _ENTROPY, "entropy"),
            ("runaway_length", _LENGTH, "the mean length of responses"),
        ):
            if name not in means or name not in self._start:
                continue
            now, start = means[name], self._start[name]
            is_low = watch == "entropy_collapse"
            if now < config.entropy_share * start if is_low else now > config.length_growth * start:
                yield watch, (f"{what} went from {start:.3g} at the start to {now:.3g}", window)
        if _GAP in means and means[_GAP] > config.max_logprob_gap:
            text = f"engine and learner differ by {means[_GAP]:.3g} in a token's log-probability, on average"
            yield "logprob_gap", (text, window)


def _mean(values: Sequence[float] | deque[float]) -> float:
    return sum(values) / len(values)
