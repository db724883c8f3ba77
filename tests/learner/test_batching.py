from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.learner.batching import families, learned_counts, make_batch, micro_batches, minibatches, padded_micro_batches
from rlcs.types import Batch, Group


def cost(batch: Batch, parts: list) -> int:
    return sum(f.prefix + int((batch.lengths[f.sequences] - f.prefix).sum()) for f in parts)


def random_batch(seed: int) -> Batch:
    """Sequences of random lengths in families of one to five, a few without a learned token."""
    rng = np.random.default_rng(seed)
    tokens, masks = [], []
    for _ in range(int(rng.integers(1, 8))):
        prompt = rng.integers(0, 9, int(rng.integers(1, 12)))
        for _ in range(int(rng.integers(1, 6))):
            size = int(rng.integers(0, 30))
            tokens.append(np.concatenate([prompt, rng.integers(0, 9, size)]))
            mask = np.zeros(len(tokens[-1]), np.bool_)
            mask[len(prompt) :] = rng.random() < 0.9
            masks.append(mask)
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])]).astype(np.int64)
    size = int(offsets[-1])
    zeros = np.zeros(size, np.float32)
    return Batch(np.concatenate(tokens).astype(np.int64), offsets, np.concatenate(masks), zeros, zeros)


def test_make_batch_lays_responses_behind_their_prompts(make_groups: Callable[..., list[Group]]) -> None:
    groups = make_groups(2, 3, forced=True)
    advantages = [np.arange(3.0), np.arange(3.0, 6.0)]
    batch = make_batch(groups, advantages)
    assert batch.num_sequences == 6
    for index in range(6):
        group, response = groups[index // 3], groups[index // 3].responses[index % 3]
        start, end = batch.offsets[index], batch.offsets[index + 1]
        first = end - len(response.token_ids)
        assert np.array_equal(batch.token_ids[start:first], group.prompt_ids)
        assert np.array_equal(batch.token_ids[first:end], response.token_ids)
        assert not batch.loss_mask[start:first].any()
        assert np.array_equal(batch.loss_mask[first:end], response.loss_mask)
        assert np.array_equal(batch.logprobs[first:end], response.logprobs * response.loss_mask)
        assert np.array_equal(batch.advantages[first:end], np.where(response.loss_mask, float(index), 0))


def test_make_batch_takes_one_array_of_advantages(make_groups: Callable[..., list[Group]]) -> None:
    groups = make_groups(2, 3)
    flat = make_batch(groups, np.arange(6.0))
    assert np.array_equal(flat.advantages, make_batch(groups, [np.arange(3.0), np.arange(3.0, 6.0)]).advantages)


def test_make_batch_refuses_a_wrong_number_of_advantages(make_groups: Callable[..., list[Group]]) -> None:
    with pytest.raises(ValueError, match="5 advantages for 6 responses"):
        make_batch(make_groups(2, 3), np.zeros(5))


def test_make_batch_refuses_misaligned_logprobs_and_names_the_prompt(make_groups: Callable[..., list[Group]]) -> None:
    groups = make_groups(1, 2)
    groups[0].responses[1].logprobs = np.zeros(99, np.float32)
    with pytest.raises(ValueError, match="prompt 0 has .* 99 logprobs"):
        make_batch(groups, np.zeros(2))


@given(st.integers(0, 10_000), st.integers(20, 300))
def test_micro_batches_hold_every_learned_sequence_once_within_the_budget(seed: int, budget: int) -> None:
    batch = random_batch(seed)
    everything = np.arange(batch.num_sequences)
    parts = micro_batches(batch, everything, budget)
    found = sorted(int(s) for part in parts for family in part for s in family.sequences)
    assert found == np.flatnonzero(learned_counts(batch)).tolist()
    for part in parts:
        alone = len(part) == 1 and len(part[0].sequences) == 1
        assert alone or cost(batch, part) <= budget


@given(st.integers(0, 10_000), st.integers(20, 300))
def test_padded_micro_batches_hold_every_learned_sequence_once_within_the_budget(seed: int, budget: int) -> None:
    batch = random_batch(seed)
    parts = padded_micro_batches(batch, np.arange(batch.num_sequences), budget)
    found = sorted(int(s) for part in parts for family in part for s in family.sequences)
    assert found == np.flatnonzero(learned_counts(batch)).tolist()
    for part in parts:
        width = max(int(batch.lengths[family.sequences[0]]) for family in part)
        assert len(part) == 1 or len(part) * width <= budget


@given(st.integers(0, 10_000))
def test_families_share_what_stands_before_their_first_learned_token(seed: int) -> None:
    batch = random_batch(seed)
    for family in families(batch, np.arange(batch.num_sequences)):
        prefixes = {tuple(batch.token_ids[batch.offsets[s] :][: family.prefix]) for s in family.sequences}
        assert len(prefixes) == 1
        for sequence in family.sequences:
            start, end = batch.offsets[sequence], batch.offsets[sequence + 1]
            assert not batch.loss_mask[start : start + family.prefix].any()
            assert family.prefix < end - start


def test_learning_a_first_token_is_refused() -> None:
    ones = np.ones(2, np.float32)
    batch = Batch(np.arange(2), np.array([0, 2]), np.ones(2, np.bool_), ones, ones)
    with pytest.raises(ValueError, match="sequence 0 learns its first token"):
        families(batch, np.arange(1))


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_minibatches_hold_every_sequence_once_and_keep_groups_whole(
    groups: int, size: int, parts: int, seed: int
) -> None:
    found = minibatches(groups * size, parts, groups, np.random.default_rng(seed))
    assert sorted(int(s) for part in found for s in part) == list(range(groups * size))
    assert len(found) == min(parts, groups)
    if parts > 1:
        for part in found:
            assert len({int(s) // size for s in part}) * size == len(part)


def test_minibatches_repeat_with_their_seed() -> None:
    one, two = (minibatches(24, 4, 6, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
