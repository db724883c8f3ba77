from __future__ import annotations

import heapq
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3MoeConfig

from rlcs.learner.balance import CostModel, deal, spread
from rlcs.learner.batching import learned_counts
from rlcs.learner.partition import partition
from rlcs.types import Batch

COSTS = st.lists(st.floats(0, 1000), min_size=0, max_size=60)
MODEL = CostModel(linear=1.0, quadratic=0.01, head=0.5)


def largest(costs: np.ndarray, labels: np.ndarray, parts: int) -> float:
    return float(np.bincount(labels, costs, parts).max())


def best_possible(costs: np.ndarray, parts: int, equal_count: bool) -> float:
    """The smallest largest sum, by trying everything."""
    best = np.inf
    for labels in product(range(parts), repeat=len(costs)):
        counts = np.bincount(labels, minlength=parts)
        if not equal_count or counts.max() - counts.min() <= 1:
            best = min(best, largest(costs, np.array(labels, np.int64), parts))
    return best


def greedy(costs: np.ndarray, parts: int) -> float:
    """The largest sum of greedy dealing, longest first."""
    heap = [0.0] * parts
    for cost in sorted(costs.tolist(), reverse=True):
        heapq.heapreplace(heap, heap[0] + cost)
    return max(heap)


def lower_bound(costs: np.ndarray, parts: int) -> float:
    """No deal is better than the mean, the costliest item, or two of the parts + 1 costliest together."""
    ordered = np.sort(costs)[::-1]
    pair = float(ordered[parts - 1] + ordered[parts]) if len(costs) > parts else 0.0
    return max(float(costs.sum()) / parts, float(ordered[:1].sum()), pair)


def batch_of(prompts: list[int], responses: list[list[int]]) -> Batch:
    """A batch with groups of these prompt lengths and response lengths, every response token learned."""
    rng = np.random.default_rng(0)
    tokens, masks = [], []
    for prompt, lengths in zip(prompts, responses, strict=True):
        shared = rng.integers(0, 1000, prompt)
        for length in lengths:
            tokens.append(np.concatenate([shared, rng.integers(0, 1000, length)]))
            masks.append(np.arange(prompt + length) >= prompt)
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])]).astype(np.int64)
    zeros = np.zeros(int(offsets[-1]), np.float32)
    return Batch(np.concatenate(tokens).astype(np.int64), offsets, np.concatenate(masks), zeros, zeros)


@given(COSTS, st.integers(1, 9), st.booleans())
def test_every_item_is_dealt_once_within_the_bounds(costs: list[float], parts: int, equal_count: bool) -> None:
    values = np.array(costs)
    labels = partition(values, parts, equal_count=equal_count)
    assert len(labels) == len(values) and ((labels >= 0) & (labels < parts)).all()
    if equal_count:
        counts = np.bincount(labels, minlength=parts)
        assert counts.max() - counts.min() <= 1
    if len(values):
        assert largest(values, labels, parts) >= lower_bound(values, parts) - 1e-9


@given(COSTS.filter(bool), st.integers(1, 9))
def test_never_worse_than_greedy_longest_first(costs: list[float], parts: int) -> None:
    values = np.array(costs)
    assert largest(values, partition(values, parts), parts) <= greedy(values, parts) * (1 + 1e-12)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=7), st.integers(2, 3))
def test_near_the_best_of_all_deals(costs: list[int], parts: int) -> None:
    values = np.array(costs, np.float64)
    found = largest(values, partition(values, parts), parts)
    best = best_possible(values, parts, False)
    assert best <= found <= best * (4 / 3 - 1 / (3 * parts)) + 1e-9  # Graham's bound


@given(st.lists(st.integers(0, 30), min_size=1, max_size=7), st.integers(2, 3))
def test_equal_counts_are_near_the_best_of_all_such_deals(costs: list[int], parts: int) -> None:
    values = np.array(costs, np.float64)
    found = largest(values, partition(values, parts, equal_count=True), parts)
    best = best_possible(values, parts, True)
    assert best <= found <= best * (2 - 1 / parts) + 1e-9


def test_small_random_deals_are_mostly_the_best() -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(60):
        values = rng.integers(1, 100, 8).astype(float)
        ratios.append(largest(values, partition(values, 2), 2) / best_possible(values, 2, False))
    assert np.mean(ratios) < 1.01 and np.median(ratios) == 1


@pytest.mark.parametrize(("count", "parts", "equal_count"), [(4096, 64, False), (4096, 64, True), (256, 8, False)])
def test_skewed_lengths_are_balanced_within_two_thousandths(count: int, parts: int, equal_count: bool) -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(6.5, 0.8, count), 16, 8192)
    costs = 24576 * lengths + lengths**2
    assert spread(np.bincount(partition(costs, parts, equal_count=equal_count), costs, parts)) < 0.002


