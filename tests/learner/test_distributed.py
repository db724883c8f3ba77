"""Two ranks on CPUs give what one gives: gloo, whole copies of the weights (ddp) or shards of them (fsdp)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlcs.adapters import CONFIG_FILE, WEIGHTS_FILE
from rlcs.config import LearnerConfig, ModelConfig
from rlcs.learner.distributed import Ranks, open_store
from rlcs.learner.learner import Learner
from rlcs.types import Batch

SIZE = 2
GROUPS = [4, 4, 4]
REWARDS = [float(index % 3 == 0) for index in range(12)]
GRPO = {"threads": 1, "learning_rate": 1e-3, "tokens_per_micro_batch": 60, "num_minibatches": 2, "beta": 0.1}
PADDED = {"threads": 1, "learning_rate": 1e-3, "tokens_per_micro_batch": 90, "layout": "padded", "loss_type": "dapo"}
OPTIONS = {"seed": 1, "max_completion_length": 32}
STEPS = [f"batch-{index}" for index in range(5)]
PPO = {**GRPO, "advantage_estimator": "gae", "critic_learning_rate": 1e-3, "critic_warmup": 1}
CASES: dict[str, dict[str, Any]] = {
    "grpo": {"config": GRPO, "batches": STEPS},
    "padded": {"config": {**PADDED, "gradient_checkpointing": True, "num_iterations": 2}, "batches": STEPS[:2]},
    "bfloat16": {"config": GRPO, "batches": STEPS[:2], "options": {**OPTIONS, "dtype": "bfloat16"}},
    "ppo": {"config": PPO, "batches": STEPS[:3]},
    "ppo-shared": {"config": {**PPO, "critic": "shared"}, "batches": STEPS[:3]},
    "muon": {"config": {**GRPO, "optimizer": "muon"}, "batches": STEPS[:2], "only": "ddp"},
    "resumed": {"config": GRPO, "batches": STEPS[2:4], "load": True},
    "lora": {"config": GRPO, "batches": STEPS[:3], "options": {**OPTIONS, "model": {"lora": {"r": 4}}}},
    "poisoned": {"config": {**GRPO, "num_minibatches": 1}, "batches": ["poisoned", "batch-0"]},
    "one-sequence": {"config": {**GRPO, "num_minibatches": 1}, "batches": ["batch-0", "one-sequence", "nothing"]},
}


def keep_only(batch: Batch, sequences: int) -> Batch:
    """The batch with learned tokens in the first `sequences` only."""
    mask = batch.loss_mask.copy()
    mask[batch.offsets[sequences] :] = False
    return dataclasses.replace(batch, loss_mask=mask)


@pytest.fixture(scope="module")
def batches(make_random_batch: Callable[..., Batch]) -> dict[str, Batch]:
    made = {name: make_random_batch(seed=index, forced=True) for index, name in enumerate(STEPS)}
    poisoned = make_random_batch(seed=0)
    poisoned.advantages[np.flatnonzero(poisoned.loss_mask)[0]] = np.nan
    return made | {
        "poisoned": poisoned,
        "one-sequence": keep_only(make_random_batch(seed=7), 1),
        "nothing": keep_only(make_random_batch(seed=7), 0),
    }


@dataclasses.dataclass
class Outcome:
    weights: dict[str, torch.Tensor]
    metrics: list[dict[str, float]]
    logprobs: np.ndarray
    state: Path


def settings(name: str, policy: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    options = CASES[name].get("options", OPTIONS)
    if "model" in options:
        options = {**options, "model": ModelConfig(path=str(policy), **options["model"])}
    return CASES[name]["config"], options


@pytest.fixture(scope="module")
def alone(
    policy_folder: Path, batches: dict[str, Batch], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    """What one rank makes of each case; and the state `half` that `resumed` goes on from."""
    folder = tmp_path_factory.mktemp("alone")
    half = Learner(str(policy_folder), LearnerConfig(**GRPO), **OPTIONS)
    for batch in STEPS[:2]:
        half.update(batches[batch], group_sizes=GROUPS)
    half.save_state(folder / "half")
    outcomes = {}
    for name, case in CASES.items():
        config, options = settings(name, policy_folder)
        learner = Learner(str(policy_folder), LearnerConfig(**config), **options)
        if case.get("load"):
            learner.load_state(folder / "half")
        metrics = [
            learner.update(batches[batch], group_sizes=GROUPS, rewards=np.array(REWARDS)) for batch in case["batches"]
        ]
        learner.save_state(folder / name)
        logprobs = learner.logprobs(batches[case["batches"][-1]])
        outcomes[name] = Outcome(learner.weights(), metrics, logprobs, folder / name)
    return outcomes


@pytest.fixture(scope="module")
def together(
    policy_folder: Path, batches: dict[str, Batch], alone: dict[str, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder in which two ranks have left what they made of each case, once as ddp and once as fsdp."""
    folder = tmp_path_factory.mktemp("together")
    for name, batch in batches.items():
        arrays = dataclasses.asdict(batch)
        del arrays["media"]
        np.savez(folder / f"{name}.npz", **arrays)
    plan = {}
    for parallel in ("ddp", "fsdp"):
        for name, case in CASES.items():
            if case.get("only", parallel) != parallel:
                continue
            config, options = CASES[name]["config"], CASES[name].get("options", OPTIONS)
            plan[f"{parallel}-{name}"] = {
                "policy": str(policy_folder),
                "config": {**config, "num_ranks": SIZE, "parallel": parallel},
                "options": options,
                "batches": case["batches"],
                "group_sizes": GROUPS,
                "rewards": REWARDS,
                "load": str(alone["grpo"].state.parent / "half") if case.get("load") else None,
            }
    (folder / "plan.json").write_text(json.dumps(plan))
    store = open_store("127.0.0.1")
    worker = str(Path(__file__).with_name("rank.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, worker, str(rank), str(SIZE), str(store.port), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(SIZE)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=250)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.fixture(params=["ddp", "fsdp"])
def outcome(request: pytest.FixtureRequest, together: Path) -> Callable[[str], Outcome]:
    """What the ranks made of a case; all of them said the same."""

    def read(name: str) -> Outcome:
        folder = together / f"{request.param}-{name}"
        told = [json.loads((folder / f"metrics-{rank}.json").read_text()) for rank in range(SIZE)]
        logprobs = [np.load(folder / f"logprobs-{rank}.npy") for rank in range(SIZE)]
        for ours, theirs in zip(*told, strict=True):
            for key in ours.keys() - {"learner/seconds", "learner/tokens_per_second"}:
                assert ours[key] == theirs[key] or np.isnan(ours[key]), key
        np.testing.assert_array_equal(*logprobs)
        return Outcome(load_file(folder / "weights.safetensors"), told[0], logprobs[0], folder / "state")

    return read


def assert_same(one: Outcome, two: Outcome, atol: float = 1e-5) -> None:
    assert one.weights.keys() == two.weights.keys()
    for name, value in one.weights.items():
        torch.testing.assert_close(two.weights[name], value, atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    np.testing.assert_allclose(two.logprobs, one.logprobs, atol=100 * atol)


def test_five_updates_of_two_ranks_give_the_weights_of_one(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome]
) -> None:
    one, two = alone["grpo"], outcome("grpo")
    assert_same(one, two)
    for alone_, together_ in zip(one.metrics, two.metrics, strict=True):
        for key in alone_.keys() - {"learner/seconds", "learner/tokens_per_second"}:
            assert together_[key] == pytest.approx(alone_[key], rel=1e-3, abs=1e-5), key
        assert 0 <= together_["learner/rank_spread"] < 1 and "learner/rank_spread" not in alone_


def test_padded_rows_with_checkpointed_activations_and_two_passes_do_too(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome]
) -> None:
    assert_same(alone["padded"], outcome("padded"))


def test_bfloat16_leaves_as_bfloat16_near_that_of_one_rank(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome]
) -> None:
    two = outcome("bfloat16")
    assert all(value.dtype == torch.bfloat16 for value in two.weights.values())
    for name, value in alone["bfloat16"].weights.items():
        torch.testing.assert_close(two.weights[name].float(), value.float(), atol=8e-3, rtol=8e-3)


