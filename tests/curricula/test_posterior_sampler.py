"""Sampling by calibrated beliefs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Observation, PromptTable
from rlcs.curricula.posterior_sampler import Posterior

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]
AGREES = np.asarray([0.95, 0.7, 0.5, 0.1, 0.01])


def rates(table: PromptTable, by_tier: NDArray[np.float64]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    return lambda rows: by_tier[table.tiers[rows]]


def signal(drawn: list[NDArray[np.int64]], policy: Callable[..., NDArray[np.float64]]) -> float:
    p = policy(np.concatenate(drawn))
    return float(np.mean(p * (1 - p)))


@pytest.mark.parametrize("settings", [{}, {"estimator": "beta"}, {"utility": "useful"}, {"thompson": True}])
def test_draws_what_teaches(make_table: MakeTable, run: Run, settings: dict[str, object]) -> None:
    table = make_table(per_cell=200)
    policy = rates(table, AGREES)
    drawn = run(Posterior(table, CurriculumConfig(**settings), seed=0), policy, steps=30)
    # p(1 - p) is flat enough between 0.3 and 0.7 that the useful share hardly prefers the middle
    assert signal(drawn[10:], policy) > (1.5 if settings.get("utility") != "useful" else 1.35) * 0.1215


@pytest.mark.parametrize("settings", [{}, {"thompson": True}, {"estimator": "beta"}])
def test_draws_match_the_intended_weights(make_table: MakeTable, run: Run, settings: dict[str, object]) -> None:
    table = make_table(per_cell=300)
    curriculum = Posterior(table, CurriculumConfig(**settings), seed=0)
    run(curriculum, rates(table, AGREES), steps=10)
    cells, sizes = curriculum._passes.cell_of, curriculum._passes.sizes
    shares = curriculum.draw_shares(16)
    assert shares.sum() == pytest.approx(16)
    np.testing.assert_allclose(shares.sum(axis=1), 16 / 3)
    by_sweep = shares[:, -1:] * sizes.reshape(3, -1) / sizes.reshape(3, -1).sum(axis=1, keepdims=True)
    expected = 400 * (shares[:, :-1] + by_sweep).ravel()
    counts = np.zeros(len(expected))
    for _ in range(400):
        counts += np.bincount(cells[curriculum.draw(16)], minlength=len(expected))
    assert counts[sizes == 0].sum() == 0
    tested = expected > 5
    chi_square = ((counts - expected)[tested] ** 2 / expected[tested]).sum()
    assert chi_square < tested.sum() + 4 * np.sqrt(2 * tested.sum())
    assert counts[~tested].sum() == pytest.approx(expected[~tested].sum(), abs=60)


def test_members_of_a_cell_are_drawn_evenly(make_table: MakeTable) -> None:
    table = make_table(per_cell=20)
    curriculum = Posterior(table, CurriculumConfig(exploration=0), seed=0)
    times = np.bincount(np.concatenate([curriculum.draw(20) for _ in range(100)]), minlength=len(table))
    for cell in np.unique(curriculum._passes.cell_of):
        members = times[curriculum._passes.cell_of == cell]
        assert members.max() - members.min() <= 1


def test_no_prompt_starves_beyond_its_bound(make_table: MakeTable, run: Run) -> None:
    table = make_table(per_cell=10, domains=2)  # 100 prompts
    curriculum = Posterior(table, CurriculumConfig(exploration=0.25, expansion=False), seed=0)
    drawn = run(curriculum, rates(table, np.asarray([1.0, 1.0, 0.5, 0.0, 0.0])), steps=200, batch_size=16)
    last = np.zeros(len(table))
    longest = np.zeros(len(table))
    for step, rows in enumerate(drawn):
        longest[rows] = np.maximum(longest[rows], step - last[rows])
        last[rows] = step
    longest = np.maximum(longest, len(drawn) - last)
    assert longest.max() <= 100 / (0.25 * 16) + 2  # the rounding of the draws may cost an iteration


def test_domains_keep_their_mix(make_table: MakeTable, run: Run) -> None:
    table = make_table()
    config = CurriculumConfig(domain_mix={"domain_0": 2, "domain_1": 1, "domain_2": 1})
    easy = np.asarray([1.0, 0.5, 0.0])
    drawn = run(Posterior(table, config, seed=0), lambda rows: easy[table.domains[rows]], steps=30, batch_size=40)
    for rows in drawn:
        counts = np.bincount(table.domains[rows], minlength=3)
        np.testing.assert_allclose(counts, len(rows) * np.asarray([0.5, 0.25, 0.25]), atol=1.01)


def test_recovers_from_a_verifier_that_broke(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=100)
    policy = rates(table, AGREES)
    curriculum = Posterior(table, config, seed=0)
    before = run(curriculum, policy, steps=30)
    run(curriculum, lambda rows: np.zeros(len(rows)), steps=15)
    after = run(curriculum, policy, steps=20)
    assert signal(after[10:], policy) > 0.9 * signal(before[15:], policy)


def test_a_forgotten_domain_is_noticed(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=100, domains=2)
    curriculum = Posterior(table, config, seed=0)
    run(curriculum, lambda rows: np.full(len(rows), 0.98), steps=30)
    run(curriculum, lambda rows: np.where(table.domains[rows] == 1, 0.3, 0.98), steps=10)
    rows = np.arange(len(table))
    assert curriculum.predict(rows[table.domains == 1]).mean() < 0.55
    assert curriculum.predict(rows[table.domains == 0]).mean() > 0.85


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_signal_at_all_is_survived(make_table: MakeTable, run: Run, config: CurriculumConfig, rate: float) -> None:
    curriculum = Posterior(make_table(), config, seed=0)
    run(curriculum, lambda rows: np.full(len(rows), rate), steps=60)
    assert all(np.isfinite(v) for v in curriculum.metrics().values())
    assert curriculum.num_prompts(32) == 64  # the bound of the expansion


def test_expansion_follows_the_predicted_useful_share(
    make_table: MakeTable, run: Run, config: CurriculumConfig
) -> None:
    table = make_table(per_cell=200)
    curriculum = Posterior(table, config, seed=0)
    run(curriculum, rates(table, AGREES), steps=30)
    wanted = curriculum.num_prompts(100)
    assert wanted == pytest.approx(100 / curriculum.predicted_useful(wanted), abs=2)
    assert 100 < wanted < 140


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_tables(config: CurriculumConfig, run: Run, n: int) -> None:
    table = PromptTable(np.asarray([0, -1][:n], np.int8), np.zeros(n, np.int16), ["only"])
    curriculum = Posterior(table, config, seed=0)
    for rows in run(curriculum, lambda rows: np.full(len(rows), 0.5), steps=10, batch_size=5):
        assert len(rows) == 5 and set(rows.tolist()) == set(range(n))


def test_rewards_between_0_and_1_are_taken(make_table: MakeTable, config: CurriculumConfig) -> None:
    curriculum = Posterior(make_table(), config, seed=0)
    rows = curriculum.draw(32)
    curriculum.observe(Observation(rows, np.full(32, 0.3333), np.zeros(32, bool), 8))
    assert curriculum.predict(rows).mean() == pytest.approx(0.38, abs=0.1)


def test_duplicated_rows_in_an_observation_are_counted_together(config: CurriculumConfig) -> None:
    table = PromptTable(np.asarray([2, 2], np.int8), np.zeros(2, np.int16), ["only"])
    one, two = Posterior(table, config, seed=0), Posterior(table, config, seed=0)
    one.observe(Observation(np.asarray([0]), np.asarray([0.75]), np.zeros(1, bool), 16))
    two.observe(Observation(np.asarray([0, 0]), np.asarray([1.0, 0.5]), np.zeros(2, bool), 8))
    assert one.predict(np.arange(2)).tolist() == two.predict(np.arange(2)).tolist()


def test_explains_why_a_prompt_is_drawn(make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=50)
    curriculum = Posterior(table, config, seed=0)
    run(curriculum, rates(table, AGREES), steps=20)
    explained = [curriculum.explain(row) for row in range(len(table))]
    weights = np.asarray([e["weight"] for e in explained])
    assert weights.mean() == pytest.approx(1)
    assert weights[table.tiers == 2].mean() > 3 * weights[table.tiers == 4].mean()
    assert all(e["pass_rate_low"] <= e["pass_rate"] <= e["pass_rate_high"] for e in explained)
    assert sum(e["times_rolled_out"] for e in explained) >= 20 * 32


def test_the_range_of_a_pass_rate_has_the_luck_in_it(make_table: MakeTable, run: Run) -> None:
    table = make_table(per_cell=20, domains=1)
    curriculum = Posterior(table, CurriculumConfig(guess_rate={"domain_0": 0.4}), seed=0)
    run(curriculum, lambda rows: np.full(len(rows), 0.4), steps=20)
    for row in range(0, 100, 7):
        explained = curriculum.explain(row)
        assert 0.4 <= explained["pass_rate_low"] <= explained["pass_rate"] <= explained["pass_rate_high"]


def test_the_useful_share_is_foreseen_where_each_prompt_is_always_answered_alike(make_table: MakeTable) -> None:
    table = make_table(per_cell=400, domains=1)
    curriculum = Posterior(table, CurriculumConfig(kind="posterior"), seed=0)
    rng = np.random.default_rng(0)
    rates = np.where(rng.random(len(table)) < 0.1, 0.5, rng.integers(2, size=len(table)))  # nine in ten: 0 or 1
    useful = []
    for _ in range(40):
        rows = curriculum.draw(32)
        foreseen = curriculum.predicted_useful(32)
        passed = rng.binomial(8, rates[rows]) / 8
        degenerate = (passed == 0) | (passed == 1)
        useful.append((foreseen, float((~degenerate).mean())))
        curriculum.observe(Observation(rows, passed, degenerate, 8))
    foreseen, seen = np.asarray(useful[10:]).mean(axis=0)
    assert foreseen == pytest.approx(seen, abs=0.08)


@pytest.mark.parametrize(("teaching", "least"), [(0.1, 10), (1.0, 1)])
def test_prompts_rest_where_few_of_them_teach(make_table: MakeTable, teaching: float, least: float) -> None:
    table = make_table(per_cell=400, domains=1)
    curriculum = Posterior(table, CurriculumConfig(kind="posterior", interval=30, exploration=0.0), seed=0)
    rng = np.random.default_rng(0)
    policy = np.where(rng.random(len(table)) < teaching, 0.5, rng.integers(2, size=len(table)))
    last: dict[int, int] = {}
    gaps = []
    for step in range(80):
        rows = curriculum.draw(16)
        if step >= 30:
            gaps += [step - last[row] for row in rows.tolist() if row in last]
        last |= dict.fromkeys(rows.tolist(), step)
        passed = rng.binomial(8, policy[rows]) / 8
        curriculum.observe(Observation(rows, passed, (passed == 0) | (passed == 1), 8))
    assert curriculum.intervals[0] == pytest.approx(20, abs=10) if teaching < 1 else curriculum.intervals[0] < 3
    assert not gaps or np.mean(gaps) >= least


@pytest.mark.parametrize("swings", [False, True])
def test_prompts_rest_where_they_change_from_one_rollout_to_the_next(make_table: MakeTable, swings: bool) -> None:
    table = make_table(per_cell=400, domains=1)
    curriculum = Posterior(table, CurriculumConfig(kind="posterior", interval=40), seed=0)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=len(table))
    for _ in range(60):
        rows = curriculum.draw(64)
        passed = rng.binomial(8, 1 / (1 + np.exp(-logits[rows]))) / 8
        curriculum.observe(Observation(rows, passed, (passed == 0) | (passed == 1), 8))
        if swings:  # what is learned from a prompt turns its answers over, for better or worse
            logits[rows] += rng.normal(scale=2.0, size=len(rows))
    assert (curriculum.estimator.volatility[0] > 1) == swings
    assert curriculum.intervals[0] > 20 if swings else curriculum.intervals[0] < 5
