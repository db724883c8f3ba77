"""What a curriculum is: it draws rows of a table of prompts and observes how the policy did on them.

Shapes: N training prompts, D domains, n prompts in a draw or an observation. A *row* is a prompt's index in the table.
"""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.coverage import Coverage
from rlcs.curricula.domain_progress import DomainProgress, LabelLevels
from rlcs.curricula.selection import select_balanced
from rlcs.errors import CheckpointError, ConfigError, DataError
from rlcs.types import NUM_TIERS, Prompt

_MOST = 2.0**53
UNGRADED = -1
"""The tier of a prompt without an offline grade."""


@dataclass(frozen=True, slots=True)
class PromptTable:
    """What a curriculum knows of the training prompts before any rollout."""

    tiers: NDArray[np.int8]
    """[N] offline tier, 0 (very easy) to `NUM_TIERS - 1`, or `UNGRADED`."""
    domains: NDArray[np.int16]
    """[N] index into `domain_names`."""
    domain_names: list[str]
    """[D]"""

    def __post_init__(self) -> None:
        """Check the arrays. Raises DataError that names the first bad row."""
        if len(self.tiers) == 0:
            raise DataError("there are no training prompts to draw from: give a dataset with at least one row")
        if len(self.tiers) != len(self.domains):
            raise DataError(f"prompt table: {len(self.tiers)} tiers for {len(self.domains)} domains; give one a prompt")
        bad = (self.tiers < UNGRADED) | (self.tiers >= NUM_TIERS)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"training prompt {row}: tier {self.tiers[row]} is not in 0 to {NUM_TIERS - 1} ({UNGRADED}: not graded)"
            )
        bad = (self.domains < 0) | (self.domains >= len(self.domain_names))
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"training prompt {row}: domain index {self.domains[row]} has no name")

    def __len__(self) -> int:
        """N."""
        return len(self.tiers)

    @property
    def num_domains(self) -> int:
        """D."""
        return len(self.domain_names)

    @staticmethod
    def of(prompts: list[Prompt]) -> PromptTable:
        """The table of a list of prompts; domains are sorted by name.

        Raises:
            DataError: there are no prompts, a tier is out of range, or there are more than 32,767 domains.
        """
        names = sorted({prompt.domain for prompt in prompts})
        if len(names) > np.iinfo(np.int16).max:
            raise DataError(f"the dataset has {len(names)} domains, more than {np.iinfo(np.int16).max}: merge some")
        index = {name: i for i, name in enumerate(names)}
        tiers = [UNGRADED if prompt.tier is None else prompt.tier for prompt in prompts]
        for row, (prompt, tier) in enumerate(zip(prompts, tiers, strict=True)):
            if prompt.tier is not None and not 0 <= tier < NUM_TIERS:
                raise DataError(f"training prompt {row} (id {prompt.id}): tier {tier} is not in 0 to {NUM_TIERS - 1}")
        return PromptTable(
            np.asarray(tiers, dtype=np.int8), np.asarray([index[p.domain] for p in prompts], dtype=np.int16), names
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """How the policy did on the prompts of one iteration."""

    rows: NDArray[np.int64]
    """[n]"""
    pass_rates: NDArray[np.float64]
    """[n] share of right responses, in [0, 1]."""
    degenerate: NDArray[np.bool_]
    """[n] whether all rewards of the group are equal."""
    num_responses: NDArray[np.int64] | int
    """[n] responses a group, or one number for all."""

    def __post_init__(self) -> None:
        """Check shapes and values. Raises ValueError that names the first bad group."""
        n = len(self.rows)
        counts = np.broadcast_to(np.asarray(self.num_responses), (n,))
        if len(self.pass_rates) != n or len(self.degenerate) != n:
            raise ValueError(
                f"observation: {n} rows, {len(self.pass_rates)} pass rates, {len(self.degenerate)} degenerate marks; "
                "give one of each a group"
            )
        bad = ~((self.pass_rates >= 0) & (self.pass_rates <= 1))
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(f"observation: pass rate {self.pass_rates[i]} of row {self.rows[i]} is not in [0, 1]")
        if (counts < 1).any():
            i = int(np.argmax(counts < 1))
            raise ValueError(f"observation: row {self.rows[i]} has {counts[i]} responses; a group has at least 1")

    @property
    def counts(self) -> NDArray[np.int64]:
        """[n] responses a group."""
        return np.broadcast_to(np.asarray(self.num_responses, dtype=np.int64), (len(self.rows),))


class Curriculum(ABC):
    """Draws prompts and learns from how the policy did on them.

    A curriculum of your own needs `draw` and `observe`; the rest has defaults. It keeps its state in numpy arrays and
    uses no random numbers but those of `self.rng`, so that a resumed run draws what the first one would have drawn.
    """

    def __init__(self, table: PromptTable, config: CurriculumConfig, seed: int) -> None:
        """Start without history.

        Raises:
            ConfigError: `config.domain_mix` does not fit the table's domains.
        """
        self.table = table
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.domain_mix = domain_mix(table, config)  # [D], sums to 1; by learning progress it changes
        self.coverage = Coverage(len(table))
        self._progress: DomainProgress | None = None
        if config.domain_balance == "learning_progress":
            labels = table.tiers.astype(np.int64) % (NUM_TIERS + 1)  # UNGRADED is the last
            flat = table.domains.astype(np.int64) * (NUM_TIERS + 1) + labels
            census = np.bincount(flat, minlength=table.num_domains * (NUM_TIERS + 1)).reshape(-1, NUM_TIERS + 1)
            self._progress = DomainProgress(self.domain_mix, config.domain_floor)
            self._levels = LabelLevels(census, keep=0.9)

    @abstractmethod
    def draw(self, n: int) -> NDArray[np.int64]:
        """[n] rows to roll out, in random order, distinct if n <= N.

        A larger n repeats each row as few times as it can. Raises ValueError if n < 1.
        """

    @abstractmethod
    def observe(self, observation: Observation) -> None:
        """Learn from an iteration's groups. Begin with `self.notice(observation)`.

        Raises ValueError if a row is not in the table.
        """

    def notice(self, observation: Observation) -> None:
        """Check the rows, count them in `self.coverage` and, with `domain_balance: learning_progress`, bring
        `self.domain_mix` up to date.

        Raises ValueError if a row is not in the table.
        """
        rows = observation.rows
        check_rows(rows, len(self.table))
        if len(rows) == 0:
            return
        self.coverage.observe(rows, observation.pass_rates)
        if self._progress is None:
            return
        labels = self.table.tiers[rows].astype(np.int64) % (NUM_TIERS + 1)
        flat, shape = self.table.domains[rows].astype(np.int64) * (NUM_TIERS + 1) + labels, (-1, NUM_TIERS + 1)
        size = self.table.num_domains * (NUM_TIERS + 1)
        groups = np.bincount(flat, minlength=size).astype(np.float64).reshape(shape)
        passed = np.bincount(flat, observation.pass_rates, minlength=size).astype(np.float64)
        self._levels.observe(groups, passed.reshape(shape))
        self._progress.observe(self.domain_pass_rates())
        self.domain_mix = self._progress.shares

    def domain_pass_rates(self) -> NDArray[np.float64]:
        """[D] estimated pass rate over all prompts of each domain, drawn or not; NaN where nothing is known.

        Asked for only with `domain_balance: learning_progress`. The default averages what was observed by label; a
        sampler that chooses within a label must do better, or its own choices look like a lack of progress.
        """
        return self._levels.levels

    def num_prompts(self, batch_size: int) -> int:
        """How many prompts to draw for `batch_size` groups to learn from."""
        return batch_size

    def redraw(self, batch_size: int, num_useful: int) -> int:
        """How many more prompts to draw in this iteration, `num_useful` groups with a signal being there; 0: none."""
        return 0

    def select(self, pass_rates: NDArray[np.float64], degenerate: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
        """Indices of the `size` groups [n] to learn from, ascending; see `select_balanced`, the default."""
        return select_balanced(pass_rates, degenerate, size)

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """[n] expected pass rates of `rows` under the present policy, or None if the curriculum predicts none."""
        return None

    def predict_logits(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """[n] mean and [n] variance of the belief about the logits of the pass rates, or None."""
        return None

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """[n] how often `rows` are drawn next, relative to the mean of all prompts: 2 is twice as often; or None.

        In a draw of as many prompts as the last one, where that matters.
        """
        return None

    def explain(self, row: int) -> dict[str, float]:
        """Why a prompt is drawn or not, in numbers: what is believed of it, and its weight in the next draw.

        The default has what `weights`, `predict` and `predict_logits` say: `weight`, `pass_rate`, `logit_mean`,
        `logit_sd`. A sampler adds its own; `retired` is 1 where it draws the prompt for re-checks only.
        """
        rows = np.asarray([row], dtype=np.int64)
        weights, rates, logits = self.weights(rows), self.predict(rows), self.predict_logits(rows)
        numbers = {} if weights is None else {"weight": float(weights[0])}
        if rates is not None:
            numbers["pass_rate"] = float(rates[0])
        if logits is not None:
            numbers |= {"logit_mean": float(logits[0][0]), "logit_sd": float(np.sqrt(logits[1][0]))}
        return numbers

    def reasons(self, row: int) -> list[str]:
        """The same in sentences for a person; none by default."""
        return []

    def metrics(self) -> dict[str, float]:
        """What to log of the last draw and observation, named `curriculum/...`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on exactly: numpy arrays and JSON scalars, no nesting.

        Arrays are copies: a checkpoint is written while the curriculum goes on.
        """
        state: dict[str, Any] = {
            "num_rows": len(self.table),
            "domain_names": json.dumps(self.table.domain_names),
            "rng": json.dumps(self.rng.bit_generator.state),
            **self.coverage.state_dict(),
        }
        if self._progress is not None:
            state |= self._progress.state_dict() | self._levels.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: the state is of another dataset, or a part of it is of another kind or size.
        """
        parts = Curriculum.state_dict(self)
        check_like(state, {name: own for name, own in parts.items() if not isinstance(own, np.ndarray)})
        if state["num_rows"] != len(self.table) or state["domain_names"] != parts["domain_names"]:
            raise CheckpointError(
                f"the saved curriculum has {state['num_rows']} prompts of domains {state['domain_names']}, the dataset "
                f"has {len(self.table)} of {parts['domain_names']}: resume with the run's own data"
            )
        check_like(state, parts)
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.coverage.load_state_dict(state)
        if self._progress is not None:
            self._progress.load_state_dict(state)
            self._levels.load_state_dict(state)
            self.domain_mix = self._progress.shares


def check_like(state: dict[str, Any], parts: dict[str, Any]) -> None:
    """Check that what a saved state has of `parts`, which keep their kind and size through a run, can stand for them.

    Raises:
        CheckpointError: a part is of another kind or size.
    """
    for name, own in parts.items():
        if name in state and not _is_like(state[name], own):
            raise CheckpointError(
                f"the saved curriculum's {name!r} is of another kind or size: it was saved by another version, or changed"
            )


def _is_like(value: Any, own: Any) -> bool:
    """Whether a part of a saved state can stand for that of a curriculum: no count, rate or logit is beyond `_MOST`."""
    if isinstance(own, np.ndarray):
        is_same = isinstance(value, np.ndarray) and value.size == own.size and value.dtype.kind == own.dtype.kind
        return is_same and bool((np.abs(value.astype(np.float64)) < _MOST).all())  # not where it is NaN
    if isinstance(own, int | float):  # a seed may be of any size
        return isinstance(value, int | float) and (abs(value) < _MOST or value == own)
    return isinstance(value, type(own))


def domain_mix(table: PromptTable, config: CurriculumConfig) -> NDArray[np.float64]:
    """[D] target share of each domain: `config.domain_mix` normalised, or by `config.domain_balance` if that is empty.

    A domain without prompts gets nothing.

    Raises:
        ConfigError: `config.domain_mix` names a domain that the data lacks, or leaves out one that it has.
    """
    if not config.domain_mix:
        counts = np.bincount(table.domains, minlength=table.num_domains).astype(np.float64)
        power = {"sqrt": 0.5, "equal": 0.0}.get(config.domain_balance, 1.0)
        shares = counts**power * (counts > 0)
        return np.asarray(shares / shares.sum())
    check_domain_names(config.domain_mix, table, "curriculum.domain_mix")
    missing = sorted(set(table.domain_names) - set(config.domain_mix))
    if missing:
        raise ConfigError(
            f"curriculum.domain_mix: no share for domain {missing[0]!r} of the data; give every domain one, or leave "
            "domain_mix empty for the shares of the data"
        )
    shares = np.asarray([config.domain_mix[name] for name in table.domain_names], dtype=np.float64)
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise ConfigError("curriculum.domain_mix: shares must be finite numbers above 0")
    shares = shares / shares.max()  # so that huge numbers have a finite sum
    return np.asarray(shares / shares.sum())


def check_domain_names(names: Iterable[str], table: PromptTable, setting: str) -> None:
    """Raises ConfigError that names the first domain that no training prompt has, and the nearest one."""
    known = set(table.domain_names)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, table.domain_names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the data has {', '.join(table.domain_names[:20])}"
            raise ConfigError(f"{setting}: no training prompt has domain {name!r}; {hint}")


def check_rows(rows: NDArray[np.int64], num_rows: int, what: str = "observation") -> None:
    """Raises ValueError that names the first row outside [0, num_rows)."""
    bad = (rows < 0) | (rows >= num_rows)
    if bad.any():
        raise ValueError(f"{what}: row {rows[int(np.argmax(bad))]} is not in the table of {num_rows} prompts")
