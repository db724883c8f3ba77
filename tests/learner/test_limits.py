"""Sequences over the token budget, and memory that runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rlcs.config import LearnerConfig
from rlcs.errors import RLCSError
from rlcs.learner.limits import limit_lengths, memory_advice
from rlcs.types import Group


def config(**settings: Any) -> LearnerConfig:
    return LearnerConfig.model_validate({"tokens_per_micro_batch": 30, **settings})


def sizes(group: Group) -> list[int]:
    return [len(group.prompt_ids) + len(response.token_ids) for response in group.responses]


@pytest.mark.parametrize("how", ["alone", "truncate", "drop"])
def test_long_sequences_are_counted_and_named(
    how: str, make_groups: Callable[..., list[Group]], caplog: pytest.LogCaptureFixture
) -> None:
    groups = make_groups(3, 8)
    long = [[size > 30 for size in sizes(group)] for group in groups]
    fitting, metrics = limit_lengths(groups, config(long_sequences=how))
    count = int(np.sum(long))
    assert count and metrics == {"learner/long_sequences": count}
    assert f"{count} sequences" in caplog.text and "prompt" in caplog.text
    for group, after, marks in zip(groups, fitting, long, strict=True):
        for response, new, is_long in zip(group.responses, after.responses, marks, strict=True):
            if not is_long or how == "alone":
                assert new is response
            elif how == "drop":
                assert not new.loss_mask.any() and response.loss_mask.any()
            else:
                kept = len(new.token_ids)
                assert kept + len(group.prompt_ids) == 30
                assert np.array_equal(new.token_ids, response.token_ids[:kept])
                assert len(new.logprobs) == len(new.loss_mask) == kept


def test_a_prompt_over_the_budget_leaves_nothing_to_learn(make_groups: Callable[..., list[Group]]) -> None:
    fitting, _ = limit_lengths(make_groups(1, 2), config(tokens_per_micro_batch=1, long_sequences="truncate"))
    assert not any(response.loss_mask.any() for response in fitting[0].responses)


def test_a_long_sequence_ends_the_run_if_the_configuration_says_so(make_groups: Callable[..., list[Group]]) -> None:
    with pytest.raises(RLCSError, match=r"longest \d+, of prompt .*raise the budget"):
        limit_lengths(make_groups(3, 8), config(long_sequences="error"))


def test_memory_that_runs_out_is_one_line_with_the_settings_to_lower() -> None:
    with (
        pytest.raises(RLCSError, match=r"updating the policy: lower learner\.tokens_per_micro_batch \(30\)") as error,
        memory_advice(config(), "updating the policy"),
    ):
        torch.empty(2**60, dtype=torch.uint8)
    assert "\n" not in str(error.value) and "gradient_checkpointing" in str(error.value)
    with pytest.raises(RLCSError, match=r"learner\.gpus"), memory_advice(config(gpus=1), "loading"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_advice(config(), "updating"):
        raise RuntimeError("shapes do not fit")
