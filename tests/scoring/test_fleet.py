"""The scoring fleet, on a real Ray cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rlcs.config import RewardConfig
from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.scoring import ScoringFleet, latency_metrics
from rlcs.types import FinishReason, Group, Prompt, Response

_REWARDS = """
import os, time

def length(prompts, completions, **columns):
    return [min(1.0, len(c[0]["content"]) / 10) for c in completions]

def only_b(prompts, completions, domain, **columns):
    return [1.0 if name == "b" else None for name in domain]

def group_size(prompts, completions, answer, **columns):
    return [answer.count(a) / 10 for a in answer]

def fragile(prompts, completions, **columns):
    texts = [c[0]["content"] for c in completions]
    if "hang" in texts:
        time.sleep(600)
    if "die" in texts:
        os._exit(1)
    if "raise" in texts:
        raise ValueError("bad text")
    return [1.0] * len(texts)

def unlucky(prompts, completions, **columns):
    for fault in ("raise", "die"):
        marks = os.path.dirname(__file__)
        if any(fault in c[0]["content"] for c in completions) and not os.path.exists(os.path.join(marks, fault)):
            open(os.path.join(marks, fault), "w").close()
            if fault == "die":
                os.kill(os.getpid(), 9)
            raise ValueError("a fault that passes")
    return [1.0] * len(completions)
