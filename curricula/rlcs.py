"""The paper's curriculum: tiers that follow the policy, re-weighted each iteration.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5): offline grading gives each prompt a tier; each rollout's pass rate is
merged with the offline label; each iteration the tiers of each domain are re-weighted, down for too easy and too hard,
up for the middle. How it is done here:

- A *cell* is a domain x tier. A prompt that was never rolled out stands in the cell of its offline tier (or of the
  ungraded ones); one that was, in the cell of its merged tier, that of `(w p_offline + k) / (w + m)` in equal fifths of
  [0, 1]: k right of m responses seen (the past discounted by `ema` at each new group), w = `offline_weight`, and
  `p_offline` what the label has turned out to mean for this policy, the pass rate of first rollouts with that label.
- A cell's pass rate is a moving average over the groups drawn from it, each booked to the cell that it was drawn from,
  before its tier moved: that is what the next draw from the cell will find. It begins at the tier's middle with the
  weight of `offline_weight` rollouts, so a label that contradicts the policy is overruled after a few groups.
- A cell's preference is the same moving average of exp(-(pass rate - target)^2 / (2 temperature^2)) over its groups: an
  average of preferences, so that a cell of half easy and half impossible prompts does not pass for a middle one.
- Within a domain cells are drawn in proportion to sqrt(number of prompts) x preference, between even prompts (a middle
  tier of few prompts would hardly be drawn) and even tiers (it would be drawn to death); a share `exploration` goes
  evenly to all cells that have prompts. The domains themselves keep their target mix, whatever their cells do.
- Within a cell: shuffled passes. Oversampling: `rlcs.curricula.expansion`.
- What no prompt waits beyond: two passes of its cell, at the least rate that `exploration` gives the cell. A prompt of a
  cell of S prompts, one of C cells of a domain of share m, is drawn at least once in about 2 S C / (exploration m n)
  iterations of n draws, S being at most the prompts of the domain and C at most 11. There is no bound without
  exploration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.allocation import fill_domains, with_floor
from rlcs.curricula.base import Curriculum, Observation, PromptTable, check_like
from rlcs.curricula.calibration import Calibration
from rlcs.curricula.expansion import Expansion
from rlcs.curricula.passes import Passes
from rlcs.curricula.tally import LABELS, count, labels_of, rate_metrics, share_metrics
from rlcs.curricula.uniform import draw_from_passes
from rlcs.types import NUM_TIERS, TIER_NAMES

_CELLS = LABELS + NUM_TIERS
"""Cells of a domain: new prompts by label, then prompts that were rolled out by merged tier."""


class RLCS(Curriculum):
    """Reinforcement learning with curriculum sampling, as in the paper."""

    def __init__(self, table: PromptTable, config: CurriculumConfig, seed: int) -> None:
        """Start from the offline tiers."""
        super().__init__(table, config, seed)
        domains = table.domains.astype(np.int64)
        self._labels = labels_of(table)  # [N]
        self._right = np.zeros(len(table), dtype=np.float32)  # [N] discounted right responses
        self._seen = np.zeros(len(table), dtype=np.float32)  # [N] discounted responses
        num_cells = table.num_domains * _CELLS
        self._passes = Passes(domains * _CELLS + self._labels, num_cells)
        self._census = np.zeros((table.num_domains, LABELS, _CELLS), dtype=np.int64)
        np.add.at(self._census, (domains, self._labels, self._labels), 1)
        middles = np.append(tier_pass_rate(np.arange(NUM_TIERS)), config.target_pass_rate)
        centres = np.tile(np.append(middles, middles[:NUM_TIERS]), table.num_domains)
        weight = max(config.offline_weight, 1e-3)  # without trust the label still counts until the first group
        self._cell_seen = np.full(num_cells, weight)  # [K] discounted responses
        self._cell_right = centres * weight  # [K]
        self._cell_liked = self._preference(centres) * weight  # [K] preference x responses
        self._expansion = Expansion(ema=config.ema, maximum=config.max_expansion if config.expansion else 1.0)
        self._drawn = np.zeros((table.num_domains, LABELS), dtype=np.int64)  # in the last draw
        self._calibration = Calibration()

    @property
    def pass_rates(self) -> NDArray[np.float64]:
        """[D, NUM_TIERS + 1] estimated mean pass rate of the prompts of each domain and offline tier, ungraded last.

        NaN where there are none. Whole tiers, not the prompts drawn from them.
        """
        cells = (self._cell_right / self._cell_seen).reshape(-1, 1, _CELLS)
        prompts = self._census.sum(axis=2)
        return np.where(prompts > 0, (self._census * cells).sum(axis=2) / np.maximum(prompts, 1), np.nan)

    def domain_pass_rates(self) -> NDArray[np.float64]:
        """See `Curriculum.domain_pass_rates`: of the cells, weighted by their prompts."""
        sizes = self._passes.sizes.reshape(-1, _CELLS)
        rates = (self._cell_right / self._cell_seen).reshape(-1, _CELLS)
        return np.asarray((sizes * rates).sum(axis=1) / sizes.sum(axis=1))

    @property
    def cell_shares(self) -> NDArray[np.float64]:
        """[D, cells] share of the next draw that each cell is meant to get; sums to 1."""
        sizes = self._passes.sizes.reshape(-1, _CELLS).astype(np.float64)
        liked = (self._cell_liked / self._cell_seen).reshape(-1, _CELLS)
        weights = np.sqrt(sizes) * np.maximum(liked, 1e-12)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.asarray(self.domain_mix[:, None] * with_floor(weights, sizes, self.config.exploration))

    def draw(self, n: int) -> NDArray[np.int64]:
        """See `Curriculum.draw`. A domain with too few prompts for its share leaves the rest to the others."""
        rows = draw_from_passes(self._passes, self._shares, n, self.rng)
        self._drawn = count(self.table, rows)
        return rows

    def _shares(self, n: int) -> NDArray[np.float64]:
        """[K] expected draws of each cell in a draw of n, none above the cell's size."""
        sizes = self._passes.sizes.reshape(-1, _CELLS).astype(np.float64)
        return fill_domains(n, self.domain_mix, self.cell_shares, sizes)

    def observe(self, observation: Observation) -> None:
        """Book the groups to the cells they were drawn from, then move prompts to their new tiers."""
        rows, counts = observation.rows, observation.counts.astype(np.float64)
        self.notice(observation)
        self._expansion.observe(observation.degenerate)
        if len(rows) == 0:
            return
        self._observe_cells(self._passes.cell_of[rows], observation.pass_rates, counts)
        rows, inverse = np.unique(rows, return_inverse=True)
        right = np.bincount(inverse, observation.pass_rates * counts)
        self._right[rows] = self.config.ema * self._right[rows] + right
        self._seen[rows] = self.config.ema * self._seen[rows] + np.bincount(inverse, counts)
        self._move(rows)

    def _observe_cells(
        self, cells: NDArray[np.int32], pass_rates: NDArray[np.float64], counts: NDArray[np.float64]
    ) -> None:
        """Moving averages of the cells [n] that groups were drawn from."""
        num_cells = len(self._cell_seen)
        self._calibration.observe((self._cell_right / self._cell_seen)[cells], pass_rates)
        groups = np.bincount(cells, minlength=num_cells)
        # A cell forgets by `ema` for an average cell's worth of groups, so that rare cells keep a usable average.
        usual = len(cells) / max(int((self._passes.sizes > 0).sum()), 1)
        keep = self.config.ema ** np.minimum(1.0, groups / usual)
        liked = self._preference(pass_rates)
        self._cell_seen = keep * self._cell_seen + np.bincount(cells, counts, minlength=num_cells)
        self._cell_right = keep * self._cell_right + np.bincount(cells, counts * pass_rates, minlength=num_cells)
        self._cell_liked = keep * self._cell_liked + np.bincount(cells, counts * liked, minlength=num_cells)

    def _move(self, rows: NDArray[np.int64]) -> None:
        """Put distinct `rows` [m] that were rolled out into the cells of their merged tiers."""
        domains, labels = self.table.domains[rows].astype(np.int64), self._labels[rows]
        new = domains * _CELLS + labels
        offline = self._cell_right[new] / self._cell_seen[new]
        trust = self.config.offline_weight
        tiers = pass_rate_tier((trust * offline + self._right[rows]) / (trust + self._seen[rows]))
        cells = domains * _CELLS + LABELS + tiers
        np.subtract.at(self._census, (domains, labels, self._passes.cell_of[rows] % _CELLS), 1)
        np.add.at(self._census, (domains, labels, cells % _CELLS), 1)
        self._passes.move(rows, cells)

    def _preference(self, pass_rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """How near the pass rates are to the target: 1 at it, falling to both sides."""
        return np.exp(-(((pass_rates - self.config.target_pass_rate) / self.config.temperature) ** 2) / 2)

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Curriculum.predict`: the pass rates of the prompts' cells."""
        cells = self._passes.cell_of[rows]
        return np.asarray(self._cell_right[cells] / self._cell_seen[cells])

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Curriculum.weights`."""
        cells = self._passes.cell_of[rows]
        return np.asarray(self.cell_shares.ravel()[cells] / self._passes.sizes[cells] * len(self.table))

    def reasons(self, row: int) -> list[str]:
        """See `Curriculum.reasons`."""
        cell = int(self._passes.cell_of[row])
        place = cell % _CELLS
        rate, size = self._cell_right[cell] / self._cell_seen[cell], int(self._passes.sizes[cell])
        if place < LABELS:
            label = "ungraded" if place == NUM_TIERS else TIER_NAMES[place]
            where = f"It was not rolled out yet and stands with {size:,} prompts of its domain graded {label!r}"
        else:
            tier = TIER_NAMES[place - LABELS]
            where = f"What was seen of it puts it to {size:,} prompts of its domain that are now {tier!r}"
        target, liked = self.config.target_pass_rate, self._cell_liked[cell] / self._cell_seen[cell]
        return [
            f"{where}; {rate:.0%} of their responses are right.",
            f"The aim is {target:.0%}: the preference for such prompts is {liked:.2f} of at most 1.",
            f"Among them {self._passes.turn(row)}.",
        ]

    def explain(self, row: int) -> dict[str, float]:
        """See `Curriculum.explain`; `pass_rate` is that of the prompt's cell."""
        cell = int(self._passes.cell_of[row])
        place = cell % _CELLS
        return {
            "rolled_out": float(place >= LABELS),
            "tier": float(place - LABELS) if place >= LABELS else float(self.table.tiers[row]),
            "responses_seen": float(self._seen[row]),
            "pass_rate": float(self._cell_right[cell] / self._cell_seen[cell]),
            "preference": float(self._cell_liked[cell] / self._cell_seen[cell]),
            "weight": float(self.weights(np.asarray([row]))[0]),
        }

    def num_prompts(self, batch_size: int) -> int:
        """See `Curriculum.num_prompts`: `batch_size` x the expansion ratio, at most the number of prompts."""
        return self._expansion.num_prompts(batch_size, len(self.table))

    def metrics(self) -> dict[str, float]:
        """Expansion, error of the predictions, share drawn by domain and offline tier, estimated pass rates."""
        metrics = {
            "curriculum/expansion": self._expansion.ratio,
            "curriculum/rolled_out": float(self._census[:, :, LABELS:].sum() / len(self.table)),
        }
        if self._expansion.not_valid is not None:
            metrics["curriculum/not_valid"] = self._expansion.not_valid
        metrics |= self._calibration.metrics()
        return metrics | share_metrics(self.table, self._drawn) | rate_metrics(self.table, self.pass_rates)

    def state_dict(self) -> dict[str, Any]:
        """See `Curriculum.state_dict`."""
        arrays = {name: getattr(self, f"_{name}").copy() for name in _STATE}
        parts = (self._passes, self._expansion, self._calibration)
        for part in parts:
            arrays |= part.state_dict()
        return super().state_dict() | arrays

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Curriculum.load_state_dict`."""
        super().load_state_dict(state)
        check_like(state, RLCS.state_dict(self))
        self._passes.load_state_dict(state)
        self._expansion.load_state_dict(state)
        for name in _STATE:
            present = getattr(self, f"_{name}")
            setattr(self, f"_{name}", np.asarray(state[name], dtype=present.dtype).reshape(present.shape).copy())
        self._calibration.load_state_dict(state)


_STATE = ("right", "seen", "census", "cell_seen", "cell_right", "cell_liked", "drawn")
"""The arrays of `RLCS` that are saved."""


def tier_pass_rate(tiers: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The pass rate in the middle of a tier: 0.9 for very easy, 0.1 for very hard."""
    return 1 - (np.asarray(tiers) + 0.5) / NUM_TIERS


def pass_rate_tier(pass_rates: NDArray[np.float64]) -> NDArray[np.int64]:
    """The tier of a pass rate: equal fifths of [0, 1], 0 (very easy) for the highest."""
    return np.clip(np.ceil((1 - pass_rates) * NUM_TIERS - 1e-9) - 1, 0, NUM_TIERS - 1).astype(np.int64)
