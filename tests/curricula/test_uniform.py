"""Uniform sampling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Observation, PromptTable
from rlcs.curricula.uniform import Uniform

MakeTable = Callable[..., PromptTable]


def test_every_prompt_once_before_any_twice(make_table: MakeTable, config: CurriculumConfig) -> None:
    table = make_table(per_cell=7)
    curriculum = Uniform(table, config, seed=0)
    times = np.zeros(len(table), dtype=np.int64)
    for _ in range(20):
        rows = curriculum.draw(32)
        assert len(set(rows.tolist())) == 32
        np.add.at(times, rows, 1)
        assert times.max() - times.min() <= 1


def test_domain_mix_is_kept(make_table: MakeTable) -> None:
    table = make_table(domains=2)
    curriculum = Uniform(table, CurriculumConfig(domain_mix={"domain_0": 3, "domain_1": 1}), seed=0)
    drawn = np.concatenate([curriculum.draw(10) for _ in range(20)])
    assert np.bincount(table.domains[drawn])[0] == pytest.approx(150, abs=20)


def test_domains_can_be_balanced_equally() -> None:
    table = PromptTable(np.zeros(120, np.int8), np.asarray([0] * 100 + [1] * 20, np.int16), ["large", "small"])
    rows = Uniform(table, CurriculumConfig(domain_balance="equal"), seed=0).draw(20)
    assert np.bincount(table.domains[rows]).tolist() == [10, 10]


def test_a_small_domain_leaves_its_share_to_the_others() -> None:
    table = PromptTable(np.zeros(102, np.int8), np.asarray([0] * 100 + [1] * 2, np.int16), ["large", "small"])
    curriculum = Uniform(table, CurriculumConfig(domain_mix={"large": 1, "small": 1}), seed=0)
    rows = curriculum.draw(20)
    assert len(set(rows.tolist())) == 20 and (table.domains[rows] == 1).sum() == 2


def test_more_than_there_are_repeats_as_little_as_possible(make_table: MakeTable, config: CurriculumConfig) -> None:
    table = make_table(per_cell=1, domains=1)
    rows = Uniform(table, config, seed=0).draw(12)
    assert sorted(np.bincount(rows).tolist()) == [2, 2, 2, 3, 3]


def test_seed_decides_the_draws(make_table: MakeTable, config: CurriculumConfig) -> None:
    first, same, other = (Uniform(make_table(), config, seed).draw(20).tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_expects_no_oversampling(make_table: MakeTable, config: CurriculumConfig) -> None:
    curriculum = Uniform(make_table(), config, seed=0)
    curriculum.observe(Observation(np.arange(4), np.zeros(4), np.ones(4, dtype=bool), 8))
    assert curriculum.num_prompts(32) == 32
    assert curriculum.metrics() == {"curriculum/not_valid": 1.0}  # nothing drawn yet


def test_draw_of_nothing_is_an_error(make_table: MakeTable, config: CurriculumConfig) -> None:
    with pytest.raises(ValueError, match="ask for at least 1"):
        Uniform(make_table(), config, seed=0).draw(0)


def test_row_outside_the_table_is_an_error(make_table: MakeTable, config: CurriculumConfig) -> None:
    with pytest.raises(ValueError, match="row 600 is not in the table of 600"):
        Uniform(make_table(), config, seed=0).observe(Observation(np.asarray([600]), np.ones(1), np.ones(1, bool), 8))