@pytest.mark.parametrize("bad", [[1.0, -1.0], [1.0, np.nan], [np.inf]])
def test_costs_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        partition(np.array(bad), 2)


def test_no_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot deal to 0 ranks"):
        deal(batch_of([3], [[4, 5]]), 0, MODEL)


@given(st.data())
def test_a_deal_holds_every_learned_sequence_once_with_true_loads(data: Any) -> None:
    groups = data.draw(st.integers(1, 8))
    prompts = data.draw(st.lists(st.integers(1, 40), min_size=groups, max_size=groups))
    responses = data.draw(
        st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=6), min_size=groups, max_size=groups)
    )
    ranks = data.draw(st.integers(1, 5))
    batch = batch_of(prompts, responses)
    dealt = deal(batch, ranks, MODEL, equal_count=data.draw(st.booleans()))
    assert sorted(np.concatenate(dealt.ranks).tolist()) == np.flatnonzero(learned_counts(batch)).tolist()
    group_of = np.repeat(np.arange(groups), [len(lengths) for lengths in responses])
    for sequences, load in zip(dealt.ranks, dealt.loads, strict=True):
        assert (np.diff(sequences) > 0).all()
        own = MODEL.linear * batch.lengths + MODEL.quadratic * batch.lengths**2 + MODEL.head * learned_counts(batch)
        most = float(own[sequences].sum())
        # a prompt is computed once for those of its sequences that are here
        shared = sum(
            (int((group_of[sequences] == group).sum()) - 1) * prompts[group] for group in set(group_of[sequences])
        )
        assert most - shared - 1e-6 <= load <= most + 1e-6


def test_families_stay_whole_where_that_balances() -> None:
    rng = np.random.default_rng(1)
    batch = batch_of([50] * 64, [rng.integers(50, 400, 8).tolist() for _ in range(64)])
    dealt = deal(batch, 4, MODEL)
    assert dealt.split_families == 0 and dealt.spread < 0.01
    for sequences in dealt.ranks:
        assert all((sequences // 8 == group).sum() in (0, 8) for group in range(64))


def test_a_family_larger_than_a_rank_is_split() -> None:
    batch = batch_of([10, 10], [[500] * 16, [20] * 4])
    dealt = deal(batch, 4, MODEL)
    assert dealt.split_families >= 1 and dealt.spread < 0.05
    assert deal(batch, 4, MODEL, tolerance=np.inf).split_families == 0


def test_equal_counts_hold_for_sequences() -> None:
    rng = np.random.default_rng(2)
    batch = batch_of([20] * 10, [rng.integers(5, 300, 4).tolist() for _ in range(10)])
    assert [len(sequences) for sequences in deal(batch, 8, MODEL, equal_count=True).ranks] == [5] * 8


def test_costs_follow_from_the_matrices_of_the_model() -> None:
    config = Qwen2Config(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    costs = CostModel.of(config)
    model = Qwen2ForCausalLM(config)
    assert costs.linear == sum(p.numel() for n, p in model.model.layers.named_parameters() if p.dim() == 2)
    assert costs.head == model.lm_head.weight.numel()
    assert costs.quadratic == 3 * 4 * 8


def test_only_the_experts_in_use_are_counted() -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 8}
    sparse = CostModel.of(Qwen3MoeConfig(**shape, num_experts=64, num_experts_per_tok=2, moe_intermediate_size=16))
    more = CostModel.of(Qwen3MoeConfig(**shape, num_experts=64, num_experts_per_tok=3, moe_intermediate_size=16))
    assert more.linear - sparse.linear == 3 * 32 * 16


def test_a_config_without_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="the model's config has no hidden_size"):
        CostModel.of(object())


@given(st.integers(0, 10_000), st.sampled_from([(32, 2), (64, 4), (64, 8), (256, 8)]))
@settings(max_examples=40)
def test_ranks_are_within_five_percent_unless_one_sequence_costs_more_than_the_mean(
    seed: int, size: tuple[int, int]
) -> None:
    count, ranks = size
    rng = np.random.default_rng(seed)
    groups = count // 8
    responses = np.clip(rng.lognormal(6.2, 0.8, (groups, 8)), 8, 8192).astype(int).tolist()
    batch = batch_of(rng.integers(100, 300, groups).tolist(), responses)
    model = CostModel(linear=24576.0, quadratic=1.0)
    dealt = deal(batch, ranks, model)
    lengths = batch.lengths.astype(float)
    largest = float((model.linear * lengths + model.quadratic * lengths**2).max())
    # no rank waits longer than a twentieth, or than a sequence that nobody can cut takes alone
    assert dealt.loads.max() <= max(1.05 * dealt.loads.mean(), largest * (1 + 1e-9))
