"""Simulated learners: datasets and policies of item-response theory, to try curricula on without a model.

Prompt i of domain d is answered rightly with probability

    s_i = sigmoid(slope_i (ability_d + skill_i + practice_i - difficulty_i))

and rewarded with probability `guess + (1 - guess) s_i`, then flipped by a noisy verifier. One iteration updates from
the groups that the curriculum drew: a response teaches by the covariance of its reward with being right within its
group, `(r - mean r)(c - mean c)`, which is GRPO's gradient in this world and p(1 - p)(G - 1) / G on average for a true
verifier; domains learn from each other by `transfer`, fall back by `forgetting`, and a prompt that was trained on
becomes a little easier itself, without anybody gaining by that (`practice`). A learner that a sampler's model does not
describe (slopes, hidden skills, guesses) is part of the scenarios on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.base import UNGRADED, PromptTable
from rlcs.curricula.quadrature import Floats, sigmoid
from rlcs.types import NUM_TIERS

Rows = NDArray[np.int64]

_HELD_OUT = 4000


@dataclass(frozen=True, slots=True)
class Scenario:
    """A dataset and a learner."""

    name: str
    num_prompts: int = 20_000
    domain_sizes: tuple[float, ...] = (1, 1, 1, 1, 1)
    """Relative number of prompts of each domain."""
    domain_names: tuple[str, ...] = ()
    """Names of the domains; domain_0 and so on if empty."""
    start: float = -0.5
    """Mean ability at the start, in logits; difficulties have mean 0."""
    start_spread: float = 0.7
    """Standard deviation of the domains' starting abilities."""
    difficulty_spread: float = 2.6
    """Standard deviation of difficulties within a domain, in logits."""
    slope: float = 1.0
    """Typical slope; with 10 a prompt's responses are nearly always all right or all wrong."""
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

ALL_ALIKE = Scenario("all alike", slope=10.0)
"""A policy that answers each prompt nearly always alike, as small ones do that were trained on few tasks: hardly a tenth of
the groups of a uniform draw are useful."""


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
        slope = self.scenario.slope * np.exp(self.scenario.slope_spread * rng.standard_normal(count))
        return domains, skill, slope, self.scenario.difficulty_spread * rng.standard_normal(count)

    def _grade(self, rng: np.random.Generator) -> PromptTable:
        scenario = self.scenario
        graded = self._difficulty + scenario.label_noise * rng.standard_normal(len(self._difficulty))
        edges = np.quantile(graded, np.arange(1, NUM_TIERS) / NUM_TIERS)
        tiers = np.searchsorted(edges, graded)
        tiers[rng.random(len(tiers)) < scenario.ungraded] = UNGRADED
        names = list(scenario.domain_names) or [f"domain_{d}" for d in range(len(self.mix))]
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


def scenario_named(name: str) -> Scenario:
    """A scenario by name. Raises KeyError with the names that there are."""
    for scenario in (*SCENARIOS, ALL_ALIKE):
        if scenario.name == name:
            return replace(scenario)
    raise KeyError(f"no scenario {name!r}; there are {', '.join(s.name for s in (*SCENARIOS, ALL_ALIKE))}")
