"""Pass rates and labels become tiers: monotone, of equal shares, never outside of what was merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.curricula.grading import UNLABELLED, TierRule, assign_tiers, merge_models, reported_ks
from rlcs.errors import ConfigError, DataError
from rlcs.types import NUM_TIERS

RATES = st.floats(0, 1) | st.integers(0, 8).map(lambda right: right / 8)
EDGES = (0.8, 0.6, 0.4, 0.2)


@st.composite
def rules(draw: st.DrawFn) -> TierRule:
    edges = draw(st.none() | st.sets(st.integers(1, 100), min_size=4, max_size=4))
    chosen = None if edges is None else tuple(sorted((edge / 100 for edge in edges), reverse=True))
    return TierRule(chosen, draw(st.floats(0, 1)))


PROMPTS = st.lists(st.tuples(RATES, st.integers(UNLABELLED, NUM_TIERS - 1)), min_size=1, max_size=60)


@given(prompts=PROMPTS, rule=rules())
def test_a_higher_pass_rate_or_an_easier_label_never_gives_a_harder_tier(
    prompts: list[tuple[float, int]], rule: TierRule
) -> None:
    rates, labels = (np.asarray(column) for column in zip(*prompts, strict=True))
    tiers = assign_tiers(rates, labels, rule)
    assert tiers.shape == rates.shape and tiers.min() >= 0 and tiers.max() < NUM_TIERS
    for label in set(labels.tolist()):
        of_label = tiers[labels == label][np.argsort(rates[labels == label], kind="stable")]
        assert (np.diff(of_label) <= 0).all()
    for rate in set(rates.tolist()):
        same = (rates == rate) & (labels != UNLABELLED)
        assert (np.diff(tiers[same][np.argsort(labels[same], kind="stable")]) >= 0).all()


@given(prompts=PROMPTS, rule=rules())
def test_the_merged_tier_lies_between_the_models_and_the_label(
    prompts: list[tuple[float, int]], rule: TierRule
) -> None:
    rates, labels = (np.asarray(column) for column in zip(*prompts, strict=True))
    of_models = assign_tiers(rates, None, rule)
    merged = assign_tiers(rates, labels, rule)
    known = labels != UNLABELLED
    assert (merged[~known] == of_models[~known]).all()
    assert (merged[known] >= np.minimum(of_models, labels)[known]).all()
    assert (merged[known] <= np.maximum(of_models, labels)[known]).all()
    only_labels = assign_tiers(rates, labels, TierRule(rule.edges, label_weight=1.0))
    assert (only_labels[known] == labels[known]).all()
    assert (assign_tiers(rates, labels, TierRule(rule.edges, label_weight=0.0)) == of_models).all()


@given(size=st.integers(1, 200), seed=st.integers(0, 2**31))
def test_distinct_pass_rates_fill_the_tiers_evenly(size: int, seed: int) -> None:
    rates = np.random.default_rng(seed).permutation(np.linspace(0.01, 0.99, size) if size > 1 else np.array([0.5]))
    counts = np.bincount(assign_tiers(rates), minlength=NUM_TIERS)
    assert counts.max() - counts.min() <= 1


@given(rates=st.lists(RATES, min_size=1, max_size=60), rule=rules(), seed=st.integers(0, 1000))
def test_ties_share_a_tier_and_order_does_not_matter(rates: list[float], rule: TierRule, seed: int) -> None:
    values = np.asarray(rates)
    tiers = assign_tiers(values, None, rule)
    for rate in set(rates):
        assert len(set(tiers[values == rate].tolist())) == 1
    order = np.random.default_rng(seed).permutation(len(values))
    assert (assign_tiers(values[order], None, rule) == tiers[order]).all()


@pytest.mark.parametrize(("rate", "tier"), [(0.0, 4), (0.25, 2), (0.5, 2), (1.0, 0)])
def test_equal_pass_rates_are_one_tier_the_middle_one_unless_none_or_all_is_solved(rate: float, tier: int) -> None:
    assert assign_tiers([rate] * 7).tolist() == [tier] * 7


def test_what_was_never_solved_is_very_hard_however_many_there_are() -> None:
    tiers = assign_tiers([0.0] * 8 + [0.1, 0.9])
    assert tiers.tolist() == [4] * 8 + [0, 0]


def test_fixed_edges_are_the_least_pass_rates_of_the_easier_tiers() -> None:
    rates = [1.0, 0.8, 0.79, 0.6, 0.4, 0.39, 0.2, 0.19, 0.0]
    assert assign_tiers(rates, None, TierRule(EDGES)).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert assign_tiers([1.0, 0.99], None, TierRule((1.0, 0.7, 0.3, 0.01))).tolist() == [0, 1]


def test_a_label_moves_a_prompt_by_its_weight() -> None:
    rule = TierRule(EDGES, label_weight=0.5)
    # The middle of `very hard` is 0.9; with a difficulty of 0.1 that is 0.5, `medium`.
    assert assign_tiers([0.9, 0.9, 0.9], [4, 0, UNLABELLED], rule).tolist() == [2, 0, 0]


@given(
    rates=st.integers(1, 5).flatmap(
        lambda models: st.lists(st.lists(RATES, min_size=models, max_size=models), min_size=1, max_size=20)
    )
)
def test_models_count_alike_whatever_their_order(rates: list[list[float]]) -> None:
    of_models = np.asarray(rates).T
    merged = merge_models(of_models)
    assert (merged == merge_models(of_models[::-1])).all()
    assert merged == pytest.approx(of_models.mean(axis=0))
    assert (merged >= 0).all() and (merged <= 1).all()


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_impossible_pass_rate_is_named(bad: float) -> None:
    with pytest.raises(DataError, match=r"model 1, prompt 2: the pass rate .* is not in 0 to 1"):
        merge_models([[0.5, 0.5, 0.5], [0.5, 0.5, bad]])


def test_grading_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="one model and one prompt"):
        merge_models(np.zeros((0, 3)))
    with pytest.raises(DataError, match="one model and one prompt"):
        assign_tiers([])


@pytest.mark.parametrize(("labels", "words"), [([5, 0], "label 5"), ([-2, 0], "label -2"), ([0], "1 labels for 2")])
def test_labels_that_are_no_tiers_are_refused(labels: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        assign_tiers([0.1, 0.2], labels)


@pytest.mark.parametrize(
    "edges", [(0.5,), (0.2, 0.4, 0.6, 0.8), (0.8, 0.8, 0.4, 0.2), (0.8, 0.6, 0.4, 0.0), (1.2, 0.6, 0.4, 0.2)]
)
def test_edges_that_cut_no_tiers_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="edge"):
        TierRule(edges)


@given(num_samples=st.integers(1, 4096))
def test_pass_at_k_is_reported_for_powers_of_two_and_all_samples(num_samples: int) -> None:
    ks = reported_ks(num_samples)
    assert ks[0] == 1 and ks[-1] == num_samples and ks == sorted(set(ks))
    assert all(k & (k - 1) == 0 for k in ks[:-1])
