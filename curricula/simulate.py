"""Simulated learners: try a curriculum in seconds, without a model.

Item-response theory: prompt i of domain d is answered rightly with probability

    s_i = sigmoid(slope_i (ability_d + skill_i + practice_i - difficulty_i))

and rewarded with probability `guess + (1 - guess) s_i`, then flipped by a noisy verifier. One iteration updates from the
groups that the curriculum drew: a response teaches by the covariance of its reward with being right within its group,
`(r - mean r)(c - mean c)`, which is GRPO's gradient in this world and p(1 - p)(G - 1) / G on average for a true verifier;
domains learn from each other by `transfer`, fall back by `forgetting`, and a prompt that was trained on becomes a little
easier itself, without anybody gaining by that (`practice`). A learner that a sampler's model does not describe (slopes,
hidden skills, guesses) is part of the scenarios on purpose.

What counts is the number of responses until the held-out accuracy reaches the target: `simulate(...).rollouts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.adaptive import AdaptivePlan, allocate_responses
from rlcs.curricula.base import UNGRADED, Curriculum, Observation, PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.curricula.quadrature import sigmoid
from rlcs.errors import ConfigError
from rlcs.types import NUM_TIERS

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_HELD_OUT = 4000
_MAX_REDRAWS = 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """A dataset and a learner."""

    name: str
    num_prompts: int = 20_000
    domain_sizes: tuple[float, ...] = (1, 1, 1, 1, 1)
    """Relative number of prompts of each domain."""
    start: float = -0.5
    """Mean ability at the start, in logits; difficulties have mean 0."""
    start_spread: float = 0.7
    """Standard deviation of the domains' starting abilities."""
    difficulty_spread: float = 2.6
    """Standard deviation of difficulties within a domain, in logits."""
    slope_spread: float = 0.2
    """Standard deviation of the logarithm of the prompts' slopes; samplers take all slopes for 1."""
    skills: int = 1
    """Hidden skills of a domain."""
    skill_spread: float = 0.0
    """Standard deviation of the skills' offsets, in logits."""
    label_noise: float = 1.0
    """Error of the offline grading, in logits, before it is cut into tiers at the quantiles."""
    ungraded: float = 0.0
    """Share of prompts without an offline tier."""
    guess: float = 0.0
    """Chance of a right answer by luck, in every other domain."""
    verifier_error: float = 0.0
    """Chance that the verifier says the opposite."""
    transfer: float = 0.3
    """Share of what is learned that goes to all domains."""
    forgetting: float = 0.0
    """Share of what was learned that is lost at each iteration."""
    practice: float = 0.05
    """Logits that a prompt becomes easier by a group that is trained on."""
    learning_rate: float = 0.12
    """Logits of ability for a signal of 1 a response."""
    gain: float = 0.18
    """The target: held-out accuracy above that of the start."""
    broken: tuple[int, int] = (0, 0)
    """Iterations [first, last) in which the verifier calls everything wrong."""
    relapse: int = 0
    """Iteration after which all that was learned is lost once (a rollback); 0: never."""


SCENARIOS = (
    Scenario("base"),
    Scenario("hard start", start=-2.2),
    Scenario("mostly mastered", start=2.2, gain=0.07),
    Scenario("noisy verifier", verifier_error=0.05),
    Scenario("no transfer, forgetting", transfer=0.0, forgetting=0.002),
    Scenario("wide spread", difficulty_spread=5.0, gain=0.11),
    Scenario("2,000 prompts", num_prompts=2000),
    Scenario("guesses, ungraded", guess=0.25, ungraded=0.3),
    Scenario("hidden skills", skills=4, skill_spread=1.0, slope_spread=0.4, domain_sizes=(8, 4, 2, 1, 1)),
)
"""Those of the design, and two that no sampler's model describes."""


