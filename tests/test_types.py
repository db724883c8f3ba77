"""The data that flows through an iteration."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.types import Batch, FinishReason, Group, Prompt, Response, Score, prompt_id


def make_group(scores: list[Score | None]) -> Group:
    """A group whose n-th response has n + 1 tokens."""
    responses = [
        Response(
            token_ids=np.zeros(n + 1, np.int32),
            logprobs=np.zeros(n + 1, np.float32),
            loss_mask=np.ones(n + 1, np.bool_),
            text="",
            finish_reason=FinishReason.STOP,
            policy_version=0,
            reward=score,
        )
        for n, score in enumerate(scores)
    ]
    return Group(Prompt("id", [{"role": "user", "content": "x"}], "1"), np.zeros(3, np.int32), responses)


@given(content=st.text(), answer=st.text())
def test_prompt_id_is_sixteen_hex_digits_of_the_content(content: str, answer: str) -> None:
    identity = prompt_id([{"role": "user", "content": content}], answer)
    assert identity == prompt_id([{"content": content, "role": "user"}], answer), "the order of keys does not matter"
    assert len(identity) == 16 and int(identity, 16) >= 0
    assert identity != prompt_id([{"role": "user", "content": content}], answer + "0")
    assert identity != prompt_id([{"role": "user", "content": content + " "}], answer)


def test_prompt_id_is_the_same_in_another_process() -> None:
    program = "from rlcs.types import prompt_id; print(prompt_id([{'role': 'user', 'content': 'é'}], '1'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == prompt_id([{"role": "user", "content": "é"}], "1")


def test_group_knows_rewards_pass_rate_and_tokens() -> None:
    group = make_group([Score(1.0, True), Score(0.2, False), Score(0.0, False), Score(0.9, True)])
    assert group.rewards.tolist() == [1.0, 0.2, 0.0, 0.9]
    assert group.pass_rate == 0.5
    assert not group.is_degenerate
    assert group.generated_tokens == 10


def test_pass_rate_is_the_mean_reward_where_right_and_wrong_do_not_apply() -> None:
    assert make_group([Score(0.4), Score(0.8)]).pass_rate == pytest.approx(0.6)
    assert make_group([Score(0.4, True), Score(0.8)]).pass_rate == pytest.approx(0.6)


def test_group_of_equal_rewards_is_degenerate() -> None:
    assert make_group([Score(0.3, False)] * 3).is_degenerate
    assert not make_group([Score(0.3), Score(0.31)]).is_degenerate


def test_group_that_is_not_scored_says_which() -> None:
    with pytest.raises(ValueError, match="group of prompt id has a response without a score"):
        _ = make_group([Score(1.0), None]).rewards


def test_batch_knows_its_sequences() -> None:
    batch = Batch(
        token_ids=np.arange(6),
        offsets=np.array([0, 2, 6]),
        loss_mask=np.ones(6, np.bool_),
        logprobs=np.zeros(6, np.float32),
        advantages=np.zeros(6, np.float32),
    )
    assert batch.num_sequences == 2
    assert batch.lengths.tolist() == [2, 4]
