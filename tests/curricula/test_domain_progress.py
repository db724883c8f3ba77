"""Shares of the domains by learning progress, for every sampler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Observation, PromptTable
from rlcs.curricula.domain_progress import DomainProgress, LabelLevels
from rlcs.curricula.loading import BUILTIN_CURRICULA, load_curriculum

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]
KINDS = sorted(BUILTIN_CURRICULA)
BY_PROGRESS = CurriculumConfig(domain_balance="learning_progress", domain_floor=0.3)
TIERS = np.asarray([0.8, 0.65, 0.5, 0.35, 0.2])


def learner(
    table: PromptTable, speeds: list[float], batch_size: int = 64
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Pass rates that change by `speeds` [D] at each call."""
    step = 0

    def policy(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        nonlocal step
        step += 1
        change = np.asarray(speeds)[table.domains[rows]] * step
        return np.clip(TIERS[table.tiers[rows]] + change, 0.02, 0.98)

    return policy


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
    st.floats(0.01, 1),
)
def test_no_domain_falls_below_its_floor(domains: list[tuple[float, float, float]], floor: float) -> None:
    base, first, last = (np.asarray(x) for x in zip(*domains, strict=True))
    base = base / base.sum()
    progress = DomainProgress(base, floor)
    for t in np.linspace(0, 1, 40):
        progress.observe(first + t * (last - first))
        assert progress.shares.sum() == pytest.approx(1)
        assert (progress.shares >= floor * base - 1e-12).all()


def test_domains_that_change_alike_keep_their_shares() -> None:
    base = np.asarray([0.7, 0.2, 0.1])
    progress = DomainProgress(base, 0.2)
    for step in range(60):
        progress.observe(np.asarray([0.2, 0.8, 0.5]) + 0.005 * step * np.asarray([1, -1, 1]))
    np.testing.assert_allclose(progress.shares, base)
    np.testing.assert_allclose(np.abs(progress.change), 0.045, rtol=0.1)  # 9 iterations of change


def test_the_shares_are_the_base_at_first_and_without_change() -> None:
    base = np.asarray([0.9, 0.1])
    progress = DomainProgress(base, 0.2)
    for _ in range(50):
        progress.observe(np.asarray([0.3, np.nan]))
        assert progress.shares.tolist() == base.tolist()


def test_levels_do_not_mistake_harder_tiers_for_forgetting() -> None:
    levels = LabelLevels(np.asarray([[50, 50]]), keep=0.9)
    levels.observe(np.asarray([[9.0, 1.0]]), np.asarray([[9.0, 0.0]]))
    before = levels.levels
    for _ in range(20):
        levels.observe(np.asarray([[1.0, 9.0]]), np.asarray([[1.0, 0.0]]))
    assert before.tolist() == levels.levels.tolist() == [0.5]
    assert np.isnan(LabelLevels(np.asarray([[5, 5]]), keep=0.9).levels).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_domain_that_learns_is_drawn_more_and_the_others_keep_their_floor(
    kind: str, make_table: MakeTable, run: Run
) -> None:
    table = make_table(per_cell=60, domains=3)
    curriculum = load_curriculum(kind, table, BY_PROGRESS, seed=0)
    drawn = run(curriculum, learner(table, [0.0, 0.006, 0.0]), steps=60, batch_size=60)
    shares = np.stack([np.bincount(table.domains[rows], minlength=3) / len(rows) for rows in drawn[30:]])
    assert shares.mean(axis=0)[1] > 0.42
    # each draw rounds a domain's share to a whole number
    assert (shares.min(axis=0) >= 0.3 / 3 - 1 / 60).all()


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_the_shares_that_progress_gives(kind: str, make_table: MakeTable, run: Run) -> None:
    table = make_table(per_cell=60, domains=3)
    curriculum = load_curriculum(kind, table, BY_PROGRESS, seed=0)
    run(curriculum, learner(table, [0.0, 0.006, -0.003]), steps=30, batch_size=60)
    counts = np.zeros(3)
    for _ in range(200):
        counts += np.bincount(table.domains[curriculum.draw(16)], minlength=3)
    expected = curriculum.domain_mix * counts.sum()
    assert not np.allclose(curriculum.domain_mix, 1 / 3, atol=0.02)
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # 2 degrees of freedom, p = 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_keeps_its_shares(kind: str, make_table: MakeTable, run: Run) -> None:
    table = make_table(per_cell=20, domains=3)
    one = load_curriculum(kind, table, BY_PROGRESS, seed=0)
    run(one, learner(table, [0.0, 0.008, 0.0]), steps=20)
    two = load_curriculum(kind, table, BY_PROGRESS, seed=5)
    two.load_state_dict(one.state_dict())
    assert two.domain_mix.tolist() == one.domain_mix.tolist()
    drawn = [run(x, learner(table, [0.0, 0.008, 0.0]), steps=5, seed=1) for x in (one, two)]
    assert [rows.tolist() for rows in drawn[0]] == [rows.tolist() for rows in drawn[1]]
    assert two.domain_mix.tolist() == one.domain_mix.tolist()


def test_a_mix_given_is_what_progress_moves(make_table: MakeTable) -> None:
    config = CurriculumConfig(
        domain_balance="learning_progress", domain_mix={"domain_0": 8, "domain_1": 1, "domain_2": 1}
    )
    curriculum = load_curriculum("uniform", make_table(), config, seed=0)
    np.testing.assert_allclose(curriculum.domain_mix, [0.8, 0.1, 0.1])
    assert np.bincount(curriculum.table.domains[curriculum.draw(20)]).tolist() == [16, 2, 2]


def test_a_plug_in_follows_progress_by_one_line(tmp_path: Path, make_table: MakeTable) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from rlcs.curricula.base import Curriculum\n"
        "class Mine(Curriculum):\n"
        "    def draw(self, n):\n"
        "        return self.rng.integers(len(self.table), size=n)\n"
        "    def observe(self, observation):\n"
        "        self.notice(observation)\n"
    )
    table = make_table(domains=2)
    curriculum = load_curriculum(f"{file}:Mine", table, BY_PROGRESS, seed=0)
    for step in range(40):
        rows = curriculum.draw(200)
        rates = np.where(table.domains[rows] == 0, 0.1 + 0.02 * step, 0.5)
        curriculum.observe(Observation(rows, rates, np.zeros(200, bool), 8))
    assert curriculum.domain_mix[0] > 0.8
