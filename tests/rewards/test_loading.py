"""Loading rewards and calling them, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards import Reward
from rlcs.rewards.loading import BUILTIN_REWARDS, load_reward
from rlcs.rewards.verifier import JudgeRequest
from rlcs.types import Prompt, Score


def prompt(answer: str = "7", domain: str = "sums", **metadata: Any) -> Prompt:
    return Prompt(f"id-{answer}", [{"role": "user", "content": "?"}], answer, domain, 2, metadata)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a file of rewards and name one of them."""

    def write_file(code: str, name: str = "reward") -> str:
        path = tmp_path / "my_rewards.py"
        path.write_text(code)
        return f"{path}:{name}"

    return write_file


class _Judge:
    def judge(self, requests: Sequence[JudgeRequest]) -> list[Score | None]:
        return [Score(1.0, correct=True) for _ in requests]


_NEEDED_OPTIONS: dict[str, dict[str, Any]] = {"code": {"enabled": True}, "reward_model": {"path": "some/model"}}


@pytest.mark.parametrize("name", sorted(BUILTIN_REWARDS))
def test_built_in_rewards_load_by_name(name: str) -> None:
    reward = load_reward(name, options=_NEEDED_OPTIONS.get(name), judge=_Judge())
    assert reward.name == name
    assert reward.uses_judge or name != "judge"
    reward.close()


def test_a_reward_without_a_judge_asks_none() -> None:
    assert not load_reward("math", judge=_Judge()).uses_judge


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeouts": 1}, "no option 'timeouts': did you mean 'timeout_s'"),
        ({"zzz": 1}, "no option 'zzz'; it has extract"),
        ({"extract": {"fallback": []}}, "did you mean 'fallbacks'"),
        ({"extract": {"fallbacks": "boxed"}}, "must be a list"),
        ({"extract": {"fallbacks": ["box"]}}, "did you mean 'boxed'"),
        ({"extract": {"thinking_is_open": "yes"}}, "must be true or false"),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RewardError, match=message) as caught:
        load_reward("math", options=options)
    assert "\n" not in str(caught.value) and "'math'" in str(caught.value)


def test_extract_may_be_given_as_a_mapping() -> None:
    reward = load_reward("math", options={"extract": {"fallbacks": ["boxed"], "thinking_is_open": True}})
    (score,) = reward.score_batch([prompt()], ["I count.</think>So \\boxed{7}"])
    reward.close()
    assert score is not None and score.correct


def test_the_number_of_tokens_is_a_column_where_it_is_known(write: Any) -> None:
    code = "def reward(completions, num_tokens=None, **columns):\n    return [float(num_tokens == [3])]\n"
    reward = load_reward(write(code))
    known, unknown = reward.score_batch([prompt()], ["a"], [3])[0], reward.score_batch([prompt()], ["a"])[0]
    assert known is not None and known.value == 1.0
    assert unknown is not None and unknown.value == 0.0


def test_a_reward_may_say_how_long_a_sample_takes(write: Any) -> None:
    assert load_reward("math").sample_limit_s is None
    assert load_reward(write(_CLASS + "\ninstance.sample_limit_s = 30\n", "instance")).sample_limit_s == 30.0


def test_a_function_gets_messages_completions_and_columns_as_lists(write: Any) -> None:
    form = write(
        "def reward(prompts, completions, answer, domain, tier, level, **rest):\n"
        "    assert prompts[0][0]['role'] == 'user' and completions[0][0]['role'] == 'assistant'\n"
        "    assert domain == ['sums', 'sums'] and tier == [2, 2] and level == ['easy', None]\n"
        "    return [float(c[0]['content'] == a) for c, a in zip(completions, answer)]\n"
    )
    scores = load_reward(form).score_batch([prompt(level="easy"), prompt("8")], ["7", "7"])
    assert [score.value for score in scores if score] == [1.0, 0.0]
    assert all(score is not None and score.correct is None for score in scores)


def test_an_async_function_and_none_are_fine(write: Any) -> None:
    form = write("async def reward(completions, **columns):\n    return [0.5, None]\n")
    first, second = load_reward(form).score_batch([prompt(), prompt()], ["a", "b"])
    assert first is not None and first.value == 0.5
    assert second is None


def test_an_async_function_runs_inside_of_a_running_loop(write: Any) -> None:
    import asyncio

    reward = load_reward(write("async def reward(completions, **columns):\n    return [1]\n"))

    async def main() -> Any:
        return reward.score_batch([prompt()], ["a"])

    assert asyncio.run(main())[0].value == 1.0


