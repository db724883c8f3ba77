"""Groups of different size: whole in every minibatch, and learned from as the formula says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import LearnerConfig
from rlcs.learner.batching import make_batch, minibatches
from rlcs.learner.learner import Learner
from rlcs.types import Group


@given(st.lists(st.integers(1, 24), min_size=1, max_size=20), st.integers(2, 6), st.integers(0, 100))
def test_minibatches_hold_every_sequence_once_and_keep_uneven_groups_whole(
    sizes: list[int], parts: int, seed: int
) -> None:
    total = sum(sizes)
    found = minibatches(total, parts, None, np.random.default_rng(seed), sizes)
    assert sorted(int(s) for part in found for s in part) == list(range(total))
    owners = np.repeat(np.arange(len(sizes)), sizes)
    assert sum(len(set(owners[part].tolist())) for part in found) == len(sizes)
    assert all((np.diff(part) > 0).all() for part in found)
    assert all(len(part) <= total / parts + max(sizes) for part in found), "about equally many sequences"


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_equal_sizes_are_split_as_by_their_number(per_part: int, size: int, parts: int, seed: int) -> None:
    groups = per_part * parts
    one = minibatches(groups * size, parts, groups, np.random.default_rng(seed))
    two = minibatches(groups * size, parts, None, np.random.default_rng(seed), [size] * groups)
    assert [part.tolist() for part in one] == [part.tolist() for part in two]
    assert {len(part) for part in one} == {per_part * size}


def test_sizes_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="the groups have 5 responses, the batch has 6"):
        minibatches(6, 2, None, np.random.default_rng(0), [2, 3])


def test_the_gradient_of_uneven_groups_is_that_of_their_sequences(
    policy_folder: Path, make_groups: Callable[..., list[Group]]
) -> None:
    small, large = make_groups(1, 2, seed=1)[0], make_groups(1, 7, seed=2)[0]
    advantages = [np.asarray([1.0, -1.0]), np.linspace(-1, 1, 7)]
    both = make_batch([small, large], advantages)
    # The same sequences, each a group of its own.
    singles = [Group(g.prompt, g.prompt_ids, [r]) for g in (small, large) for r in g.responses]
    apart = make_batch(singles, np.concatenate(advantages))
    settings = LearnerConfig(threads=1, learning_rate=1e-3, tokens_per_micro_batch=80)
    one, two = (Learner(str(policy_folder), settings, max_completion_length=32) for _ in range(2))
    ours, theirs = one.update(both, group_sizes=[2, 7]), two.update(apart, group_sizes=[1] * 9)
    assert ours["learner/loss"] == pytest.approx(theirs["learner/loss"], abs=1e-6)
    assert ours["learner/grad_norm"] == pytest.approx(theirs["learner/grad_norm"], rel=1e-4)
