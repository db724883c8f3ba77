"""Draw what is expected to teach most, from calibrated beliefs about every prompt's pass rate.

- A cell's worth is the expectation of p(1 - p) (the size of GRPO's signal), or of the chance that a group of G is
  useful, 1 - p^G - (1 - p)^G, under the estimator's belief about its members (`rlcs.curricula.posterior`).
- A domain's draws go to its cells in proportion to members x exp(worth / temperature), worth scaled to at most 1
  (a softened choice of the best, as Gumbel noise makes it), or with `thompson` members x E[exp(worth / temperature)]:
  chosen by a sampled pass rate. Every prompt of a cell has the same weight; within a cell, shuffled passes.
- A share `exploration` goes round all prompts of the domain in a fixed random order (`rlcs.curricula.sweep`): prompts
  believed mastered or hopeless are checked again and again, so that forgetting is seen, and none waits longer than
  N / (exploration x draws) iterations.
- Domains keep their target mix.
- Oversampling by the predicted useful share of the coming draw, once the predictions proved calibrated; by the moving
  average of the paper before that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.allocation import batches, fill, round_shares
from rlcs.curricula.base import Curriculum, Observation, PromptTable, check_domain_names, check_like
from rlcs.curricula.calibration import Calibration
from rlcs.curricula.discounted_beta import DiscountedBeta
from rlcs.curricula.expansion import Expansion
from rlcs.curricula.passes import Passes
from rlcs.curricula.posterior import Estimator, ItemResponse
from rlcs.curricula.quadrature import Floats, expect, sigmoid
from rlcs.curricula.recalibration import Kinds, Recalibration
from rlcs.curricula.state import PromptState
from rlcs.curricula.sweep import Sweep
from rlcs.curricula.tally import LABELS, ability_metrics, count, rate_metrics, share_metrics

ESTIMATORS: dict[str, type[Estimator]] = {"item_response": ItemResponse, "beta": DiscountedBeta}


class Posterior(Curriculum):
    """Expected utility or Thompson sampling over the beliefs of an estimator."""

    def __init__(self, table: PromptTable, config: CurriculumConfig, seed: int) -> None:
        """Start from the offline tiers."""
        super().__init__(table, config, seed)
        check_domain_names(config.guess_rate, table, "curriculum.guess_rate")
        self.state = PromptState(len(table))
        self.estimator = ESTIMATORS[config.estimator](table, config, self.state)
        self._passes = Passes(self.estimator.cells(np.arange(len(table))), self.estimator.num_cells)
        self._expansion = Expansion(ema=config.ema, maximum=config.max_expansion if config.expansion else 1.0)
        self._sweep = Sweep(table.domains, table.num_domains, seed)
        self._group_size = 8.0  # moving average of what is observed
        self._worth_factors = Recalibration(table.num_domains)
        self._useful_factors = Recalibration(table.num_domains) if config.utility == "variance" else self._worth_factors
        self._last_expansion = 1.0
        self._gap = 0.0  # moving average of predicted - observed pass rate
        self._calibration = Calibration()
        self._rolled_out = 0  # prompts that were rolled out at least once
        self._present = count(table, np.arange(len(table))) > 0  # [D, L] labels that have prompts
        self._drawn = np.zeros(self._present.shape, dtype=np.int64)  # [D, L] in the last draw

    @property
    def cell_weights(self) -> Floats:
        """[D, cells] intended share of each cell in its domain's draws, the exploring ones aside; rows sum to 1."""
        softness = self.config.utility_temperature
        sizes = self._passes.sizes.astype(np.float64)
        weights = np.zeros(len(sizes))
        live = np.flatnonzero(sizes)
        if self.config.thompson:
            weights[live] = expect(lambda p: np.exp((self._worth(p) - 1) / softness), *self._logits(live))
        else:
            weights[live] = np.exp((self._cell_worth(live) - 1) / softness)
        by_domain = (sizes * np.maximum(weights, 1e-300)).reshape(self.table.num_domains, -1)
        return np.asarray(by_domain / by_domain.sum(axis=1, keepdims=True))

    def _cell_worth(self, cells: NDArray[np.int64]) -> Floats:
        """[n] what members of `cells` teach, as far as expectations of that kind proved right."""
        logits = self._logits(cells)
        return self._worth_factors.correct(self._kinds(cells, logits), expect(self._worth, *logits))

    def _logits(self, cells: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """[n] mean and [n] variance of the belief about the logits of the members of `cells`."""
        means, variances = self.estimator.cell_logits()
        return means[cells], variances[cells]

    def _kinds(self, cells: NDArray[np.int64], logits: tuple[Floats, Floats]) -> Kinds:
        """Of the members of `cells` [n], with the beliefs `logits` about them."""
        domains, within = np.divmod(cells.astype(np.int64), self.estimator.cells_per_domain)
        return Kinds(domains, np.where(within < LABELS, within, -1), logits[0] > 0)

    def _useful(
        self, logits: tuple[Floats, Floats], domains: NDArray[np.int64], sizes: NDArray[np.int64] | float
    ) -> Floats:
        """[n] chance that `sizes` responses to prompts with such beliefs about their logits are not all alike."""
        floors = self.estimator.floors[domains][:, None]
        exponent = np.broadcast_to(np.asarray(sizes, dtype=np.float64), domains.shape)[:, None]

        def is_useful(s: Floats) -> Floats:
            p = floors + (1 - floors) * s
            return np.asarray(1 - p**exponent - (1 - p) ** exponent)

        return expect(is_useful, *logits)

    def _worth(self, p: Floats) -> Floats:
        """What a prompt with pass rate p (luck aside) teaches, at most 1."""
        if self.config.utility == "variance":
            return 4 * p * (1 - p)
        return 1 - p**self._group_size - (1 - p) ** self._group_size

    def draw(self, n: int) -> NDArray[np.int64]:
        """See `Curriculum.draw`."""
        if n < 1:
            raise ValueError(f"draw: {n} prompts were asked for; ask for at least 1")
        parts = []
        for take in batches(n, len(self.table)):
            shares = self.draw_shares(take)
            counts = round_shares(shares.ravel(), self.rng).reshape(shares.shape)
            chosen = self._passes.draw(counts[:, :-1].ravel(), self.rng)
            parts.append(self.rng.permutation(np.concatenate([chosen, self._sweep.take(counts[:, -1], chosen)])))
        rows: NDArray[np.int64] = np.concatenate(parts)
        self._drawn = count(self.table, rows)
        return rows

    @property
    def intervals(self) -> Floats:
        """[D] iterations that prompts of a domain rest between rollouts.

        Prompts that are learned by heart, or swing between two ways to answer, say little about others when they are
        drawn over and over, and those that are always right meanwhile are forgotten. So prompts rest the longer, the more
        they change from one rollout to the next, as a share v / (1 + v) of `interval` for a variance v in squared
        logits; and the less groups keep of what is expected of them, where few prompts teach at all.
        """
        volatility = self.estimator.volatility
        lost = 1 - np.minimum(self._useful_factors.domain_factors, 1.0)
        return np.asarray(1 + (self.config.interval - 1) * np.maximum(lost, volatility / (1 + volatility)))

    def _fill(self, n: float, weights: Floats, sizes: Floats, interval: float) -> Floats:
        """[cells] shares of n: of prompts seen before no more than one in `interval` an iteration, if others suffice."""
        rested = sizes.copy()
        rested[LABELS:] /= interval
        shares = fill(n, weights, rested)
        return shares + fill(n - shares.sum(), weights, sizes - shares)

    def draw_shares(self, n: int, weights: Floats | None = None) -> Floats:
        """[D, cells + 1] expected draws of each cell in a draw of n <= N, none above its size; last, by exploration.

        `weights`: `cell_weights`, where they are known already.
        """
        weights = self.cell_weights if weights is None else weights
        sizes = self._passes.sizes.reshape(self.table.num_domains, -1).astype(np.float64)
        by_domain = fill(n, self.domain_mix, sizes.sum(axis=1))  # [D]
        explored = self.config.exploration * by_domain
        chosen = [self._fill(*x) for x in zip(by_domain - explored, weights, sizes, self.intervals, strict=True)]
        return np.concatenate([np.stack(chosen), explored[:, None]], axis=1)

    def observe(self, observation: Observation) -> None:
        """Score the predictions, update the beliefs, move prompts to their new cells."""
        rows, counts = observation.rows, observation.counts
        self.notice(observation)
        if len(rows) == 0:
            return
        self._expansion.observe(observation.degenerate)
        self._score_predictions(observation)
        self._score_expectations(observation)
        unique, inverse = np.unique(rows, return_inverse=True)
        right = np.bincount(inverse, observation.pass_rates * counts).astype(np.float64)
        self._rolled_out += int((self.state.times[unique] == 0).sum())
        self.state.step += 1
        self.estimator.observe(unique, right, np.bincount(inverse, counts).astype(np.int64))
        self._passes.move(unique, self.estimator.cells(unique))

    def _score_predictions(self, observation: Observation) -> None:
        ema = self.config.ema
        predicted = self.estimator.predict(observation.rows)
        self._calibration.observe(predicted, observation.pass_rates)
        self._gap = ema * self._gap + (1 - ema) * float((predicted - observation.pass_rates).mean())
        self._group_size = ema * self._group_size + (1 - ema) * float(observation.counts.mean())

    def _score_expectations(self, observation: Observation) -> None:
        """Compare what the groups were expected to teach with what they did."""
        cells, sizes = self._passes.cell_of[observation.rows].astype(np.int64), observation.counts
        logits = self._logits(cells)
        kinds = self._kinds(cells, logits)
        useful = (~observation.degenerate).astype(np.float64)
        self._useful_factors.observe(kinds, self._useful(logits, kinds.domains, sizes), useful)
        if self.config.utility == "variance":
            rates, several = observation.pass_rates, sizes > 1
            # Without bias: of n responses, k right, p(1 - p) is k(n - k) / (n(n - 1)).
            observed = 4 * rates * (1 - rates) * sizes / np.maximum(sizes - 1, 1)
            expected = expect(self._worth, *logits)
            self._worth_factors.observe(kinds[several], expected[several], observed[several])

    def predict(self, rows: NDArray[np.int64]) -> Floats:
        """See `Curriculum.predict`."""
        return self.estimator.predict(rows)

    def predict_logits(self, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See `Curriculum.predict_logits`."""
        return self.estimator.row_logits(rows)

    def domain_pass_rates(self) -> Floats:
        """See `Curriculum.domain_pass_rates`: of the beliefs about all cells, weighted by their prompts."""
        sizes = self._passes.sizes.reshape(self.table.num_domains, -1)
        rates = expect(lambda p: p, *self.estimator.cell_logits()).reshape(sizes.shape)
        return np.asarray((sizes * rates).sum(axis=1) / sizes.sum(axis=1))

    def num_prompts(self, batch_size: int) -> int:
        """See `Curriculum.num_prompts`: by the predicted useful share of the next draw if that can be trusted."""
        if not self.config.expansion:
            return batch_size
        n = self._expansion.num_prompts(batch_size, len(self.table))
        if self.state.step < 5 or abs(self._gap) > 0.1:
            return self._expand(n, batch_size)
        useful, weights = self._useful_by_cell(), self.cell_weights
        for _ in range(2):  # a larger draw reaches prompts that promise less
            share = float(self.expected_shares(n, weights).ravel() @ useful)
            n = self._expansion.num_prompts(batch_size, len(self.table), not_valid=1 - share)
        return self._expand(n, batch_size)

    def _expand(self, n: int, batch_size: int) -> int:
        self._last_expansion = n / batch_size
        return n

    def predicted_useful(self, n: int, weights: Floats | None = None) -> float:
        """Expected share of groups of a draw of n whose responses are not all alike; `weights` as in `draw_shares`."""
        return float(self.expected_shares(n, weights).ravel() @ self._useful_by_cell())

    def _useful_by_cell(self) -> Floats:
        """[K] chance that a group of a member of each cell is useful, as far as such expectations proved right."""
        live = np.flatnonzero(self._passes.sizes)
        logits = self._logits(live)
        kinds = self._kinds(live, logits)
        useful = np.zeros(len(self._passes.sizes))
        useful[live] = self._useful_factors.correct(kinds, self._useful(logits, kinds.domains, self._group_size))
        return useful

    def expected_shares(self, n: int, weights: Floats | None = None) -> Floats:
        """[D, cells] share of a draw of n that each cell gets in the mean, exploring draws included; sums to 1."""
        n = min(n, len(self.table))
        shares = self.draw_shares(n, weights)
        sizes = self._passes.sizes.reshape(self.table.num_domains, -1)
        explored = shares[:, -1:] * sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1)
        return np.asarray((shares[:, :-1] + explored) / n)

    @property
    def _usual(self) -> int:
        """Prompts of the last draw, or of a first one."""
        return int(self._drawn.sum()) or 256

    def weights(self, rows: NDArray[np.int64]) -> Floats:
        """See `Curriculum.weights`."""
        cells = self._passes.cell_of[rows]
        return np.asarray(
            self.expected_shares(self._usual).ravel()[cells] / self._passes.sizes[cells] * len(self.table)
        )

    def reasons(self, row: int) -> list[str]:
        """See `Curriculum.reasons`."""
        numbers = self.explain(row)
        if self.state.times[row]:
            source = f"Rolled out {self.state.times[row]} times, last {numbers['iterations_since']:.0f} iterations ago"
        else:
            source = "Not rolled out yet, so its tier and the others of its domain speak for it"
        believed = (
            f"{source}: {numbers['pass_rate']:.0%} of its responses are expected to be right "
            f"(90 % sure: {numbers['pass_rate_low']:.0%} to {numbers['pass_rate_high']:.0%})."
        )
        aim = "half right, half wrong" if self.config.utility == "variance" else "not all alike"
        worth = f"It is worth {numbers['worth']:.2f} of at most 1: groups teach most when they are {aim}."
        if numbers["retired"]:
            side = "mastered" if numbers["pass_rate"] > 0.5 else "too hard as yet"
            worth += f" It counts as {side} and is only re-checked, by the {self.config.exploration:.0%} of the draws "
            worth += "that go round all prompts in turn; it returns when a re-check says otherwise."
        return [believed, worth]

    def explain(self, row: int) -> dict[str, float]:
        """See `Curriculum.explain`."""
        rows = np.asarray([row])
        cell = int(self._passes.cell_of[row])
        means, variances = self.estimator.row_logits(rows)
        floor = self.estimator.floors[self.table.domains[row]]
        bounds = sigmoid(means + 1.645 * np.sqrt(variances) * np.asarray([-1.0, 1.0]))
        low, high = floor + (1 - floor) * bounds
        return {
            "times_rolled_out": float(self.state.times[row]),
            "iterations_since": float(self.state.step - self.state.last_step[row]),
            "pass_rate": float(self.estimator.predict(rows)[0]),
            "pass_rate_low": float(low),
            "pass_rate_high": float(high),
            "worth": float(self._cell_worth(np.asarray([cell]))[0]),
            "weight": float(self.weights(rows)[0]),
            "logit_mean": float(means[0]),
            "logit_sd": float(np.sqrt(variances[0])),
            "retired": float(self._is_retired(cell)),
        }

    def _is_retired(self, cell: int) -> bool:
        """Whether more than 99 in 100 draws of a cell's members are re-checks by the exploring share."""
        return bool(self._retired(self.cell_weights).ravel()[cell])

    def _retired(self, weights: Floats) -> NDArray[np.bool_]:
        """[D, cells] the same of all cells; of empty ones, False. `weights`: `cell_weights`."""
        sizes = self._passes.sizes.reshape(self.table.num_domains, -1)
        explored = self.config.exploration * sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1)
        return np.asarray((1 - self.config.exploration) * weights < 0.01 * explored)

    def metrics(self) -> dict[str, float]:
        """Quality of the predictions, shares drawn, and pass rates of prompts that were not rolled out yet."""
        weights = self.cell_weights
        sizes = self._passes.sizes.reshape(weights.shape)
        metrics = {
            "curriculum/expansion": self._last_expansion,
            "curriculum/predicted_useful": self.predicted_useful(self._usual, weights),
            "curriculum/rolled_out": self._rolled_out / len(self.table),
            "curriculum/prompts/retired": float(sizes[self._retired(weights)].sum()),
        }
        metrics |= self._calibration.metrics()
        metrics["curriculum/calibration_gap"] = self._gap
        if self._expansion.not_valid is not None:
            metrics["curriculum/not_valid"] = self._expansion.not_valid
        rates = np.where(self._present, self.estimator.label_pass_rates(), np.nan)
        abilities = ability_metrics(self.table, self.estimator.abilities())
        return metrics | abilities | share_metrics(self.table, self._drawn) | rate_metrics(self.table, rates)

    def state_dict(self) -> dict[str, Any]:
        """See `Curriculum.state_dict`."""
        own: dict[str, Any] = {"group_size": self._group_size, "gap": self._gap}
        own |= {"rolled_out": self._rolled_out, "drawn": self._drawn.copy()}
        parts = (self._passes, self._sweep, self._expansion, self._calibration, self.state, self.estimator)
        for part in parts:
            own |= part.state_dict()
        own |= self._worth_factors.state_dict("worth") | self._useful_factors.state_dict("useful")
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Curriculum.load_state_dict`."""
        super().load_state_dict(state)
        check_like(state, Posterior.state_dict(self))
        self.state.load_state_dict(state)
        self.estimator.load_state_dict(state)
        self._passes.load_state_dict(state)
        self._sweep.load_state_dict(state)
        self._expansion.load_state_dict(state)
        self._rolled_out = int(state["rolled_out"])
        self._drawn = np.asarray(state["drawn"], dtype=np.int64).copy()
        self._calibration.load_state_dict(state)
        self._worth_factors.load_state_dict("worth", state)
        self._useful_factors.load_state_dict("useful", state)
        self._group_size, self._gap = float(state["group_size"]), float(state["gap"])
