"""Leftover groups of a run, and how they survive a stop; a true run is in tests/e2e/test_leftovers.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.checkpoint import load_arrays, save_arrays
from rlcs.errors import CheckpointError
from rlcs.leftovers import LeftoverGroups
from rlcs.types import FinishReason, Group, Prompt, Response, Score

PROMPTS = [Prompt(f"p{i}", [{"role": "user", "content": f"{i}?"}], str(i)) for i in range(6)]


def response(length: int, version: int, value: float) -> Response:
    rng = np.random.default_rng(length)
    return Response(
        token_ids=rng.integers(0, 500, length).astype(np.int32),
        logprobs=rng.standard_normal(length).astype(np.float32),
        loss_mask=rng.random(length) < 0.8,
        text=f"é {length} \ud800",
        finish_reason=FinishReason.LENGTH,
        policy_version=version,
        reward=Score(value, value == 1, {"right": value}, "why"),
    )


def group(index: int, lengths: list[int], version: int = 3, predicted: float | None = 0.25) -> Group:
    responses = [response(length, version, float(k % 2)) for k, length in enumerate(lengths)]
    return Group(PROMPTS[index], np.arange(index + 1, dtype=np.int32), responses, predicted)


def test_groups_stay_older_first_until_they_are_too_old() -> None:
    waiting = LeftoverGroups(max_age=2)
    assert len(waiting) == 0 and waiting.wanted(4) == 4
    first = [group(i, [2, 3]) for i in range(3)]
    waiting.keep(first, np.asarray([1]), most=8)
    assert waiting.groups == [first[0], first[2]] and waiting.ages.tolist() == [1, 1]
    assert waiting.wanted(8) == 6 and waiting.wanted(2) == 1
    second = [group(3, [2, 2]), group(4, [1])]  # one response alone is degenerate
    waiting.keep(second, np.asarray([0]), most=8)
    assert waiting.groups == [first[2], second[0]] and waiting.ages.tolist() == [2, 1]
    waiting.keep([], np.zeros(0, dtype=np.int64), most=8)
    assert waiting.groups == [second[0]] and waiting.ages.tolist() == [2]


def test_nothing_is_kept_by_default() -> None:
    waiting = LeftoverGroups(max_age=0)
    waiting.keep([group(0, [2, 2])], np.zeros(0, dtype=np.int64), most=8)
    assert len(waiting) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 5), min_size=2, max_size=4)), max_size=5))
def test_a_saved_state_is_read_back(shapes: list[tuple[int, list[int]]]) -> None:
    waiting = LeftoverGroups(max_age=3)
    waiting.keep([group(i, lengths, predicted=None) for i, lengths in shapes], np.zeros(0, dtype=np.int64), most=9)
    assert_same(waiting, waiting.state_dict())


def test_a_state_survives_the_checkpoint(tmp_path: Path) -> None:
    waiting = LeftoverGroups(max_age=3)
    waiting.keep([group(i, [4, 0, 2]) for i in range(3)], np.asarray([1]), most=9)
    save_arrays(tmp_path / "leftovers", waiting.state_dict())
    assert_same(waiting, load_arrays(tmp_path / "leftovers"))


def assert_same(waiting: LeftoverGroups, state: dict[str, object]) -> None:
    again = LeftoverGroups(max_age=3)
    again.load_state_dict(state, iter(PROMPTS))
    np.testing.assert_array_equal(again.ages, waiting.ages)
    assert len(again) == len(waiting)
    for one, other in zip(again.groups, waiting.groups, strict=True):
        assert one.prompt is other.prompt and one.predicted_pass_rate == other.predicted_pass_rate
        np.testing.assert_array_equal(one.prompt_ids, other.prompt_ids)
        for ours, theirs in zip(one.responses, other.responses, strict=True):
            for name in ("token_ids", "logprobs", "loss_mask"):
                mine, yours = getattr(ours, name), getattr(theirs, name)
                assert mine.dtype == yours.dtype
                np.testing.assert_array_equal(mine, yours)
            for name in ("text", "finish_reason", "policy_version", "reward"):
                assert getattr(ours, name) == getattr(theirs, name)
            assert isinstance(ours.finish_reason, FinishReason)


def test_other_data_is_refused() -> None:
    waiting = LeftoverGroups(max_age=1)
    waiting.keep([group(5, [2, 2])], np.zeros(0, dtype=np.int64), most=9)
    with pytest.raises(CheckpointError, match="prompt p5, which the data lacks"):
        LeftoverGroups(max_age=1).load_state_dict(waiting.state_dict(), PROMPTS[:3])
