"""Try a curriculum on a simulated learner, in seconds and without a model.

What counts is the number of responses until the learner's held-out accuracy reaches the target:
`simulate(...).rollouts`. The learners are described in `rlcs.curricula.simulated_learner`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.adaptive import AdaptivePlan, allocate_responses
from rlcs.curricula.base import Curriculum, Observation, PromptTable, check_rows
from rlcs.curricula.calibration import calibration_error
from rlcs.curricula.leftovers import groups_wanted, leftovers
from rlcs.curricula.loading import load_curriculum
from rlcs.curricula.quadrature import Floats
from rlcs.curricula.simulated_learner import Learner, Rows, Scenario
from rlcs.errors import ConfigError, RLCSError

ORACLE = "oracle"
"""The kind that knows every pass rate."""
_MAX_REDRAWS = 10


class Oracle(Curriculum):
    """Knows every pass rate: draws the prompts that teach most, each domain to its share. The bound to compare with."""

    learner: Learner

    def draw(self, n: int) -> Rows:
        """The rows nearest to half right."""
        p = self.learner.abilities(np.arange(len(self.table)))
        order = np.argsort(np.abs(p - 0.5))
        per_domain = np.floor(self.domain_mix * n + self.rng.random()).astype(int)
        rows = [order[self.table.domains[order] == d][:count] for d, count in enumerate(per_domain)]
        drawn: Rows = np.concatenate(rows).astype(np.int64)
        return drawn

    def observe(self, observation: Observation) -> None:
        """It has nothing to learn."""


_Groups = tuple[Rows, Floats, Floats, NDArray[np.bool_], Rows]
"""Rows, signals, pass rates, degenerate marks and numbers of responses of groups."""


def _no_groups() -> _Groups:
    rows = np.zeros(0, dtype=np.int64)
    return rows, np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool), rows


@dataclass(slots=True)
class Simulation:
    """What came of it."""

    reached: bool
    """Whether the target accuracy was reached."""
    rollouts: int
    """Responses generated."""
    steps: int
    """Updates."""
    tokens: int
    """Tokens generated: 100 a response, 200 more for one that is wrong."""
    useful: float
    """Share of groups with a signal, after the first 20 iterations (all if there were no more)."""
    calibration_error: float
    """Expected calibration error of predicted pass rates, 10 bins, over all groups; NaN without predictions."""
    brier: float
    """Mean squared difference of predicted and observed pass rates; NaN without predictions."""
    distinct: float
    """Distinct prompts drawn, as a share of the prompts drawn."""
    accuracy: list[float] = field(default_factory=list)
    """Held-out accuracy after each iteration."""
    drawn: list[Rows] = field(default_factory=list)
    """The rows of each iteration."""


def simulate(
    kind: str | Callable[[PromptTable, CurriculumConfig, int], Curriculum],
    scenario: Scenario,
    *,
    config: CurriculumConfig | None = None,
    batch_size: int = 64,
    group_size: int = 8,
    seed: int = 0,
    max_steps: int = 1000,
    adaptive: AdaptivePlan | None = None,
) -> Simulation:
    """Train a simulated learner with a curriculum until it reaches the scenario's target.

    Args:
        kind: name of a curriculum in any of the four forms, `oracle`, or a class.
        adaptive: generate a group's responses in two requests, the second where it teaches most (needs predictions).

    Raises:
        ConfigError: there is no such curriculum.
    """
    config = config or CurriculumConfig()
    learner = Learner(scenario, seed)
    if kind == ORACLE:
        curriculum: Curriculum = Oracle(learner.table, config, seed)
        curriculum.learner = learner  # type: ignore[attr-defined]
    elif isinstance(kind, str):
        curriculum = load_curriculum(kind, learner.table, config, seed)
    else:
        curriculum = kind(learner.table, config, seed)
    run = _Run(learner, curriculum, batch_size, group_size, adaptive)
    while not learner.reached and run.steps < max_steps:
        try:
            run.step()
        except RLCSError:
            raise
        except Exception as error:
            # Somebody's curriculum may raise anything; ours raises nothing here.
            raise ConfigError(
                f"curriculum {kind!r} failed on scenario {scenario.name!r}, iteration {run.steps + 1}: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
    return run.result()


class _Run:
    """The loop of `simulate`, with what it counts."""

    def __init__(
        self, learner: Learner, curriculum: Curriculum, batch_size: int, group_size: int, adaptive: AdaptivePlan | None
    ) -> None:
        self.learner, self.curriculum = learner, curriculum
        self.batch_size, self.group_size, self.adaptive = batch_size, group_size, adaptive
        self.steps = self.rollouts = self.tokens = 0
        self.useful: list[float] = []
        self.predicted: list[Floats] = []
        self.observed: list[Floats] = []
        self.accuracy: list[float] = []
        self.drawn: list[Rows] = []
        self._left = _no_groups()
        self._ages = np.zeros(0, dtype=np.int64)  # updates since the leftovers were generated

    def step(self) -> None:
        """One iteration: draw (and redraw), respond, observe, select, learn."""
        num_prompts = self.curriculum.num_prompts(groups_wanted(self.batch_size, len(self._ages)))
        if self.adaptive:
            num_prompts = max(1, round(self.batch_size * self.adaptive.prompts))
        parts = [self._groups(self.curriculum.draw(num_prompts))]
        for _ in range(_MAX_REDRAWS):
            more = self.curriculum.redraw(
                self.batch_size, len(self._ages) + sum(int((~part[3]).sum()) for part in parts)
            )
            if more == 0:
                break
            parts.append(self._groups(self.curriculum.draw(more)))
        rows, signals, pass_rates, degenerate, counts = (np.concatenate(x) for x in zip(*parts, strict=True))
        predicted = self.curriculum.predict(rows)
        if predicted is not None:
            self.predicted.append(predicted)
            self.observed.append(pass_rates)
        self.curriculum.observe(Observation(rows, pass_rates, degenerate, counts))
        self._learn((rows, signals, pass_rates, degenerate, counts))
        self.steps += 1
        self.useful.append(1 - float(degenerate.mean()))
        self.drawn.append(rows)
        self.accuracy.append(self.learner.accuracy)

    def _learn(self, new: _Groups) -> None:
        """Select, learn, and keep what is left over."""
        rows, signals, pass_rates, degenerate, counts = (np.concatenate(x) for x in zip(self._left, new, strict=True))
        ages = np.concatenate([self._ages, np.zeros(len(new[0]), dtype=np.int64)])
        if self.adaptive:
            learned = np.flatnonzero(~degenerate)
        else:
            learned = self.curriculum.select(pass_rates, degenerate, self.batch_size)
        self.learner.learn(rows[learned], signals[learned], self.batch_size * self.group_size)
        max_age = self.curriculum.config.leftover_age
        kept = leftovers(pass_rates, degenerate, ages, learned, max_age=max_age, most=self.batch_size)
        self._left = rows[kept], signals[kept], pass_rates[kept], degenerate[kept], counts[kept]
        self._ages = ages[kept] + 1

    def _groups(self, rows: Rows) -> _Groups:
        """Rows, signals, pass rates, degenerate marks and numbers of responses of the groups of `rows`."""
        rows = np.asarray(rows)
        if rows.ndim != 1 or len(rows) == 0 or not np.issubdtype(rows.dtype, np.integer):
            raise ValueError(f"draw gave {rows.dtype} of shape {rows.shape}; give row numbers, at least one")
        check_rows(rows, len(self.curriculum.table), "draw")
        if self.adaptive:
            return self._adaptive_groups(rows)
        right, rewarded = self.learner.respond(rows, self.group_size)
        return self._measure(rows, right, rewarded, np.ones_like(right))

    def _adaptive_groups(self, rows: Rows) -> _Groups:
        assert self.adaptive is not None
        budget = self.batch_size * self.group_size
        first = max(1, round(self.adaptive.first * self.group_size))
        largest = max(first, round(self.adaptive.most * self.group_size))
        right, rewarded = self.learner.respond(rows, largest)
        logits = self.curriculum.predict_logits(rows)
        if logits is None:
            raise ConfigError("adaptive responses need a curriculum that predicts pass rates: use posterior")
        extra = allocate_responses(
            *logits, rewarded[:, :first].sum(axis=1), first, budget - first * len(rows), largest - first
        )
        return self._measure(rows, right, rewarded, np.arange(largest) < first + extra[:, None])

    def _measure(
        self, rows: Rows, right: NDArray[np.bool_], rewarded: NDArray[np.bool_], used: NDArray[np.bool_]
    ) -> _Groups:
        counts = used.sum(axis=1)
        self.rollouts += int(counts.sum())
        self.tokens += int(100 * counts.sum() + 200 * (used & ~right).sum())
        rewards = (rewarded & used).sum(axis=1)
        signals = (rewarded & right & used).sum(axis=1) - rewards * (right & used).sum(axis=1) / counts
        return rows, signals, rewards / counts, (rewards == 0) | (rewards == counts), counts

    def result(self) -> Simulation:
        """What was counted."""
        predicted, observed = (np.concatenate(x) if x else np.zeros(0) for x in (self.predicted, self.observed))
        drawn = np.concatenate(self.drawn) if self.drawn else np.zeros(0, dtype=np.int64)
        return Simulation(
            reached=self.learner.reached,
            rollouts=self.rollouts,
            steps=self.steps,
            tokens=self.tokens,
            useful=float(np.mean(self.useful[20:] or self.useful or [np.nan])),
            calibration_error=calibration_error(predicted, observed),
            brier=float(np.mean((predicted - observed) ** 2)) if len(predicted) else float("nan"),
            distinct=len(np.unique(drawn)) / max(len(drawn), 1),
            accuracy=self.accuracy,
            drawn=self.drawn,
        )
