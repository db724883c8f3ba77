"""What every sampler does with bad input: a clear error, or the documented fallback, never a silent skew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, Observation, PromptTable
from rlcs.curricula.loading import BUILTIN_CURRICULA, load_curriculum
from rlcs.errors import ConfigError, DataError

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]
KINDS = [*sorted(BUILTIN_CURRICULA), "beta"]
RATES = np.asarray([0.95, 0.7, 0.5, 0.1, 0.01, 0.5])


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[..., Curriculum]:
    """A maker of each sampler: table and settings to a curriculum; `beta` is posterior with that estimator."""

    def make_it(table: PromptTable, **settings: Any) -> Curriculum:
        if request.param == "beta":
            return load_curriculum("posterior", table, CurriculumConfig(estimator="beta", **settings), seed=0)
        return load_curriculum(request.param, table, CurriculumConfig(**settings), seed=0)

    return make_it


def table_of(tiers: list[int], domains: list[int] | None = None) -> PromptTable:
    domains = domains or [0] * len(tiers)
    names = [f"domain_{d}" for d in range(max(domains) + 1)]
    return PromptTable(np.asarray(tiers, np.int8), np.asarray(domains, np.int16), names)


@pytest.mark.parametrize("tier", [-2, 5, 127])
def test_a_tier_out_of_range_reaches_no_sampler(tier: int) -> None:
    with pytest.raises(DataError, match=f"training prompt 1: tier {tier} is not in 0 to 4"):
        table_of([0, tier])


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_bad_pass_rate_is_refused_and_leaves_the_sampler_as_it_was(
    make: Callable[..., Curriculum], make_table: MakeTable, rate: float
) -> None:
    curriculum = make(make_table())
    before = curriculum.state_dict()
    with pytest.raises(ValueError, match="pass rate .* of row 1 is not in"):
        curriculum.observe(Observation(np.arange(3), np.asarray([0.5, rate, 0.5]), np.zeros(3, bool), 8))
    for key, value in curriculum.state_dict().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize("row", [-1, 600])
def test_a_row_outside_of_the_table_is_refused_and_leaves_the_sampler_as_it_was(
    make: Callable[..., Curriculum], make_table: MakeTable, row: int
) -> None:
    curriculum = make(make_table(), domain_balance="learning_progress")
    before = curriculum.state_dict()
    with pytest.raises(ValueError, match=f"row {row} is not in the table of 600"):
        curriculum.observe(Observation(np.asarray([0, row]), np.full(2, 0.5), np.zeros(2, bool), 8))
    for key, value in curriculum.state_dict().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


def test_an_unknown_domain_is_named_with_the_nearest(make: Callable[..., Curriculum], make_table: MakeTable) -> None:
    with pytest.raises(ConfigError, match=r"domain_mix: .*'domian_0'; did you mean 'domain_0'"):
        make(make_table(domains=1), domain_mix={"domian_0": 1.0})


def test_an_unknown_domain_with_a_guess_rate_is_named(make_table: MakeTable) -> None:
    config = CurriculumConfig(guess_rate={"choices": 0.25})
    with pytest.raises(
        ConfigError, match=r"guess_rate: no training prompt has domain 'choices'; the data has domain_0"
    ):
        load_curriculum("posterior", make_table(domains=1), config, seed=0)


@pytest.mark.parametrize("mix", [{"a": 0.0, "b": 0.0}, {"a": -1.0, "b": 2.0}, {"a": float("nan"), "b": 1.0}])
def test_weights_that_sum_to_nothing_are_refused_with_the_settings(mix: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="domain_mix"):
        CurriculumConfig(domain_mix=mix)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "often"])
def test_a_guess_rate_out_of_range_is_refused_with_the_settings(rate: Any) -> None:
    with pytest.raises(ValidationError, match="guess_rate"):
        CurriculumConfig(guess_rate={"a": rate})


def test_huge_shares_have_a_finite_sum(make: Callable[..., Curriculum], make_table: MakeTable) -> None:
    curriculum = make(make_table(domains=2), domain_mix={"domain_0": 1e308, "domain_1": 1e308})
    assert np.bincount(curriculum.table.domains[curriculum.draw(20)]).tolist() == [10, 10]


@pytest.mark.parametrize("rates", [np.zeros(6), np.ones(6)])
def test_weights_that_vanish_fall_back_to_even_draws(
    make: Callable[..., Curriculum], make_table: MakeTable, run: Run, rates: NDArray[np.float64]
) -> None:
    table = make_table(per_cell=20, domains=2)
    mix = {"domain_0": 1.0, "domain_1": 1.0}
    curriculum = make(table, exploration=0.0, temperature=1e-3, utility_temperature=1e-6, domain_mix=mix)
    drawn = run(curriculum, lambda rows: rates[table.tiers[rows]], steps=20)
    for rows in drawn:
        assert len(set(rows.tolist())) == len(rows)
        assert abs(np.bincount(table.domains[rows], minlength=2)[0] - len(rows) / 2) <= 1
    assert all(np.isfinite(value) for value in curriculum.metrics().values())


@pytest.mark.parametrize("tiers", [[4] * 30, [0] * 15 + [4] * 15, [-1] * 30, [-1] * 10 + [2] * 20])
def test_an_empty_tier_gets_nothing_and_skews_nothing(
    make: Callable[..., Curriculum], run: Run, tiers: list[int]
) -> None:
    curriculum = make(table_of(tiers, [0, 1] * 15), domain_mix={"domain_0": 1.0, "domain_1": 1.0})
    drawn = run(curriculum, lambda rows: RATES[np.asarray(tiers)[rows]], steps=30, batch_size=10)
    for rows in drawn:
        assert abs(int((curriculum.table.domains[rows] == 0).sum()) - len(rows) / 2) <= 1
    assert all(np.isfinite(value) for value in curriculum.metrics().values())


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_prompts_than_a_batch_are_repeated_as_little_as_possible(
    make: Callable[..., Curriculum], run: Run, n: int
) -> None:
    curriculum = make(table_of([0, -1, 4][:n]))
    for rows in run(curriculum, lambda rows: np.full(len(rows), 0.5), steps=10, batch_size=8):
        times = np.bincount(rows, minlength=n)
        assert times.sum() == 8 and times.max() - times.min() <= 1


@pytest.mark.parametrize("n", [0, -3])
def test_a_draw_of_nothing_is_refused(make: Callable[..., Curriculum], make_table: MakeTable, n: int) -> None:
    with pytest.raises(ValueError, match="ask for at least 1"):
        make(make_table()).draw(n)


def test_an_empty_observation_changes_nothing(make: Callable[..., Curriculum], make_table: MakeTable) -> None:
    curriculum = make(make_table(), domain_balance="learning_progress")
    before = curriculum.state_dict()
    curriculum.observe(Observation(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool), 8))
    for key, value in curriculum.state_dict().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)
