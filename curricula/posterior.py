"""The pass rate of every prompt, seen or not, under the present policy.

Estimators have one interface. They keep their prompts in *cells*, so that nothing is done for all N prompts after the
start: a cell is a belief about a logit, and a prompt changes cell only when it is rolled out. The simple alternative to
the one here is in `rlcs.curricula.discounted_beta`.

`ItemResponse` is a Rasch filter: pass rate = floor + (1 - floor) sigmoid(ability[domain] - difficulty[prompt]), with
Gaussian beliefs.
- ability[d]: one scoring step an iteration on the group likelihoods of its prompts, each damped by its own uncertainty,
  after drift variance is added. It carries progress to every prompt of the domain at once, and notices forgetting.
- label[d, t]: mean and spread of the difficulty of the prompts with offline tier t (or none) of domain d; the prior of
  those not rolled out yet. Learned from first rollouts: a label means what it has turned out to mean.
- floor[d], the chance of a reward by luck: set (`guess_rate`), or fitted while the run goes on.
- difficulty[i]: mean and variance, moment-matched when seen; drift is added for the iterations since, and what a
  prompt turns out to change by from one of its rollouts to the next (`rlcs.curricula.learned_variance`).
A change that drift does not explain (a rollback, a bad update) widens the belief about the ability first, so that it is
followed at once. When all groups of an iteration are wrong, or all right, against all expectation (a verifier that
broke), abilities move and difficulties stay: what was known of the prompts is there when the verifier is mended.

Shapes: N prompts, D domains, L offline labels (the tiers, and ungraded), K cells, n prompts of an observation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import PromptTable
from rlcs.curricula.learned_variance import LearnedVariance
from rlcs.curricula.quadrature import Floats, Ints, expect, sigmoid, update
from rlcs.curricula.state import PromptState
from rlcs.curricula.tally import LABELS, labels_of
from rlcs.errors import CheckpointError
from rlcs.types import NUM_TIERS

Rows = NDArray[np.int64]


class Estimator(ABC):
    """Beliefs about pass rates, by cell and by row."""

    num_cells: int
    """K, cells of all domains together; those of a domain are neighbours."""

    def __init__(self, table: PromptTable, config: CurriculumConfig, state: PromptState) -> None:
        """Start without history; `state` holds what is kept a prompt."""
        self._table = table
        self._config = config
        self._state = state
        self._labels = labels_of(table)  # [N]

    @abstractmethod
    def cells(self, rows: Rows) -> NDArray[np.int64]:
        """[n] the cell of each row."""

    @abstractmethod
    def cell_logits(self) -> tuple[Floats, Floats]:
        """[K] mean and [K] variance of the belief about the logit of the pass rate of a member of each cell."""

    @abstractmethod
    def row_logits(self, rows: Rows) -> tuple[Floats, Floats]:
        """[n] mean and [n] variance of the belief about the logit of each row's pass rate (luck aside)."""

    @abstractmethod
    def observe(self, rows: Rows, right: Floats, counts: NDArray[np.int64]) -> None:
        """Learn from distinct rows [n], `right` of `counts` responses each. One call is one iteration."""

    def predict(self, rows: Rows) -> Floats:
        """[n] expected pass rates."""
        floor = self.floors[self._table.domains[rows]]
        return np.asarray(floor + (1 - floor) * expect(lambda p: p, *self.row_logits(rows)))

    @property
    def floors(self) -> Floats:
        """[D] chance of a reward by luck."""
        return np.zeros(self._table.num_domains)

    @property
    def volatility(self) -> Floats:
        """[D] variance, in squared logits, that a prompt gains from one of its rollouts to the next; 0 if not learned."""
        return np.zeros(self._table.num_domains)

    @abstractmethod
    def label_pass_rates(self) -> Floats:
        """[D, L] expected pass rate of a prompt of each domain and label that was not rolled out yet."""

    def abilities(self) -> tuple[Floats, Floats] | None:
        """[D] mean and [D] variance of the belief about the ability in each domain, in logits; None without such."""
        return None

    @property
    def cells_per_domain(self) -> int:
        """Cells of a domain."""
        return self.num_cells // self._table.num_domains

    def state_dict(self) -> dict[str, Any]:
        """Arrays that `load_state_dict` takes."""
        return {name: getattr(self, name).copy() for name in self._saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name in self._saved:
            if name not in state:
                raise CheckpointError(
                    f"the saved curriculum lacks {name!r}: it is of another estimator or version; start the run anew"
                )
            present = getattr(self, name)
            setattr(self, name, np.asarray(state[name], dtype=present.dtype).reshape(present.shape).copy())

    _saved: tuple[str, ...] = ()


_BIN = 0.4
_NUM_BINS = 56
_LOWEST = -_BIN * _NUM_BINS / 2
_DEVIATIONS = np.asarray([0.3, 0.5, 0.7, 1.0, 1.5, 2.5])
"""Representative standard deviations of the cells; a prompt stands in the nearest."""
_DEVIATION_EDGES = (_DEVIATIONS[1:] + _DEVIATIONS[:-1]) / 2
_LEAST_VARIANCE = 0.04
_FIRST_GUESS, _GUESS_WEIGHT, _MOST_GUESSES = 0.1, 50.0, 2000.0
"""A fitted guess rate at the start, the responses it stands for, and those after which older ones are forgotten."""
_GUESS_HASTE = 10.0
"""By what the steps of a fitted guess rate are lengthened."""
_CHANGES = np.asarray([0.0, 0.1, 0.3, 1.0, 3.0])
"""Variances, in squared logits, that a prompt may gain from one of its rollouts to the next."""
_WIDTHS = np.asarray([1.0, 2.0, 4.0, 8.0, 16.0])
"""By what the spread of the difficulties of a domain's labels may be multiplied."""
_SURPRISE = 12.0
"""Squared standard deviations from which on a domain's change is no drift."""


class ItemResponse(Estimator):
    """The item-response filter."""

    _saved = (
        "ability",
        "ability_variance",
        "label_mean",
        "label_variance",
        "label_spread",
        "label_count",
        "cell_steps",
        "guess_rates",
        "guesses",
    )

    def __init__(self, table: PromptTable, config: CurriculumConfig, state: PromptState) -> None:
        """Abilities at 0, labels at the logit of their tier's middle."""
        super().__init__(table, config, state)
        shape = (table.num_domains, LABELS)
        middles = 1 - (np.arange(NUM_TIERS) + 0.5) / NUM_TIERS
        self.ability = np.zeros(table.num_domains)  # [D] logits
        self.ability_variance = np.full(table.num_domains, 2.0)  # [D]
        self.label_mean = np.tile(np.append(-np.log(middles / (1 - middles)), 0.0), (shape[0], 1))  # [D, L] logits
        self.label_variance = np.full(shape, 1.0)  # [D, L] of label_mean
        spreads = np.append(np.full(NUM_TIERS, 1.5), 4.0)
        self.label_spread = np.tile(spreads, (shape[0], 1))  # [D, L] variance of the prompts' difficulties
        self.label_count = np.zeros(shape)  # [D, L] first rollouts that the spread was learned from
        self._per_domain = LABELS + _NUM_BINS * len(_DEVIATIONS)
        self.num_cells = table.num_domains * self._per_domain
        self.cell_steps = np.zeros(self.num_cells)  # [K] sum of `state.last_step` of the members
        rates = [config.guess_rate.get(name, 0.0) for name in table.domain_names]
        self._is_fitted = np.asarray([rate == "auto" for rate in rates])  # [D]
        self.guess_rates = np.asarray([_FIRST_GUESS if rate == "auto" else float(rate) for rate in rates])  # [D]
        self.guesses = np.full(table.num_domains, _GUESS_WEIGHT)  # [D] responses without knowledge behind them
        self._change = LearnedVariance(_CHANGES, table.num_domains)
        self._width = LearnedVariance(_WIDTHS, table.num_domains)
        self._members = np.zeros(self.num_cells)  # [K] rolled-out members, to average cell_steps

    @property
    def floors(self) -> Floats:
        """[D] chance of a reward by luck, as configured or fitted."""
        return self.guess_rates

    @property
    def volatility(self) -> Floats:
        """See `Estimator.volatility`."""
        return self._change.mean

    def cells(self, rows: Rows) -> NDArray[np.int64]:
        """See `Estimator.cells`: by label if never rolled out, else by difficulty and uncertainty."""
        state = self._state
        bins = np.clip((state.mean[rows] - _LOWEST) / _BIN, 0, _NUM_BINS - 1).astype(np.int64)
        widths = np.searchsorted(_DEVIATION_EDGES, np.sqrt(state.variance[rows]))
        seen = LABELS + bins * len(_DEVIATIONS) + widths
        within = np.where(state.times[rows] > 0, seen, self._labels[rows])
        return np.asarray(self._table.domains[rows].astype(np.int64) * self._per_domain + within)

    def cell_logits(self) -> tuple[Floats, Floats]:
        """See `Estimator.cell_logits`; the age of a cell's beliefs is that of its average member."""
        domains = self._table.num_domains
        centres = np.repeat(_LOWEST + _BIN * (np.arange(_NUM_BINS) + 0.5), len(_DEVIATIONS))
        difficulty = np.concatenate([self.label_mean, np.tile(centres, (domains, 1))], axis=1)  # [D, cells]
        widths = np.tile(_DEVIATIONS**2, _NUM_BINS)
        members = self._members.reshape(domains, -1)
        ages = self._state.step - self.cell_steps.reshape(domains, -1) / np.maximum(members, 1)
        drift = self._config.difficulty_drift * np.where(members > 0, ages, 0)[:, LABELS:]
        seen = widths + drift + self._change.mean[:, None]
        variances = np.concatenate([self.label_variance + self._spreads, seen], axis=1)
        means = self.ability[:, None] - difficulty
        return means.ravel(), (variances + self.ability_variance[:, None]).ravel()

    def row_logits(self, rows: Rows) -> tuple[Floats, Floats]:
        """See `Estimator.row_logits`."""
        domains = self._table.domains[rows]
        mean, variance = self._difficulty(rows)
        return self.ability[domains] - mean, self.ability_variance[domains] + variance

    def abilities(self) -> tuple[Floats, Floats]:
        """See `Estimator.abilities`."""
        return self.ability, self.ability_variance

    def label_pass_rates(self) -> Floats:
        """See `Estimator.label_pass_rates`."""
        means = (self.ability[:, None] - self.label_mean).ravel()
        rates = expect(lambda p: p, means, (self._spreads + self.label_variance).ravel())
        return np.asarray(
            self.guess_rates[:, None] + (1 - self.guess_rates[:, None]) * rates.reshape(self.label_mean.shape)
        )

    def _difficulty(self, rows: Rows) -> tuple[Floats, Floats]:
        """[n] mean and [n] variance of the difficulty of each row before the present iteration's rollouts."""
        state, at = self._state, (self._table.domains[rows], self._labels[rows])
        seen = state.times[rows] > 0
        age = state.step - state.last_step[rows]
        mean = np.where(seen, state.mean[rows], self.label_mean[at])
        own = state.variance[rows] + self._config.difficulty_drift * age + self._change.mean[at[0]]
        return mean, np.where(seen, own, self.label_variance[at] + self._spreads[at])

    @property
    def _spreads(self) -> Floats:
        """[D, L] variance of the difficulties of the prompts of each label."""
        return self.label_spread * self._width.mean[:, None]

    def observe(self, rows: Rows, right: Floats, counts: NDArray[np.int64]) -> None:
        """See `Estimator.observe`: abilities, then labels, then difficulties."""
        domains = self._table.domains[rows].astype(np.int64)
        at = (domains, self._labels[rows])
        seen = self._state.times[rows] > 0
        rates = right / counts
        all_alike = self._is_outage(rows, rates, counts)
        jumped = self._move_abilities(rows, rates, counts)
        if all_alike:
            self._touch(rows[seen])
            return
        steady = ~jumped[domains]  # a jump of the ability leaves residuals that are not the prompts'
        self._learn_variances(rows[steady], right[steady], counts[steady])
        if not seen.all():
            new = ~seen
            self._move_labels(tuple(x[new] for x in at), rates[new], counts[new])
        mean, variance = self._difficulty(rows)
        variance = np.where(seen, variance, self._spreads[at])
        logit, variance, _ = update(self.ability[domains] - mean, variance, right, counts, self.guess_rates[domains])
        if self._is_fitted.any():
            self._fit_guesses(domains, logit, variance, right, counts)
        difficulty = self.ability[domains] - logit
        if not seen.all():
            new = ~seen
            self._learn_spread(tuple(x[new] for x in at), difficulty[new], variance[new])
        self._store(rows, difficulty, np.maximum(variance, _LEAST_VARIANCE))

    def _learn_variances(self, rows: Rows, right: Floats, counts: NDArray[np.int64]) -> None:
        """Score what prompts may change by from rollout to rollout, and how far labels may spread."""
        means, variances = self.row_logits(rows)
        domains, labels = self._table.domains[rows].astype(np.int64), self._labels[rows]
        seen = self._state.times[rows] > 0
        change, width = self._change.mean[domains], self._width.mean[domains]
        changed = (variances - change)[:, None] + _CHANGES
        widened = (variances - width * self.label_spread[domains, labels])[:, None]
        widened = widened + self.label_spread[domains, labels][:, None] * _WIDTHS
        floors = self.guess_rates[domains]
        for learned, which, values in ((self._change, seen, changed), (self._width, ~seen, widened)):
            if which.any():
                learned.observe(domains[which], means[which], values[which], right[which], counts[which], floors[which])

    def _move_abilities(self, rows: Rows, rates: Floats, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Fisher scoring on the quasi-likelihood of each domain's groups; the variance grows by the drift first.

        Returns [D] whether a domain changed by more than drift explains.
        """
        domains = self._table.domains[rows].astype(np.int64)
        mean, variance = self._difficulty(rows)
        prior, prior_variance = self.ability.copy(), self.ability_variance + self._config.ability_drift
        scores = _score(prior[domains] - mean, variance, rates, counts, self.guess_rates[domains])
        pulls, informations = (np.bincount(domains, x, minlength=len(prior)).astype(np.float64) for x in scores)
        noise = 1 / np.maximum(informations, 1e-9)
        jump = pulls * noise
        surprise = jump**2 / (prior_variance + noise)
        jumped = surprise > _SURPRISE
        prior_variance = np.where(jumped, np.clip(jump**2, prior_variance, 4.0), prior_variance)
        for _ in range(3):
            score, information = _score(
                self.ability[domains] - mean, variance, rates, counts, self.guess_rates[domains]
            )
            precision = 1 / prior_variance + np.bincount(domains, information, minlength=len(prior))
            pull = np.bincount(domains, score, minlength=len(prior)) - (self.ability - prior) / prior_variance
            self.ability = self.ability + np.clip(pull / precision, -1.0, 1.0)
        self.ability_variance = np.minimum(1 / precision, 2.0)
        return np.asarray(jumped)

    def _is_outage(self, rows: Rows, rates: Floats, counts: NDArray[np.int64]) -> bool:
        """Whether all groups are wrong, or all right, though the chance of that was below one in a million."""
        if (rates > 0).any() and (rates < 1).any():
            return False
        means, variances = self.row_logits(rows)
        shrunk = means / np.sqrt(1 + np.pi * variances / 8) * (1 if rates[0] > 0 else -1)
        alike = sigmoid(shrunk)  # chance of one response like that; a group's is at least this to the power of its size
        spread = counts / (1 + (counts - 1) * np.minimum(variances / 4, 0.9))  # responses of a group go together
        return bool((spread * np.log(np.maximum(alike, 1e-12))).sum() < np.log(1e-6))

    def _touch(self, rows: Rows) -> None:
        """Book that rows were rolled out, without a change of belief."""
        state = self._state
        np.add.at(self.cell_steps, self.cells(rows), state.step - state.last_step[rows])
        state.last_step[rows] = state.step
        state.times[rows] += 1

    def _move_labels(self, at: tuple[NDArray[np.integer[Any]], ...], rates: Floats, counts: NDArray[np.int64]) -> None:
        """One scoring step on the difficulty that first rollouts show for their labels, after drift is added."""
        flat = at[0] * LABELS + at[1]
        logits = self.ability[at[0]] - self.label_mean[at]
        score, information = _score(logits, self._spreads[at], rates, counts, self.guess_rates[at[0]])
        size, shape = self.label_mean.size, self.label_mean.shape
        prior_variance = self.label_variance + self._config.difficulty_drift * self._width.mean[:, None]
        precision = 1 / prior_variance + np.bincount(flat, information, minlength=size).reshape(shape)
        pull = np.bincount(flat, score, minlength=size).reshape(shape) / precision
        self.label_mean -= np.clip(pull, -1.0, 1.0)
        self.label_variance = 1 / precision

    def _learn_spread(self, at: tuple[NDArray[np.integer[Any]], ...], mean: Floats, variance: Floats) -> None:
        """A step of expectation-maximisation on the variance of difficulties within a label."""
        flat = at[0] * LABELS + at[1]
        size, shape = self.label_mean.size, self.label_mean.shape
        count = np.bincount(flat, minlength=size).reshape(shape).astype(np.float64)
        square = np.bincount(flat, (mean - self.label_mean[at]) ** 2 + variance, minlength=size).reshape(shape)
        self.label_count = np.minimum(self.label_count + count, 500)
        rate = count / (self.label_count + 20)
        self.label_spread += rate * (square / np.maximum(count, 1) - self.label_spread)
        self.label_spread = np.clip(self.label_spread, 0.1, 16.0)

    def _fit_guesses(self, domains: Rows, logits: Floats, variances: Floats, right: Floats, counts: Ints) -> None:
        """A step of expectation-maximisation on the share of lucky responses among those without knowledge.

        Lengthened: the beliefs about difficulties were made with the rate as it was, which holds it back.
        """
        floor = self.guess_rates[domains][:, None]
        lucky = right * expect(lambda s: floor * (1 - s) / (floor + (1 - floor) * s), logits, variances)
        size = len(self.guess_rates)
        without = np.bincount(domains, counts - right + lucky, minlength=size)
        total = self.guesses + without
        step = (np.bincount(domains, lucky, minlength=size) - self.guess_rates * without) / total
        rates = np.clip(self.guess_rates + _GUESS_HASTE * step, 1e-3, 0.9)
        self.guess_rates = np.where(self._is_fitted, rates, self.guess_rates)
        self.guesses = np.minimum(total, _MOST_GUESSES)

    def _store(self, rows: Rows, difficulty: Floats, variance: Floats) -> None:
        state = self._state
        seen = state.times[rows] > 0
        old = self.cells(rows)
        np.subtract.at(self.cell_steps, old[seen], state.last_step[rows[seen]])
        np.subtract.at(self._members, old[seen], 1)
        state.mean[rows], state.variance[rows] = difficulty, variance
        state.times[rows] += 1
        state.last_step[rows] = state.step
        new = self.cells(rows)
        np.add.at(self.cell_steps, new, state.step)
        np.add.at(self._members, new, 1)

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator.state_dict`."""
        return super().state_dict() | self._change.state_dict("change") | self._width.state_dict("width")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator.load_state_dict`; `state.PromptState` must be loaded before."""
        super().load_state_dict(state)
        self._change.load_state_dict("change", state)
        self._width.load_state_dict("width", state)
        seen = np.flatnonzero(self._state.times > 0)
        self._members = np.bincount(self.cells(seen), minlength=self.num_cells).astype(np.float64)


def _score(
    logits: Floats, variances: Floats, rates: Floats, counts: NDArray[np.int64], floor: Floats
) -> tuple[Floats, Floats]:
    """Quasi-score and information [n] about the mean logit of groups with pass rates `rates` [n].

    The variance of a group's pass rate is p(1 - p) / count plus what the spread of its logit, `variances` [n], makes.
    """
    shrink = 1 / np.sqrt(1 + np.pi * variances / 8)  # probit approximation of the mean
    s = sigmoid(shrink * logits)
    p = floor + (1 - floor) * s
    slope = (1 - floor) * shrink * s * (1 - s)
    spread = np.minimum(slope**2 * variances, 0.9 * p * (1 - p))
    variance = np.maximum(p * (1 - p) / counts + spread * (1 - 1 / counts), 1e-6)
    return slope * (rates - p) / variance, slope**2 / variance
