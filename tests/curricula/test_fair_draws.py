"""Statistics of every sampler: draws match the weights that it tells, and no prompt waits beyond its bound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, PromptTable
from rlcs.curricula.loading import BUILTIN_CURRICULA, load_curriculum

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]
RATES = np.asarray([0.95, 0.7, 0.5, 0.1, 0.01])
MIX = {"domain_0": 3.0, "domain_1": 1.0}
SETTINGS = [(kind, {}) for kind in sorted(BUILTIN_CURRICULA)] + [
    ("posterior", {"estimator": "beta"}),
    ("posterior", {"thompson": True}),
    ("rlcs", {"exploration": 0.5}),
    ("easy_to_hard", {"exploration": 0.0}),
]


def warm(kind: str, settings: dict[str, object], table: PromptTable, run: Run) -> Curriculum:
    curriculum = load_curriculum(kind, table, CurriculumConfig(domain_mix=MIX, **settings), seed=0)  # type: ignore[arg-type]
    run(curriculum, lambda rows: RATES[table.tiers[rows]], steps=12, batch_size=40)
    return curriculum


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=str)
def test_draws_match_the_weights_that_are_told(
    kind: str, settings: dict[str, object], make_table: MakeTable, run: Run
) -> None:
    table = make_table(per_cell=200, domains=2)
    curriculum = warm(kind, settings, table, run)
    curriculum.draw(16)  # what is told is told of a draw of the last one's size
    weights = curriculum.weights(np.arange(len(table)))
    assert weights is not None and weights.mean() == pytest.approx(1)
    # groups of prompts of one domain, tier and weight, the small ones of a domain together
    cells = np.unique(np.stack([table.domains, table.tiers, np.round(weights, 6)]), axis=1, return_inverse=True)[1]
    counts = np.zeros(cells.max() + 1)
    for _ in range(500):
        counts += np.bincount(cells[curriculum.draw(16)], minlength=len(counts))
    expected = np.bincount(cells, weights) / len(table) * counts.sum()
    assert counts[expected == 0].sum() == 0
    tested = expected >= 8
    chi_square = ((counts - expected)[tested] ** 2 / expected[tested]).sum()
    degrees = tested.sum() - 1
    assert chi_square < degrees + 3.5 * np.sqrt(2 * degrees) + 6  # draws vary less than multinomial ones
    rest = expected[~tested].sum()
    assert abs(counts[~tested].sum() - rest) <= 4 * np.sqrt(rest) + 1


@pytest.mark.parametrize("kind", ["uniform", "dapo"])
def test_prompts_of_a_domain_are_drawn_equally_often(kind: str, make_table: MakeTable, run: Run) -> None:
    table = make_table(per_cell=8, domains=2)
    curriculum = load_curriculum(kind, table, CurriculumConfig(domain_mix=MIX), seed=0)
    drawn = run(curriculum, lambda rows: RATES[table.tiers[rows]], steps=100, batch_size=16)
    times = np.bincount(np.concatenate(drawn), minlength=len(table))
    for domain in (0, 1):
        own = times[table.domains == domain]
        assert own.max() - own.min() <= 1


def longest_waits(drawn: list[NDArray[np.int64]], num_rows: int) -> NDArray[np.float64]:
    """[N] iterations between two draws of each prompt, at most; the ends of the run count as draws."""
    last, longest = np.zeros(num_rows), np.zeros(num_rows)
    for step, rows in enumerate(drawn):
        longest[rows] = np.maximum(longest[rows], step - last[rows])
        last[rows] = step
    return np.maximum(longest, len(drawn) - last)


BOUNDS = {
    # draws that a prompt waits for at most, of those that come by at the rate of the second number, which is a part of
    # its domain's draws; see the docstrings of the modules
    "uniform": (2 * 25, 1.0),
    "dapo": (2 * 25, 1.0),
    "easy_to_hard": (2 * 5, 0.3 / 5),
    "rlcs": (2 * 25, 0.3 / 11),
    "posterior": (25, 0.3),
}


@pytest.mark.parametrize("kind", sorted(BUILTIN_CURRICULA))
@pytest.mark.parametrize("balance", ["data", "learning_progress"])
def test_no_prompt_waits_beyond_its_bound(kind: str, balance: str, make_table: MakeTable, run: Run) -> None:
    table = make_table(per_cell=5, domains=2)
    config = CurriculumConfig(exploration=0.3, expansion=False, domain_balance=balance, domain_mix=MIX)  # type: ignore[arg-type]
    curriculum = load_curriculum(kind, table, config, seed=0)
    easy = np.asarray([1.0, 1.0, 0.5, 0.0, 0.0])
    drawn = run(curriculum, lambda rows: easy[table.tiers[rows]], steps=700, batch_size=16)
    waits = longest_waits(drawn, len(table))
    for domain, share in enumerate((0.75, 0.25)):
        draws, part = BOUNDS[kind]
        rate = 16 * part * share * (config.domain_floor if balance == "learning_progress" else 1)
        chance = 3.5 * np.sqrt(draws) if rate % 1 else 0  # what is not a whole number of draws comes by chance
        assert draws / rate < 700 or balance == "learning_progress"  # or this run would show nothing
        assert waits[table.domains == domain].max() <= (draws + chance) / rate + 1