"""


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    path = tmp_path / "fleet_rewards.py"
    path.write_text(_REWARDS)
    return path


def group(answer: str, texts: list[str], domain: str = "a") -> Group:
    prompt = Prompt(f"{domain}-{answer}", [{"role": "user", "content": "?"}], answer, domain)
    empty: dict[str, Any] = {
        "token_ids": np.zeros(1, np.int32),
        "logprobs": np.zeros(1, np.float32),
        "loss_mask": np.ones(1, np.bool_),
    }
    responses = [Response(text=text, finish_reason=FinishReason.STOP, policy_version=0, **empty) for text in texts]
    return Group(prompt, np.zeros(1, np.int32), responses)


def test_the_default_reward_scores_every_response_in_its_place() -> None:
    fleet = ScoringFleet(RewardConfig(num_actors=2), "math")
    groups = [group(str(i), [render_response("", str(j)) for j in range(4)] + ["no box"]) for i in range(40)]
    metrics = fleet.score(groups)
    fleet.close()
    for i, scored in enumerate(groups):
        assert scored.rewards.tolist() == [float(i == j) for j in range(4)] + [0.0]
        assert all(r.reward is not None and r.reward.detail for r in scored.responses)
    assert metrics["scoring/format_no_box"] == 40
    assert metrics["scoring/timeouts"] == metrics["scoring/crashes"] == 0
    assert metrics["scoring/seconds"] > 0


def test_rewards_are_summed_by_weight_and_none_is_left_out(rewards: Path) -> None:
    config = RewardConfig(functions=["math", f"{rewards}:only_b"], weights=[3.0, 1.0])
    fleet = ScoringFleet(config, "math")
    groups = [group("7", [render_response("", "7")]), group("7", [render_response("", "8")], "b")]
    metrics = fleet.score(groups)
    fleet.close()
    assert groups[0].rewards.tolist() == [1.0]
    assert groups[1].rewards.tolist() == [0.25]
    second = groups[1].responses[0].reward
    assert second is not None and second.parts == {"math": 0.0, "only_b": 1.0} and second.correct is False
    assert metrics["scoring/mean/only_b"] == 1.0 and metrics["scoring/mean/math"] == 0.5


def test_a_function_sees_all_responses_of_a_prompt_at_once(rewards: Path) -> None:
    fleet = ScoringFleet(RewardConfig(functions=[f"{rewards}:group_size"], num_actors=2), "math")
    groups = [group(str(i), ["x"] * 5) for i in range(30)]
    fleet.score(groups)
    fleet.close()
    assert all(scored.rewards.tolist() == [0.5] * 5 for scored in groups)


def test_a_prompt_to_which_no_reward_applies_scores_zero_and_is_counted(rewards: Path) -> None:
    fleet = ScoringFleet(RewardConfig(functions=[f"{rewards}:only_b"]), "math")
    groups = [group("7", ["x", "y"])]
    metrics = fleet.score(groups)
    fleet.close()
    assert metrics["scoring/not_applicable"] == 2
    assert groups[0].rewards.tolist() == [0.0, 0.0]


def test_faults_that_pass_cost_no_sample_its_score(rewards: Path) -> None:
    fleet = ScoringFleet(RewardConfig(functions=[f"{rewards}:unlucky"]), "math")
    groups = [group("1", ["a", "raise"]), group("2", ["die"])]
    metrics = fleet.score(groups)
    restarts = [watched.restarts for watched in fleet.watched()]
    fleet.close()
    assert [scored.rewards.tolist() for scored in groups] == [[1.0, 1.0], [1.0]]
    assert metrics["scoring/retries"] == 1 and metrics["scoring/crashes"] == 0
    assert restarts == [1]


def test_a_sample_that_hangs_or_kills_costs_only_itself(rewards: Path) -> None:
    fleet = ScoringFleet(RewardConfig(functions=[f"{rewards}:fragile"], timeout_s=0.1), "math")
    groups = [group("1", ["a", "hang", "b"]), group("2", ["c", "die"])]
    metrics = fleet.score(groups)
    again = [group("3", ["a"])]
    fleet.score(again)
    fleet.close()
    assert groups[0].rewards.tolist() == [1.0, 0.0, 1.0]
    assert groups[1].rewards.tolist() == [1.0, 0.0]
    assert metrics["scoring/timeouts"] == 1 and metrics["scoring/crashes"] == 1
    assert metrics["scoring/timeouts/fragile"] == 1 and metrics["scoring/errors/fragile"] == 1
    assert groups[0].responses[1].reward_seconds["fragile"] > 0.1
    assert latency_metrics(groups)["scoring/latency_max_ms/fragile"] > 100
    hung, died = groups[0].responses[1].reward, groups[1].responses[1].reward
    assert hung is not None and "timed out" in hung.detail
    assert died is not None and "died" in died.detail
    assert again[0].rewards.tolist() == [1.0]


def test_an_error_in_a_reward_arrives_as_a_reward_error_in_one_line(rewards: Path) -> None:
    fleet = ScoringFleet(RewardConfig(functions=[f"{rewards}:fragile"]), "math")
    with pytest.raises(RewardError) as caught:
        fleet.score([group("1", ["a", "raise"])])
    message = str(caught.value)
    assert message == "reward 'fragile' raised ValueError: bad text on sample 1 (prompt a-1, domain a)"
    assert fleet.score([group("1", ["a"])])["scoring/timeouts"] == 0
    fleet.close()


def test_a_reward_that_cannot_be_found_is_said_at_once(rewards: Path) -> None:
    with pytest.raises(RewardError, match="nothing_here"):
        ScoringFleet(RewardConfig(functions=[f"{rewards}:nothing_here"]), "math")


def test_close_leaves_no_processes() -> None:
    fleet = ScoringFleet(RewardConfig(), "math")
    fleet.score([group("1+\\sqrt{2}", [render_response("", "\\sqrt{3+2\\sqrt{2}}")])])
    workers = [
        p for p in psutil.process_iter(["cmdline"]) if "rlcs.rewards.worker_process" in (p.info["cmdline"] or [])
    ]
    mine = [p for p in workers if _descends_from_ray(p)]
    fleet.close()
    fleet.close()
    _, alive = psutil.wait_procs(mine, timeout=15)
    assert mine and not alive
    with pytest.raises(RewardError, match="closed"):
        fleet.score([])


def _descends_from_ray(process: psutil.Process) -> bool:
    """Of this process: another run on the machine has scoring actors too."""
    parents = process.parents()
    return any("ScoringActor" in " ".join(parent.cmdline()) for parent in parents) and any(
        parent.pid == os.getpid() for parent in parents
    )
