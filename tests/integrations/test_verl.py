"""Rewards as verl's `compute_score`, called as verl's reward managers call it."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcs.errors import RewardError
from rlcs.integrations import verl
from rlcs.integrations.verl import ComputeScore, compute_score, make_compute_score
from rlcs.response_format import render_response


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    """End the worker processes of the rewards that were loaded."""
    yield
    verl.close()


@pytest.mark.parametrize(
    ("data_source", "solution", "truth", "right"),
    [
        ("openai/gsm8k", "3 * 4 = 12\n#### 12", "12", True),
        ("openai/gsm8k", "3 * 4 = 12\n#### 1,200", "1200", True),
        ("openai/gsm8k", "#### 12\n#### 13", "13", False),
        ("openai/gsm8k", "It is 12", "12", False),
        ("openai/gsm8k", "#### 5\n" + render_response("", "12"), "12", False),
        ("DigitalLearningGmbH/MATH-lighteval", r"So \boxed{\frac12}.", "0.5", True),
        ("lighteval/MATH", r"So \boxed{2} or \boxed{3}.", "3", False),
        ("math_dapo", "Reasoning.\nAnswer: $-3$", "-3", True),
        ("aime2024", "Answer: 113", "113", True),
        ("numina_olympiads", r"\boxed{x^2-1}", "(x-1)(x+1)", True),
        ("hiyouga/geometry3k", r"<think>hm</think> \boxed{3\sqrt{2}}", r"\sqrt{18}", True),
        ("math", render_response("", "5"), 5, True),
        ("math", render_response("", "5"), np.int64(5), True),
        ("math", render_response("", "5"), np.array(["4", "5"]), True),
        ("math", render_response("", "5"), {"target": ["3", "4"]}, False),
    ],
)
def test_data_sources_of_verl_have_a_reward(data_source: str, solution: str, truth: Any, right: bool) -> None:
    result = compute_score(data_source=data_source, solution_str=solution, ground_truth=truth, extra_info={"index": 0})
    assert set(result) == {"score", "acc", "detail"}
    assert result["score"] == result["acc"] == float(right), result
    assert right or result["detail"]


def test_a_sample_may_name_its_reward() -> None:
    solution, truth = render_response("", "(B)"), "B"
    assert compute_score("mine", solution, truth, {"reward": "math"})["score"] == 1.0
    assert compute_score("mine", solution, truth, {}, reward="math")["score"] == 1.0
    assert compute_score("math", solution, truth, None)["score"] == 1.0
    with pytest.raises(RewardError, match="no reward is known for verl's data source 'mine'"):
        compute_score("mine", solution, truth, {})
    with pytest.raises(RewardError, match="there is no reward 'mth'; did you mean math"):
        compute_score("mine", solution, truth, {}, reward="mth")


def test_data_cannot_name_a_file_to_import(tmp_path: Path) -> None:
    path = tmp_path / "evil.py"
    path.write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(prompts, completions, **columns):\n    return [1.0]\n"
    )
    with pytest.raises(RewardError, match="no built-in reward"):
        compute_score("mine", "x", "x", {"reward": f"{path}:f"})
    assert not (tmp_path / "ran").exists()
    assert compute_score("mine", "x", "x", {}, reward=f"{path}:f")["score"] == 1.0


def test_columns_options_and_parts_reach_the_reward(tmp_path: Path) -> None:
    path = tmp_path / "columns.py"
    path.write_text(
        "import json\n"
        "from rlcs.rewards import Reward\n"
        "from rlcs.types import Score\n"
        "class Columns(Reward):\n"
        "    def __init__(self, value=0.0):\n"
        "        self.value = value\n"
        "    def score(self, completion, answer, **columns):\n"
        "        if completion == 'skip':\n"
        "            return None\n"
        "        return Score(self.value, detail=json.dumps(columns))\n"
    )
    score = make_compute_score(f"{path}:Columns", options={"value": 0.25})
    extra = {"question": "What?", "width": 640, "index": 3, "num_turns": None}
    result = score("any", "text", "truth", extra)
    columns = json.loads(result["detail"])
    assert (result["score"], result["acc"]) == (0.25, 0.25)
    assert columns["width"] == 640 and columns["domain"] == "any"
    assert columns["messages"] == [{"role": "user", "content": "What?"}]
    assert score("any", "skip", "truth", extra) == {"score": 0.0, "acc": 0.0, "detail": "the reward does not apply"}
    assert extra == {"question": "What?", "width": 640, "index": 3, "num_turns": None}, "left as it was"
    with pytest.raises(RewardError, match="no option 'valu'"):
        make_compute_score(f"{path}:Columns", options={"valu": 1})


def test_fallbacks_are_those_asked_for() -> None:
    boxed, marked = r"\boxed{4}", render_response("", "4")
    assert make_compute_score("math")("x", boxed, "4")["score"] == 1.0
    strict = make_compute_score("math", fallbacks=())
    assert strict("x", boxed, "4")["score"] == 0.0 and strict("x", marked, "4")["score"] == 1.0
    with pytest.raises(RewardError, match="did you mean 'boxed'"):
        make_compute_score("math", fallbacks=["boxd"])


def test_it_is_loaded_as_verl_loads_it() -> None:
    # verl.utils.import_utils.load_extern_object and trainer/ppo/reward.py of verl 0.9.1, in short.
    path, name = "pkg://rlcs.integrations.verl", "compute_score"
    function = getattr(importlib.import_module(path.removeprefix("pkg://")), name)
    assert not inspect.iscoroutinefunction(function)

    def call_with_kwargs(raw: Any, more: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        return raw(*args, **{**kwargs, **more})

    configured = partial(call_with_kwargs, function, {"reward": "math", "fallbacks": ["final_answer"]})
    result = configured(
        data_source="mine",
        solution_str="Final answer: 7",
        ground_truth="7",
        extra_info={"num_turns": None, "rollout_reward_scores": {}},
        reward_router_address="127.0.0.1:1",
        reward_model_tokenizer=None,
    )
    assert result["score"] == 1.0


def test_it_is_safe_in_threads_and_can_be_copied() -> None:
    score = copy.deepcopy(ComputeScore("math"))  # as pickling would, which the project bans
    pairs = [(str(n), str(n if n % 2 else n + 1)) for n in range(100)]

    def run(pair: tuple[str, str]) -> float:
        found: float = score("x", render_response("", pair[0]), pair[1])["score"]
        return found

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, pairs)) == [float(a == b) for a, b in pairs]
