"""The estimators of pass rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import PromptTable
from rlcs.curricula.discounted_beta import DiscountedBeta
from rlcs.curricula.posterior import Estimator, ItemResponse
from rlcs.curricula.quadrature import expect, sigmoid
from rlcs.curricula.state import PromptState
from rlcs.errors import CheckpointError

MakeTable = Callable[..., PromptTable]
Floats = NDArray[np.float64]


@pytest.fixture(params=[ItemResponse, DiscountedBeta])
def kind(request: pytest.FixtureRequest) -> type[Estimator]:
    return request.param  # type: ignore[no-any-return]


def make(kind: type[Estimator], table: PromptTable, config: CurriculumConfig | None = None) -> Estimator:
    return kind(table, config or CurriculumConfig(), PromptState(len(table)))


def feed(
    estimator: Estimator, rates: Floats, steps: int, *, count: int = 60, seed: int = 0
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Observe random rows; predictions before each, what was seen, and the rows."""
    rng = np.random.default_rng(seed)
    predicted, observed, seen = [], [], []
    for _ in range(steps):
        rows = rng.choice(len(rates), size=count, replace=False)
        right = rng.binomial(8, rates[rows]).astype(np.float64)
        predicted.append(estimator.predict(rows))
        observed.append(right / 8)
        seen.append(rows)
        estimator._state.step += 1
        estimator.observe(rows, right, np.full(count, 8))
    return np.concatenate(predicted), np.concatenate(observed), np.concatenate(seen)


def rates_of(table: PromptTable, ability: float, rng: np.random.Generator) -> Floats:
    difficulty = (table.tiers - 2.0) * 1.5 + rng.standard_normal(len(table))
    return sigmoid(ability - difficulty)


def test_unseen_prompts_are_predicted_from_their_label(kind: type[Estimator], make_table: MakeTable) -> None:
    table = make_table()
    estimator = make(kind, table)
    by_tier = [estimator.predict(np.flatnonzero(table.tiers == tier)).mean() for tier in range(5)]
    assert (np.diff(by_tier) < 0).all()
    assert by_tier[2] == pytest.approx(0.5, abs=0.01)