def test_arrays_of_numbers_are_fine(write: Any) -> None:
    form = write("import numpy\ndef reward(completions, **columns):\n    return numpy.array([0.25, 1])\n")
    scores = load_reward(form).score_batch([prompt(), prompt()], ["a", "b"])
    assert [score.value for score in scores if score] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "returned 1 scores for 2 completions"),
        ("return 1.0", "returned float, not a list"),
        ("return ['1', '0']", "'1', which is no number, for sample 0"),
        ("return [1.0, 'x']", "no number, for sample 1"),
        ("return [0.0, float('nan')]", "must lie in"),
        ("return [0.0, -1.0]", "returned -1 for sample 1"),
        ("return [1 / len(c[0]['content']) for c in completions]", "ZeroDivisionError.* on sample 1 .prompt id-8"),
        ("raise KeyError('x')", "KeyError"),
    ],
)
def test_a_faulty_function_is_a_reward_error_in_one_line(write: Any, body: str, message: str) -> None:
    reward = load_reward(write(f"def reward(completions, **columns):\n    {body}\n"))
    with pytest.raises(RewardError, match=message) as caught:
        reward.score_batch([prompt(), prompt("8")], ["ab", ""])
    assert "\n" not in str(caught.value) and "'reward'" in str(caught.value)


_CLASS = """
from rlcs.rewards import Reward
from rlcs.types import Score

class Length(Reward):
    def __init__(self, timeout_s=9.0):
        self.timeout_s = timeout_s
        self.limit = None

    def setup(self):
        self.limit = 3

    def validate(self, answer, **columns):
        return None if answer.isdigit() else "not digits"

    def score(self, completion, answer, **columns):
        self.count("seen")
        if completion == "boom":
            raise ValueError("line one\\nline two")
        return Score(float(len(completion) <= self.limit), detail=str(self.timeout_s))

instance = Length()
text = "text"

class NotAReward:
    pass
"""


def test_a_class_is_made_and_set_up_and_gets_the_timeout(write: Any) -> None:
    reward = load_reward(write(_CLASS, "Length"), timeout_s=1.5)
    assert reward.name == "length"
    assert reward.validate(prompt("x")) == "not digits"
    scores = reward.score_batch([prompt(), prompt()], ["abc", "abcd"])
    assert [(score.value, score.detail) for score in scores if score] == [(1.0, "1.5"), (0.0, "1.5")]
    assert reward.take_counts() == {"seen": 2}
    assert reward.take_counts() == {}


def test_an_instance_is_taken_as_it_is(write: Any) -> None:
    scores = load_reward(write(_CLASS, "instance"), timeout_s=1.5).score_batch([prompt()], ["abc"])
    assert scores[0] is not None and scores[0].detail == "9.0"


def test_a_class_of_the_users_that_raises_ends_the_run_in_one_line(write: Any) -> None:
    reward = load_reward(write(_CLASS, "Length"))
    with pytest.raises(RewardError, match="'length' raised ValueError: line one line two on prompt id-8"):
        reward.score_batch([prompt(), prompt("8")], ["abc", "boom"])


def test_other_objects_are_refused(write: Any) -> None:
    with pytest.raises(RewardError, match="not a subclass"):
        load_reward(write(_CLASS, "NotAReward"))
    with pytest.raises(RewardError, match="is a str"):
        load_reward(write(_CLASS, "text"))
    with pytest.raises(RewardError):
        load_reward("mth")


class _Echo(Reward):
    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return None if columns.get("skip") else Score(float(completion == answer))


def test_a_reward_is_a_reward_function_of_trl() -> None:
    reward = _Echo()
    completions = [[{"role": "assistant", "content": "7"}], [{"role": "assistant", "content": "8"}], "7"]
    values = reward(
        prompts=["?"] * 3,
        completions=completions,
        answer=["7", "7", "7"],
        skip=[False, False, True],
        completion_ids=[[1], [2], [3]],
        trainer_state=object(),
        log_metric=print,
    )
    assert values == [1.0, 0.0, None]
    assert reward.__name__ == "echo"


def test_trl_without_answers_is_told_what_is_missing() -> None:
    with pytest.raises(ValueError, match="column named `answer`"):
        _Echo()(prompts=["?"], completions=["7"])


def test_metadata_named_like_an_argument_does_no_harm() -> None:
    columns = {"answer": "no", "completion": "no", "prompts": "no"}
    odd = Prompt("1", [], "7", "sums", None, columns)
    reward = load_reward("math")
    scores = reward.score_batch([odd], [render_response("", "7")])
    reward.close()
    assert scores[0] is not None and scores[0].correct
    assert np.isclose(scores[0].value, 1.0)
