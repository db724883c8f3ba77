"""Stages from easy to hard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import PromptTable
from rlcs.curricula.easy_to_hard import EasyToHard

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]


def test_begins_with_the_easiest_tier(make_table: MakeTable) -> None:
    table = make_table()
    rows = EasyToHard(table, CurriculumConfig(exploration=0), seed=0).draw(60)
    assert (table.tiers[rows] == 0).all()


def test_a_mastered_domain_goes_on_and_another_waits(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(domains=2)
    curriculum = EasyToHard(table, config, seed=0)
    run(curriculum, lambda rows: np.where(table.domains[rows] == 0, 0.95, 0.3), steps=40)
    assert curriculum.stages.tolist() == [4, 0]


def test_tiers_without_prompts_are_skipped(run: Run, config: CurriculumConfig) -> None:
    table = PromptTable(np.asarray([1] * 40 + [4] * 40, np.int8), np.zeros(80, np.int16), ["only"])
    curriculum = EasyToHard(table, config, seed=0)
    assert curriculum.stages.tolist() == [1]
    run(curriculum, lambda rows: np.full(len(rows), 0.95), steps=10)
    assert curriculum.stages.tolist() == [4]


def test_ungraded_prompts_count_as_the_middle(run: Run, config: CurriculumConfig) -> None:
    table = PromptTable(np.full(50, -1, np.int8), np.zeros(50, np.int16), ["only"])
    curriculum = EasyToHard(table, config, seed=0)
    assert len(np.unique(np.concatenate(run(curriculum, lambda rows: np.full(len(rows), 0.5), steps=3)))) == 50


def test_draws_match_the_intended_shares(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=200)
    curriculum = EasyToHard(table, config, seed=0)
    run(curriculum, lambda rows: np.asarray([0.9, 0.9, 0.5, 0.1, 0.0])[table.tiers[rows]], steps=30)
    assert curriculum.stages.tolist() == [2, 2, 2]
    shares = curriculum.cell_shares.ravel()
    assert shares.sum() == pytest.approx(1)
    counts = np.zeros(len(shares))
    for _ in range(300):
        rows = curriculum.draw(32)
        counts += np.bincount(table.domains[rows] * 5 + table.tiers[rows], minlength=len(shares))
    expected = shares * counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 36  # 14 degrees of freedom, p = 0.001