def test_predictions_are_calibrated(kind: type[Estimator], make_table: MakeTable) -> None:
    table = make_table(per_cell=100)
    rates = rates_of(table, 0.5, np.random.default_rng(0))
    predicted, observed, _ = feed(make(kind, table), rates, steps=80)
    late = slice(len(predicted) // 4, None)
    bins = np.minimum((predicted[late] * 10).astype(int), 9)
    gaps = np.bincount(bins, predicted[late] - observed[late], minlength=10)
    assert np.abs(gaps).sum() / len(bins) < 0.06


def test_the_filter_beats_the_mean_of_the_label(make_table: MakeTable) -> None:
    table = make_table(per_cell=40)
    rates = rates_of(table, 0.5, np.random.default_rng(0))
    predicted, _, rows = feed(make(ItemResponse, table), rates, steps=60)
    late = slice(len(rows) // 2, None)
    by_label = np.asarray([rates[table.tiers == t].mean() for t in range(5)])[table.tiers[rows[late]]]
    error = np.mean((predicted[late] - rates[rows[late]]) ** 2)
    assert error < 0.5 * np.mean((by_label - rates[rows[late]]) ** 2)


def test_progress_reaches_prompts_that_were_not_seen(make_table: MakeTable) -> None:
    table = make_table(per_cell=100)
    estimator = make(ItemResponse, table)
    rng = np.random.default_rng(0)
    feed(estimator, rates_of(table, -2.0, rng), steps=20)
    unseen = np.flatnonzero(estimator._state.times == 0)
    before = estimator.predict(unseen).mean()
    feed(estimator, rates_of(table, 2.0, np.random.default_rng(0)), steps=20)
    still = unseen[estimator._state.times[unseen] == 0]
    assert estimator.predict(still).mean() > before + 0.3


def test_a_rollback_is_followed_within_a_few_iterations(make_table: MakeTable) -> None:
    table = make_table(per_cell=100)
    estimator = make(ItemResponse, table)
    feed(estimator, rates_of(table, 2.0, np.random.default_rng(0)), steps=30)
    after = rates_of(table, -2.0, np.random.default_rng(0))
    feed(estimator, after, steps=3, seed=1)
    rows = np.arange(len(table))
    assert abs(estimator.predict(rows).mean() - after.mean()) < 0.1


def test_an_outage_of_the_verifier_leaves_difficulties_alone(make_table: MakeTable) -> None:
    table = make_table(per_cell=40)
    estimator = make(ItemResponse, table)
    rates = rates_of(table, 0.5, np.random.default_rng(0))
    feed(estimator, rates, steps=30)
    rows = np.arange(len(table))
    before = estimator.predict(rows)
    feed(estimator, np.zeros(len(table)), steps=10, seed=1)
    assert estimator.predict(rows).mean() < 0.1
    feed(estimator, rates, steps=6, seed=2)
    after = estimator.predict(rows)
    assert np.corrcoef(before, after)[0, 1] > 0.95
    assert abs(after.mean() - rates.mean()) < 0.1


def test_a_label_means_what_it_turns_out_to_mean(kind: type[Estimator], make_table: MakeTable) -> None:
    table = make_table(per_cell=200)
    estimator = make(kind, table)
    rates = np.asarray([0.1, 0.3, 0.5, 0.7, 0.9])[table.tiers]  # the reverse of what it should be
    feed(estimator, rates, steps=40)
    unseen = np.flatnonzero(estimator._state.times == 0)
    got = np.asarray([estimator.predict(unseen[table.tiers[unseen] == t]).mean() for t in range(5)])
    np.testing.assert_allclose(got, [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.12)
    np.testing.assert_allclose(estimator.label_pass_rates()[:, :5].mean(axis=0), [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.12)


def test_a_guess_rate_is_part_of_the_prediction(make_table: MakeTable) -> None:
    table = make_table(per_cell=100, domains=2)
    config = CurriculumConfig(guess_rate={"domain_1": 0.25})
    estimator = make(ItemResponse, table, config)
    ability = rates_of(table, -1.0, np.random.default_rng(0))
    floor = np.where(table.domains == 1, 0.25, 0.0)
    feed(estimator, floor + (1 - floor) * ability, steps=60)
    rows = np.flatnonzero((table.domains == 1) & (table.tiers == 4))
    assert estimator.predict(rows).mean() == pytest.approx((floor + (1 - floor) * ability)[rows].mean(), abs=0.05)
    means, _ = estimator.row_logits(rows)
    assert sigmoid(means).mean() < 0.15


def test_cells_agree_with_the_beliefs_of_their_members(kind: type[Estimator], make_table: MakeTable) -> None:
    table = make_table(per_cell=60)
    estimator = make(kind, table)
    feed(estimator, rates_of(table, 0.5, np.random.default_rng(0)), steps=30)
    rows = np.arange(len(table))
    cells = estimator.cells(rows)
    assert cells.min() >= 0 and cells.max() < estimator.num_cells
    assert (cells // estimator.cells_per_domain == table.domains).all()
    means, variances = (x[cells] for x in estimator.cell_logits())
    row_means, row_variances = estimator.row_logits(rows)
    assert np.abs(sigmoid(means) - sigmoid(row_means)).max() < 0.12
    assert np.median(np.abs(np.sqrt(variances) - np.sqrt(row_variances))) < 0.3


def test_state_round_trip(kind: type[Estimator], make_table: MakeTable) -> None:
    table = make_table()
    estimator = make(kind, table)
    rates = rates_of(table, 0.5, np.random.default_rng(0))
    feed(estimator, rates, steps=10)
    other = make(kind, table)
    other._state.load_state_dict(estimator._state.state_dict())
    other.load_state_dict(estimator.state_dict())
    feed(estimator, rates, steps=5, seed=1)
    feed(other, rates, steps=5, seed=1)
    for one, two in zip(estimator.cell_logits(), other.cell_logits(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_prompt_takes_at_most_64_bytes() -> None:
    from rlcs.curricula.posterior_sampler import Posterior

    n = 200_000
    rng = np.random.default_rng(0)
    table = PromptTable(rng.integers(-1, 5, n).astype(np.int8), rng.integers(0, 4, n).astype(np.int16), list("abcd"))
    curriculum = Posterior(table, CurriculumConfig(), seed=0)
    arrays = [
        *vars(curriculum.state).values(),
        *vars(curriculum._passes).values(),
        *vars(curriculum.estimator).values(),
    ]
    total = sum(a.nbytes for a in [*arrays, table.tiers, table.domains] if isinstance(a, np.ndarray) and len(a) >= n)
    assert total / n <= 64


def test_prompts_that_change_when_they_are_learned_from_are_followed(make_table: MakeTable) -> None:
    table = make_table(per_cell=40)
    estimator = make(ItemResponse, table)
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 1.5, len(table))
    gaps, deviations = [], []
    for step in range(120):
        rows = rng.choice(len(table), size=40, replace=False)
        right = rng.binomial(8, sigmoid(logits[rows])).astype(np.float64)
        if step >= 60:
            gaps.append(estimator.row_logits(rows)[0] - logits[rows])
            deviations.append(np.sqrt(estimator.row_logits(rows)[1]))
        estimator._state.step += 1
        estimator.observe(rows, right, np.full(40, 8))
        logits[rows] += rng.normal(0.0, 1.0, 40)  # by a logit from one rollout to the next
    standardised = np.concatenate(gaps) / np.concatenate(deviations)
    assert np.mean(np.abs(standardised) < 1.645) > 0.8  # of 0.9; 0.55 with beliefs that stand still


def test_a_prompt_that_fails_again_and_again_is_given_up(make_table: MakeTable) -> None:
    table = make_table(per_cell=40)
    estimator = make(ItemResponse, table)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], len(table))
    for _ in range(60):  # each prompt always right or always wrong, and changing sides now and then
        rows = rng.choice(len(table), size=40, replace=False)
        right = 4 + 4 * signs[rows]
        estimator._state.step += 1
        estimator.observe(rows, right, np.full(40, 8))
        signs[rows] *= rng.choice([1.0, -1.0], 40, p=[0.9, 0.1])
    row = np.flatnonzero(signs > 0)[:1]
    for _ in range(6):
        estimator._state.step += 1
        estimator.observe(row, np.zeros(1), np.full(1, 8))
    assert estimator.predict(row)[0] < 0.1


def test_a_decided_policy_is_known_by_its_first_groups(make_table: MakeTable) -> None:
    table = make_table(per_cell=200)
    rng = np.random.default_rng(0)
    rates = np.where(rng.random(len(table)) < 0.1, 0.5, rng.integers(2, size=len(table)))  # nine in ten: 0 or 1
    estimator = make(ItemResponse, table)
    fresh = rng.permutation(len(table))
    for rows in fresh[:600].reshape(15, 40):
        estimator._state.step += 1
        estimator.observe(rows, rng.binomial(8, rates[rows]).astype(np.float64), np.full(40, 8))
    means, variances = estimator.row_logits(fresh[600:])
    useful = expect(lambda p: 1 - p**8 - (1 - p) ** 8, means, variances).mean()
    assert useful < 0.4  # of 0.1; 0.68 with spreads as they are learned from difficulties alone
    assert estimator.predict(fresh[600:]).mean() == pytest.approx(0.5, abs=0.1)


def test_beta_beliefs_follow_a_policy_that_learns(make_table: MakeTable) -> None:
    table = make_table(per_cell=100)
    estimator = make(DiscountedBeta, table)
    rng = np.random.default_rng(0)
    gaps = []
    for step in range(60):
        rates = rates_of(table, -1.0 + 0.05 * step, np.random.default_rng(0))
        rows = rng.choice(len(table), size=60, replace=False)
        right = rng.binomial(8, rates[rows]).astype(np.float64)
        gaps.append((estimator.predict(rows) - rates[rows]).mean())
        estimator._state.step += 1
        estimator.observe(rows, right, np.full(60, 8))
    assert abs(np.mean(gaps[20:])) < 0.03  # a posterior without progress lags by 0.1


def test_the_prior_of_a_label_weighs_as_much_as_its_prompts_are_alike(make_table: MakeTable) -> None:
    table = make_table(per_cell=400, domains=2)
    estimator = make(DiscountedBeta, table)
    rng = np.random.default_rng(0)
    rates = np.where(table.domains == 0, rng.beta(0.75, 0.75, len(table)), rng.beta(5, 5, len(table)))
    feed(estimator, rates, steps=60)
    weights = estimator._prior(np.repeat([0, 1], 5), np.tile(np.arange(5), 2))[1].reshape(2, 5)  # type: ignore[attr-defined]
    assert weights[0].max() < 4 < weights[1].min()


def test_a_fitted_guess_rate_finds_the_luck_of_each_domain(make_table: MakeTable) -> None:
    table = make_table(per_cell=200, domains=2)
    config = CurriculumConfig(guess_rate={"domain_0": "auto", "domain_1": "auto"})
    estimator = make(ItemResponse, table, config)
    floor = np.where(table.domains == 1, 0.25, 0.0)
    for part in range(5):
        ability = rates_of(table, -2.0 + 0.5 * part, np.random.default_rng(0))
        feed(estimator, floor + (1 - floor) * ability, steps=20, seed=part)
    assert estimator.floors[0] < 0.05 < 0.15 < estimator.floors[1] < 0.35


def test_a_state_of_another_estimator_is_refused(make_table: MakeTable) -> None:
    state = make(DiscountedBeta, make_table()).state_dict()
    with pytest.raises(CheckpointError, match="lacks 'ability'"):
        make(ItemResponse, make_table()).load_state_dict(state)
