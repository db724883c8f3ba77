"""The paper's curriculum: reaction to the policy, domain mix, floors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Observation, PromptTable
from rlcs.curricula.rlcs import RLCS, pass_rate_tier, tier_pass_rate

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]
AGREES = np.asarray([0.95, 0.7, 0.5, 0.1, 0.01])
CONTRADICTS = np.asarray([0.01, 0.05, 0.1, 0.6, 0.95])


def by_tier(table: PromptTable, rates: NDArray[np.float64]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    return lambda rows: rates[table.tiers[rows]]


def signal(drawn: list[NDArray[np.int64]], policy: Callable[..., NDArray[np.float64]]) -> float:
    p = policy(np.concatenate(drawn))
    return float(np.mean(p * (1 - p)))


@given(st.floats(0, 1))
def test_a_pass_rate_is_in_the_fifth_of_its_tier(p: float) -> None:
    tier = pass_rate_tier(np.asarray([p]))
    assert abs(tier_pass_rate(tier)[0] - p) <= 0.1 + 1e-6


@pytest.mark.parametrize("rates", [AGREES, CONTRADICTS, np.asarray([0.5, 0.1, 0.01, 0, 0])])
def test_draws_move_to_the_middle_within_ten_iterations(
    make_table: MakeTable, run: Run, config: CurriculumConfig, rates: NDArray[np.float64]
) -> None:
    table = make_table(per_cell=400)
    policy = by_tier(table, rates)
    drawn = run(RLCS(table, config, seed=0), policy, steps=20)
    everything = signal([np.arange(len(table))], policy)
    assert signal(drawn[10:], policy) > 1.25 * everything
    best = int(np.argmax(rates * (1 - rates)))
    late = table.tiers[np.concatenate(drawn[10:])]
    assert np.bincount(late, minlength=5).argmax() == best


def test_a_label_that_contradicts_the_policy_is_overruled(
    make_table: MakeTable, run: Run, config: CurriculumConfig
) -> None:
    table = make_table(per_cell=200)
    curriculum = RLCS(table, config, seed=0)
    assert curriculum.pass_rates[:, 0] == pytest.approx(0.9)
    run(curriculum, by_tier(table, CONTRADICTS), steps=40)
    np.testing.assert_allclose(curriculum.pass_rates[:, :5], np.tile(CONTRADICTS, (3, 1)), atol=0.15)


def test_ungraded_prompts_are_drawn_and_learned(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=20, graded=False)
    rates = np.tile(np.repeat(AGREES, 20), 3)
    drawn = run(RLCS(table, config, seed=0), lambda rows: rates[rows], steps=40)
    assert len(np.unique(np.concatenate(drawn))) > 0.95 * len(table)
    assert signal(drawn[20:], lambda rows: rates[rows]) > 1.15 * signal([np.arange(300)], lambda rows: rates[rows])


def test_mixed_graded_and_ungraded(run: Run, config: CurriculumConfig) -> None:
    table = PromptTable(np.asarray([0, -1, 4, -1] * 20, np.int8), np.zeros(80, np.int16), ["only"])
    curriculum = RLCS(table, config, seed=0)
    run(curriculum, lambda rows: np.full(len(rows), 0.5), steps=10, batch_size=16)
    assert "curriculum/pass_rate/only/ungraded" in curriculum.metrics()


def test_domains_keep_their_mix_whatever_the_tiers_do(make_table: MakeTable, run: Run) -> None:
    table = make_table()
    config = CurriculumConfig(domain_mix={"domain_0": 2, "domain_1": 1, "domain_2": 1})
    easy = np.asarray([1.0, 0.5, 0.0])  # one domain mastered, one in the middle, one hopeless
    drawn = run(RLCS(table, config, seed=0), lambda rows: easy[table.domains[rows]], steps=30, batch_size=40)
    for rows in drawn:
        counts = np.bincount(table.domains[rows], minlength=3)
        np.testing.assert_allclose(counts, len(rows) * np.asarray([0.5, 0.25, 0.25]), atol=1.01)


def test_draws_match_the_intended_shares(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=400)
    curriculum = RLCS(table, config, seed=0)
    run(curriculum, by_tier(table, AGREES), steps=15)
    shares = curriculum.cell_shares.ravel()
    cells = curriculum._passes.cell_of
    counts = np.bincount(np.concatenate([cells[curriculum.draw(32)] for _ in range(300)]), minlength=len(shares))
    expected = shares * counts.sum()
    open_cells = expected > 0
    chi_square = ((counts - expected)[open_cells] ** 2 / expected[open_cells]).sum()
    assert chi_square < 60  # 29 degrees of freedom, p = 0.0006; systematic draws vary less than multinomial ones
    assert counts[~open_cells].sum() == 0


def test_every_tier_gets_its_exploration_floor(make_table: MakeTable, run: Run) -> None:
    table = make_table()
    config = CurriculumConfig(exploration=0.2, temperature=0.02)
    curriculum = RLCS(table, config, seed=0)
    run(curriculum, by_tier(table, AGREES), steps=30)
    sizes = curriculum._passes.sizes.reshape(3, -1)
    shares = curriculum.cell_shares
    floor = 0.2 / 3 / (sizes > 0).sum(axis=1, keepdims=True)
    assert (shares[sizes > 0] >= np.broadcast_to(floor, sizes.shape)[sizes > 0] - 1e-12).all()
    assert (shares[sizes == 0] == 0).all()


def test_no_prompt_starves(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=20)
    drawn = run(RLCS(table, config, seed=0), by_tier(table, AGREES), steps=150)
    times = np.bincount(np.concatenate(drawn), minlength=len(table))
    assert times.min() >= 1


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_run_without_signal_stays_even_and_recovers(
    make_table: MakeTable, run: Run, config: CurriculumConfig, rate: float
) -> None:
    table = make_table(per_cell=100)
    curriculum = RLCS(table, config, seed=0)
    run(curriculum, by_tier(table, AGREES), steps=10)
    drawn = run(curriculum, lambda rows: np.full(len(rows), rate), steps=30)  # a verifier that broke
    assert np.bincount(table.tiers[np.concatenate(drawn[10:])]).min() > 50
    assert curriculum.num_prompts(32) == 64  # the bound of the expansion
    policy = by_tier(table, AGREES)
    drawn = run(curriculum, policy, steps=60)
    assert signal(drawn[40:], policy) > 1.15 * signal([np.arange(len(table))], policy)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_tiny_tables(config: CurriculumConfig, run: Run, n: int) -> None:
    table = PromptTable(np.asarray([0, 4][:n], np.int8), np.zeros(min(n, 2), np.int16), ["only"])
    curriculum = RLCS(table, config, seed=0)
    for rows in run(curriculum, lambda rows: np.full(len(rows), 0.5), steps=10, batch_size=n):
        assert len(rows) == n
        assert np.bincount(rows, minlength=len(table)).max() <= -(-n // len(table))


def test_draws_are_distinct_and_in_random_order(make_table: MakeTable, config: CurriculumConfig) -> None:
    table = make_table(per_cell=10)
    curriculum = RLCS(table, config, seed=0)
    rows = curriculum.draw(150)
    assert len(set(rows.tolist())) == 150
    assert (np.diff(table.domains[rows]) < 0).any()
    assert set(curriculum.draw(150).tolist()) == set(range(150))


def test_repeated_rows_in_one_observation_are_both_counted(config: CurriculumConfig) -> None:
    table = PromptTable(np.asarray([2, 2], np.int8), np.zeros(2, np.int16), ["only"])
    one, two = RLCS(table, config, seed=0), RLCS(table, config, seed=0)
    one.observe(Observation(np.asarray([0]), np.asarray([0.75]), np.zeros(1, bool), 16))
    two.observe(Observation(np.asarray([0, 0]), np.asarray([1.0, 0.5]), np.zeros(2, bool), 8))
    assert one.state_dict()["right"].tolist() == two.state_dict()["right"].tolist()


def test_an_empty_observation_changes_nothing(make_table: MakeTable, config: CurriculumConfig) -> None:
    curriculum = RLCS(make_table(), config, seed=0)
    before = curriculum.state_dict()
    curriculum.observe(Observation(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool), 8))
    assert_same_state(before, curriculum.state_dict())


def test_many_domains_keep_the_metrics_short(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=1, domains=40)
    curriculum = RLCS(table, config, seed=0)
    run(curriculum, by_tier(table, AGREES), steps=2)
    assert len(curriculum.metrics()) < 20


def test_metrics_are_finite_numbers(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    curriculum = RLCS(make_table(), config, seed=0)
    run(curriculum, by_tier(make_table(), AGREES), steps=3)
    metrics = curriculum.metrics()
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["curriculum/expansion"] >= 1
    assert sum(metrics[f"curriculum/drawn/tier_{t}"] for t in range(5)) == pytest.approx(1)


def assert_same_state(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], err_msg=key)


def test_explains_why_a_prompt_is_drawn(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=50)
    curriculum = RLCS(table, config, seed=0)
    run(curriculum, by_tier(table, AGREES), steps=20)
    explained = [curriculum.explain(row) for row in range(len(table))]
    weights = np.asarray([e["weight"] for e in explained])
    assert weights.mean() == pytest.approx(1)
    assert weights[table.tiers == 2].mean() > weights[table.tiers == 4].mean()
    assert {e["rolled_out"] for e in explained} == {0.0, 1.0}