@pytest.mark.parametrize("critic", ["ppo", "ppo-shared"])
def test_a_critic_of_two_ranks_is_that_of_one(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome], critic: str
) -> None:
    one, two = alone[critic], outcome(critic)
    assert_same(one, two)
    for name, value in load_file(one.state / "critic" / "weights.safetensors").items():
        found = load_file(two.state / "critic" / "weights.safetensors")[name]
        torch.testing.assert_close(found, value, atol=1e-5, rtol=0)
    for key in ("learner/value_loss", "learner/explained_variance"):
        assert two.metrics[-1][key] == pytest.approx(one.metrics[-1][key], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("outcome", ["ddp"], indirect=True)
def test_muons_steps_are_those_of_one_rank(alone: dict[str, Outcome], outcome: Callable[[str], Outcome]) -> None:
    # Newton and Schulz's iteration runs in bfloat16: a sum in another order shows in its last bits.
    assert_same(alone["muon"], outcome("muon"), atol=2e-4)


def test_two_ranks_go_on_from_the_state_of_one(alone: dict[str, Outcome], outcome: Callable[[str], Outcome]) -> None:
    assert_same(alone["resumed"], outcome("resumed"))


def test_one_rank_goes_on_from_the_state_of_two(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome], policy_folder: Path, batches: dict[str, Batch]
) -> None:
    two = outcome("resumed")
    assert {path.suffix for path in two.state.iterdir()} == {".json", ".safetensors"}
    learners = [Learner(str(policy_folder), LearnerConfig(**GRPO), **OPTIONS) for _ in range(2)]
    for learner, state in zip(learners, (alone["resumed"].state, two.state), strict=True):
        learner.load_state(state)
        assert learner.updates == 4
        learner.update(batches["batch-4"], group_sizes=GROUPS)
    for name, value in learners[0].weights().items():
        torch.testing.assert_close(learners[1].weights()[name], value, atol=1e-5, rtol=0)


