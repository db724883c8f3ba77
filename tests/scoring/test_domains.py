"""The scoring fleet with rewards by domain, a judge and a reward model, on a real Ray cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rlcs.config import RewardConfig
from rlcs.response_format import render_response
from rlcs.scoring import ScoringFleet
from rlcs.types import FinishReason, Group, Prompt, Response
from tests.rewards.scripted_server import says, serving

_REWARDS = """
def only_a(prompts, completions, domain, **columns):
    assert set(domain) == {"a"}, domain
    return [0.5] * len(prompts)

def tokens(prompts, completions, num_tokens, **columns):
    return [tokens / 10 for tokens in num_tokens]
"""


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    path = tmp_path / "domain_rewards.py"
    path.write_text(_REWARDS)
    return path


@pytest.fixture(scope="module")
def reward_model(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random reward model."""
    from transformers import AutoTokenizer

    from rlcs.rewards.reward_model import load_classifier

    folder = tmp_path_factory.mktemp("reward-model")
    load_classifier(str(tiny_policy), need_head=False).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(folder)
    return folder


def group(domain: str, texts: list[str], answer: str = "7", num_tokens: int = 1) -> Group:
    prompt = Prompt(f"{domain}-{answer}", [{"role": "user", "content": "Which number?"}], answer, domain)
    empty: dict[str, Any] = {
        "token_ids": np.zeros(num_tokens, np.int32),
        "logprobs": np.zeros(num_tokens, np.float32),
        "loss_mask": np.ones(num_tokens, np.bool_),
    }
    responses = [Response(text=text, finish_reason=FinishReason.STOP, policy_version=0, **empty) for text in texts]
    return Group(prompt, np.zeros(1, np.int32), responses)


RIGHT, WRONG = render_response("I count.", "7"), render_response("I count.", "8")


def said(answer: str) -> str:
    """An open-ended response."""
    return f"<think>I look.</think><answer>{answer}</answer>"


def test_a_prompt_is_sent_to_the_rewards_of_its_domain_only(rewards: Path) -> None:
    config = RewardConfig(
        style={"max_completion_length": 10, "cache": 4},
        domains={"a": {"functions": [f"{rewards}:only_a", "math"], "weights": [1, 3], "style": False}},
        combine="gate",
    )
    fleet = ScoringFleet(config, "math")
    groups = [group("b", [RIGHT, WRONG], num_tokens=8), group("a", [RIGHT, WRONG]), group("b", [RIGHT], num_tokens=10)]
    metrics = fleet.score(groups)
    fleet.close()
    assert groups[0].rewards.tolist() == [1.0, 0.0] and groups[1].rewards.tolist() == [0.875, 0.125]
    too_long = groups[2].responses[0].reward
    assert too_long is not None and (too_long.value, too_long.correct) == (0.0, True)
    assert too_long.parts["style.overlong"] == 0.0 and "gate style failed" in too_long.detail
    parts = groups[1].responses[0].reward
    assert parts is not None and parts.parts == {"only_a": 0.5, "math": 1.0}
    assert metrics["scoring/mean/only_a"] == 0.5 and metrics["scoring/samples/only_a"] == 2
    assert metrics["scoring/mean/math"] == 0.6 and metrics["scoring/samples/math"] == 5
    assert metrics["scoring/samples/style"] == 3


def test_the_number_of_tokens_is_a_column(rewards: Path) -> None:
    fleet = ScoringFleet(RewardConfig(functions=[f"{rewards}:tokens"]), "math")
    groups = [group("a", ["x", "y"], num_tokens=3)]
    fleet.score(groups)
    fleet.close()
    assert groups[0].rewards.tolist() == [0.3, 0.3]


def test_options_reach_the_reward_in_its_actor() -> None:
    extract = {"fallbacks": ["final_answer"]}
    fleet = ScoringFleet(RewardConfig(options={"math": {"extract": extract}}), "math")
    groups = [group("a", ["Final answer: 7", "Final answer: 8"])]
    fleet.score(groups)
    fleet.close()
    assert groups[0].rewards.tolist() == [1.0, 0.0]


def test_a_slow_judge_is_waited_for_and_asked_only_about_its_domain() -> None:
    # Far slower than timeout_s a sample and the net's grace of five seconds.
    with serving(says('{"reason": "the same", "verdict": "correct"}', after_s=6.0)) as server:
        config = RewardConfig(
            timeout_s=0.1,
            judge={"base_url": server.url, "model": "judge", "max_retries": 0},
            domains={"open": {"functions": ["judge"]}},
        )
        fleet = ScoringFleet(config, "math")
        groups = [
            group("sums", [RIGHT, WRONG]),
            group("open", [said("It is seven."), said("The number is seven.")], "seven"),
        ]
        metrics = fleet.score(groups)
        fleet.close()
        assert len(server.bodies) == 2 and all("seven" in str(body).lower() for body in server.bodies)
    assert groups[0].rewards.tolist() == [1.0, 0.0] and groups[1].rewards.tolist() == [1.0, 1.0]
    assert metrics["scoring/timeouts"] == 0 and metrics["scoring/judged"] == 2
    assert metrics["scoring/judge_requests"] == len(server.bodies)


def test_verifier_and_reward_model_share_a_run(reward_model: Path) -> None:
    config = RewardConfig(
        style=True,
        combine="gate",
        model={"path": str(reward_model)},
        domains={"open": {"functions": ["reward_model"]}, "sums": {"style": {"weights": {"box": 0}}}},
    )
    fleet = ScoringFleet(config, "math")

    def score() -> tuple[list[Group], dict[str, float]]:
        boxed = "<think>I look.</think><answer><|begin_of_box|>A town.<|end_of_box|></answer>"
        groups = [group("sums", [RIGHT, WRONG]), group("open", [said("A town."), said("A city?"), boxed])]
        return groups, fleet.score(groups)

    (sums, open_ended), metrics = score()
    assert sums.rewards.tolist() == [1.0, 0.0] and sums.pass_rate == 0.5
    town, city, boxed = (response.reward for response in open_ended.responses)
    assert town is not None and city is not None and boxed is not None
    assert 0.0 < town.value < 1.0 and town.correct is None and town.value != city.value
    assert boxed.value == 0.0 and boxed.parts["style.box"] == 0.0
    assert open_ended.pass_rate == pytest.approx((town.value + city.value) / 3)
    assert metrics["scoring/samples/reward_model"] == 3 and metrics["scoring/samples/math"] == 2

    # All scoring processes die: the reward model is loaded again, and no sample is the worse for it.
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if "ScoringActor" in " ".join(process.cmdline()):
            process.kill()
    (_, again), after = score()
    fleet.close()
    assert again.rewards == pytest.approx(open_ended.rewards)
    assert after["scoring/crashes"] == 1