class Learner:
    """The simulated policy of a scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        """Make the dataset and the policy at its start."""
        rng = np.random.default_rng([seed, 1])
        self.scenario = scenario
        self._rng = np.random.default_rng([seed, 2])
        sizes = np.asarray(scenario.domain_sizes, dtype=np.float64)
        self.mix = sizes / sizes.sum()  # [D]
        self._start = scenario.start + scenario.start_spread * rng.standard_normal(len(sizes))
        self._learned = np.zeros((len(sizes), scenario.skills))  # [D, skills]
        self._offsets = scenario.skill_spread * rng.standard_normal((len(sizes), scenario.skills))
        self.domains, self._skill, self._slope, self._difficulty = self._prompts(scenario.num_prompts, rng)
        self._held_out = self._prompts(_HELD_OUT, rng)
        self._practice = np.zeros(scenario.num_prompts)
        self._guess = np.where(np.arange(len(sizes)) % 2 == 1, scenario.guess, 0.0)  # [D]
        self.table = self._grade(rng)
        self.iteration = 0
        self.start_accuracy = self.accuracy

    def _prompts(self, count: int, rng: np.random.Generator) -> tuple[Rows, Rows, Floats, Floats]:
        domains = np.sort(rng.choice(len(self.mix), size=count, p=self.mix))
        skill = rng.integers(self.scenario.skills, size=count)
        slope = np.exp(self.scenario.slope_spread * rng.standard_normal(count))
        return domains, skill, slope, self.scenario.difficulty_spread * rng.standard_normal(count)

    def _grade(self, rng: np.random.Generator) -> PromptTable:
        scenario = self.scenario
        graded = self._difficulty + scenario.label_noise * rng.standard_normal(len(self._difficulty))
        edges = np.quantile(graded, np.arange(1, NUM_TIERS) / NUM_TIERS)
        tiers = np.searchsorted(edges, graded)
        tiers[rng.random(len(tiers)) < scenario.ungraded] = UNGRADED
        names = [f"domain_{d}" for d in range(len(self.mix))]
        return PromptTable(tiers.astype(np.int8), self.domains.astype(np.int16), names)

    def _ability(self, domains: Rows, skill: Rows) -> Floats:
        return np.asarray(self._start[domains] + self._offsets[domains, skill] + self._learned[domains, skill])

    def abilities(self, rows: Rows) -> Floats:
        """[n] true probability of a right answer, luck aside."""
        logits = self._ability(self.domains[rows], self._skill[rows]) + self._practice[rows] - self._difficulty[rows]
        return sigmoid(self._slope[rows] * logits)

    def pass_rates(self, rows: Rows) -> Floats:
        """[n] true probability of a reward."""
        error = self.scenario.verifier_error
        guess = self._guess[self.domains[rows]]
        return np.asarray(error + (1 - 2 * error) * (guess + (1 - guess) * self.abilities(rows)))

    @property
    def accuracy(self) -> float:
        """Held-out accuracy, luck aside."""
        domains, skill, slope, difficulty = self._held_out
        return float(sigmoid(slope * (self._ability(domains, skill) - difficulty)).mean())

    @property
    def reached(self) -> bool:
        """Whether the target accuracy is reached."""
        return self.accuracy >= self.start_accuracy + self.scenario.gain

    def respond(self, rows: Rows, count: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """[n, count] whether responses are right, and whether they are rewarded."""
        right = self._rng.random((len(rows), count)) < self.abilities(rows)[:, None]
        lucky = self._rng.random((len(rows), count)) < self._guess[self.domains[rows]][:, None]
        flipped = self._rng.random((len(rows), count)) < self.scenario.verifier_error
        rewarded = (right | lucky) ^ flipped
        first, last = self.scenario.broken
        if first <= self.iteration < last:
            rewarded[:] = False
        return right, rewarded

    def learn(self, rows: Rows, signals: Floats, num_responses: int) -> None:
        """Update from groups of prompts `rows` [n] with summed covariances `signals` [n].

        `num_responses` is the size that a batch is meant to have: the gradient is averaged over it.
        """
        scenario = self.scenario
        learned = np.zeros_like(self._learned)
        np.add.at(learned, (self.domains[rows], self._skill[rows]), signals)
        learned *= scenario.learning_rate / num_responses
        own = learned / (self.mix[:, None] / scenario.skills)
        # Within a domain half of what a skill learns is common to its skills; with one skill this changes nothing.
        own = 0.5 * own + 0.5 * own.mean(axis=1, keepdims=True)
        self._learned += (1 - scenario.transfer) * own + scenario.transfer * learned.sum()
        self._learned *= 1 - scenario.forgetting
        self._practice[np.unique(rows)] += scenario.practice
        self.iteration += 1
        if scenario.relapse == self.iteration:
            self._learned[:] = 0


class Oracle(Curriculum):
    """Knows every pass rate: draws the prompts that teach most, each domain to its share. The bound to compare with."""

    learner: Learner

    def draw(self, n: int) -> Rows:
        """The rows nearest to half right."""
        p = self.learner.abilities(np.arange(len(self.table)))
        order = np.argsort(np.abs(p - 0.5))
        per_domain = np.floor(self.domain_mix * n + self.rng.random()).astype(int)
        rows = [order[self.table.domains[order] == d][:count] for d, count in enumerate(per_domain)]
        return np.concatenate(rows).astype(np.int64)

    def observe(self, observation: Observation) -> None:
        """It has nothing to learn."""


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
    if kind == "oracle":
        curriculum: Curriculum = Oracle(learner.table, config, seed)
        curriculum.learner = learner  # type: ignore[attr-defined]
    elif isinstance(kind, str):
        curriculum = load_curriculum(kind, learner.table, config, seed)
    else:
        curriculum = kind(learner.table, config, seed)
    run = _Run(learner, curriculum, batch_size, group_size, adaptive)
    while not learner.reached and run.steps < max_steps:
        run.step()
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

    def step(self) -> None:
        """One iteration: draw (and redraw), respond, observe, select, learn."""
        num_prompts = self.curriculum.num_prompts(self.batch_size)
        if self.adaptive:
            num_prompts = max(1, round(self.batch_size * self.adaptive.prompts))
        parts = [self._groups(self.curriculum.draw(num_prompts))]
        for _ in range(_MAX_REDRAWS):
            more = self.curriculum.redraw(self.batch_size, sum(int((~part[3]).sum()) for part in parts))
            if more == 0:
                break
            parts.append(self._groups(self.curriculum.draw(more)))
        rows, signals, pass_rates, degenerate, counts = (np.concatenate(x) for x in zip(*parts, strict=True))
        predicted = self.curriculum.predict(rows)
        if predicted is not None:
            self.predicted.append(predicted)
            self.observed.append(pass_rates)
        self.curriculum.observe(Observation(rows, pass_rates, degenerate, counts))
        if self.adaptive:
            kept = np.flatnonzero(~degenerate)
        else:
            kept = self.curriculum.select(pass_rates, degenerate, self.batch_size)
        self.learner.learn(rows[kept], signals[kept], self.batch_size * self.group_size)
        self.steps += 1
        self.useful.append(1 - float(degenerate.mean()))
        self.drawn.append(rows)
        self.accuracy.append(self.learner.accuracy)

    def _groups(self, rows: Rows) -> tuple[Rows, Floats, Floats, NDArray[np.bool_], Rows]:
        """Rows, signals, pass rates, degenerate marks and numbers of responses of the groups of `rows`."""
        if self.adaptive:
            return self._adaptive_groups(rows)
        right, rewarded = self.learner.respond(rows, self.group_size)
        return self._measure(rows, right, rewarded, np.ones_like(right))

    def _adaptive_groups(self, rows: Rows) -> tuple[Rows, Floats, Floats, NDArray[np.bool_], Rows]:
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
    ) -> tuple[Rows, Floats, Floats, NDArray[np.bool_], Rows]:
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


def calibration_error(predicted: Floats, observed: Floats, num_bins: int = 10) -> float:
    """Expected calibration error: mean |predicted - observed| of equal-width bins, weighted by size; NaN if empty."""
    if len(predicted) == 0:
        return float("nan")
    bins = np.minimum((predicted * num_bins).astype(np.int64), num_bins - 1)
    gaps = np.bincount(bins, predicted - observed, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(predicted))


def scenario_named(name: str) -> Scenario:
    """A scenario by name. Raises KeyError with the names that there are."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return replace(scenario)
    raise KeyError(f"no scenario {name!r}; there are {', '.join(s.name for s in SCENARIOS)}")