def test_the_policy_folder_of_two_ranks_is_that_of_one(outcome: Callable[[str], Outcome]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    two = outcome("grpo")
    folder = two.state.parent / "policy"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]
    assert load_file(folder / "model.safetensors").keys() == two.weights.keys()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in two.weights.items())
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_an_adapter_is_trained_and_saved_by_two_ranks_as_by_one(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome]
) -> None:
    two = outcome("lora")
    assert all("lora_" in name or name == CONFIG_FILE for name in two.weights)
    assert_same(alone["lora"], two)
    assert {path.name for path in (two.state.parent / "policy").iterdir()} >= {CONFIG_FILE, WEIGHTS_FILE}
    assert all("lora_" in name for name in load_file(two.state / "weights.safetensors"))


def test_all_ranks_skip_a_step_whose_gradient_is_not_finite(
    alone: dict[str, Outcome], outcome: Callable[[str], Outcome]
) -> None:
    two = outcome("poisoned")
    assert [line["learner/skipped_steps"] for line in two.metrics] == [1, 1]
    assert [line["learner/optimizer_steps"] for line in two.metrics] == [0, 1]
    assert_same(alone["poisoned"], two)


def test_a_rank_without_work_takes_part(alone: dict[str, Outcome], outcome: Callable[[str], Outcome]) -> None:
    two = outcome("one-sequence")
    assert two.metrics[1]["learner/rank_spread"] == pytest.approx(1)  # one computes, one waits
    assert two.metrics[2]["learner/learned_tokens"] == 0
    assert_same(alone["one-sequence"], two)


def test_one_rank_needs_no_process_group() -> None:
    ranks, values = Ranks(), np.arange(3)
    assert ranks.sum(values) is values and ranks.max(values) is values and ranks.broadcast(values) is values
    parameter = torch.nn.Parameter(torch.ones(2))
    ranks.sum_gradients([parameter])
    assert parameter.grad is None and not torch.distributed.is_initialized()
