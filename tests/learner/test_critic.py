"""PPO in the learner: a critic with a trunk of its own, or with the policy's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlcs.config import LearnerConfig, ModelConfig
from rlcs.config_lora import LoRAConfig
from rlcs.errors import CheckpointError, ConfigError, DataError, RLCSError
from rlcs.learner.batching import make_batch
from rlcs.learner.corrections import kl_estimate
from rlcs.learner.learner import Learner
from rlcs.learner.metrics import TokenMetrics
from rlcs.learner.token_advantages import token_advantages
from rlcs.types import Batch, FinishReason, Group, Prompt, Response

MakeBatch = Callable[..., Batch]
TRUNKS = ["own", "shared"]


def make_learner(folder: Path, *, dtype: Any = "float32", model: ModelConfig | None = None, **config: Any) -> Learner:
    settings = {
        "advantage_estimator": "gae",
        "threads": 1,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-2,
        "tokens_per_micro_batch": 100_000,
        "importance_sampling_correction": False,
        **config,
    }
    return Learner(str(folder), LearnerConfig(**settings), dtype=dtype, model=model, seed=1, max_completion_length=32)


def critic_of(learner: Learner) -> Any:
    assert learner._critic is not None
    return learner._critic


@pytest.fixture(scope="module")
def value_folder(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A value model with the policy's trunk and a random head, as `rlcs reward-model` would leave one."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("value")
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(policy_folder, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy_folder).save_pretrained(folder)
    return folder


def with_random_head(learner: Learner) -> Learner:
    torch.manual_seed(5)
    with torch.no_grad():
        critic_of(learner).head.weight.normal_()
    return learner


def gradients(learner: Learner, batch: Batch, rewards: np.ndarray) -> dict[str, torch.Tensor]:
    """Of policy and critic on the whole batch."""
    critic, sequences = critic_of(learner), np.arange(batch.num_sequences)
    batch = critic.prepare(batch, rewards, None)
    learner._accumulate(batch, sequences, None, None, TokenMetrics())
    if not critic.is_shared:
        critic._accumulate(batch, sequences)
    found = {f"policy.{name}": p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}
    found |= {f"critic.{name}": p.grad.clone() for name, p in critic._trained.named_parameters()}
    return found


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys() and any(name.startswith("critic") for name in left)
    for name, value in left.items():
        size = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(value, right[name], atol=1e-5 * size, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def all_weights(learner: Learner) -> list[torch.Tensor]:
    return [p.detach().clone() for module in (learner.model, critic_of(learner)._trained) for p in module.parameters()]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_values_are_those_of_what_stands_before_each_learned_token(
    policy_folder: Path, value_folder: Path, make_random_batch: MakeBatch, trunk: str, layout: str
) -> None:
    batch = make_random_batch(forced=True)
    if trunk == "own":
        learner = make_learner(policy_folder, critic_path=str(value_folder), layout=layout)
        model = AutoModelForSequenceClassification.from_pretrained(value_folder, dtype=torch.float32)
        weight, bias = model.score.weight, 0.0
    else:
        learner = with_random_head(make_learner(policy_folder, critic="shared", layout=layout))
        model = AutoModelForCausalLM.from_pretrained(policy_folder)
        weight, bias = critic_of(learner).head.weight, critic_of(learner).head.bias.item()
    values = critic_of(learner).values(batch)
    assert np.abs(values).max() > 0.1
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        with torch.no_grad():
            hidden = model.model(input_ids=torch.from_numpy(batch.token_ids[start:end])[None]).last_hidden_state[0]
            expected = torch.cat([torch.zeros(1), (hidden @ weight.T)[:-1, 0] + bias])
        expected *= torch.from_numpy(batch.loss_mask[start:end])
        np.testing.assert_allclose(values[start:end], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_layout_micro_batches_and_checkpointing_change_no_gradient(
    policy_folder: Path, make_random_batch: MakeBatch, trunk: str
) -> None:
    batch, rewards = make_random_batch(forced=True), np.random.default_rng(0).normal(size=12)

    def of(**settings: Any) -> dict[str, torch.Tensor]:
        learner = with_random_head(make_learner(policy_folder, critic=trunk, **settings))
        return gradients(learner, batch, rewards)

    whole = of()
    for settings in (
        {"tokens_per_micro_batch": 40},
        {"tokens_per_micro_batch": 150},
        {"layout": "padded"},
        {"gradient_checkpointing": True},
    ):
        assert_close(whole, of(**settings))


def test_gradient_of_the_own_critic_is_that_of_the_plain_formula(
    policy_folder: Path, value_folder: Path, make_random_batch: MakeBatch
) -> None:
    batch, rewards = make_random_batch(forced=True), np.random.default_rng(0).normal(size=12)
    learner = make_learner(policy_folder, critic_path=str(value_folder))
    found = gradients(learner, batch, rewards)
    _, targets = token_advantages(batch, rewards, critic_of(learner).values(batch), learner.config)
    model = AutoModelForSequenceClassification.from_pretrained(value_folder, dtype=torch.float32)
    errors = []
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        hidden = model.model(input_ids=torch.from_numpy(batch.token_ids[start:end])[None]).last_hidden_state[0]
        learned = np.flatnonzero(batch.loss_mask[start:end])
        errors.append(model.score(hidden)[learned - 1, 0] - torch.from_numpy(targets.returns[start + learned]))
    (torch.cat(errors).square().mean() / 2).backward()  # nothing is clipped yet
    for name, parameter in model.named_parameters():
        expected = parameter.grad
        assert expected is not None
        torch.testing.assert_close(found[f"critic.{name}"], expected, atol=2e-5, rtol=1e-3)


def test_gradient_on_a_shared_trunk_is_the_sum_of_both_losses(
    policy_folder: Path, make_random_batch: MakeBatch
) -> None:
    batch, rewards = make_random_batch(), np.random.default_rng(0).normal(size=12)
    small, large = (
        gradients(with_random_head(make_learner(policy_folder, critic="shared", vf_coef=size)), batch, rewards)
        for size in (0.2, 0.6)
    )
    neither = with_random_head(make_learner(policy_folder, critic="shared", vf_coef=1e-9))
    policy = gradients(neither, batch, rewards)
    for name, value in policy.items():
        added = small[name] - value
        torch.testing.assert_close(large[name] - value, 3 * added, atol=1e-4, rtol=1e-3)
    assert float((small["policy.model.norm.weight"] - policy["policy.model.norm.weight"]).abs().max()) > 1e-3


@pytest.mark.parametrize("trunk", TRUNKS)
def test_only_the_critic_learns_during_its_warm_up(
    policy_folder: Path, make_random_batch: MakeBatch, trunk: str
) -> None:
    batch, rewards = make_random_batch(), np.arange(12) % 2.0
    learner = make_learner(policy_folder, critic=trunk, critic_warmup=2, warmup_steps=2, num_minibatches=2)
    policy = [value.clone() for value in learner.weights().values()]
    for update in range(4):
        head = critic_of(learner).head.weight.detach().clone()
        metrics = learner.update(batch, group_sizes=[4, 4, 4], rewards=rewards)
        same = all(torch.equal(a, b) for a, b in zip(policy, learner.weights().values(), strict=True))
        assert same == (update < 2)
        assert metrics["learner/optimizer_steps"] == (0 if update < 2 else 2)
        # The policy's own warm-up begins when it does.
        assert metrics["learner/learning_rate"] == pytest.approx(1e-3 * [0.5, 0.5, 0.5, 1][update])
        assert metrics["learner/critic_learning_rate"] == pytest.approx(1e-2 * [0.5, 1, 1, 1][update])
        assert not torch.equal(head, critic_of(learner).head.weight)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_values_become_right(policy_folder: Path, make_random_batch: MakeBatch, trunk: str) -> None:
    batch = make_random_batch(4, 4)
    rewards = np.repeat([0.0, 1.0, 1.0, 0.0], 4)  # the prompt decides
    learner = make_learner(policy_folder, critic=trunk, critic_warmup=100, lam=1.0, cliprange_value=None)
    first = learner.update(batch, rewards=rewards)
    assert first["learner/explained_variance"] == 0 and first["learner/value_mean"] == 0  # a head of zeros
    for _ in range(60):
        last = learner.update(batch, rewards=rewards)
    # A shared trunk stands still during the warm-up: its head does what it can with a random model's features.
    bound = 0.9 if trunk == "own" else 0.6
    assert last["learner/explained_variance"] > bound
    assert last["learner/value_loss"] < (1 - bound) * first["learner/value_loss"]
    assert last["learner/value_mean"] == pytest.approx(last["learner/return_mean"], abs=0.1)


def play(learner: Learner, rng: np.random.Generator) -> tuple[Batch, np.ndarray]:
    """32 responses of 4 tokens that the policy samples to two prompts, and the share of right tokens: even ones, or odd
    ones, as the prompt asks.
    """
    prompts = np.array([[1], [2]]).repeat(16, 0)
    ids = torch.from_numpy(prompts)
    with torch.no_grad():
        for _ in range(4):
            scores = torch.softmax(learner.model(ids, use_cache=False).logits[:, -1].double(), -1).numpy()
            drawn = (scores.cumsum(1) < rng.random((32, 1)) * scores.sum(1, keepdims=True)).sum(1)
            ids = torch.cat([ids, torch.from_numpy(np.minimum(drawn, 299))[:, None]], 1)
    answers = ids[:, 1:].numpy()
    right = (answers % 2 == prompts % 2).mean(1)
    groups = [
        Group(
            Prompt(str(prompt), [], ""),
            np.array([prompt], np.int32),
            [
                Response(
                    answer.astype(np.int32), np.zeros(4, np.float32), np.ones(4, np.bool_), "", FinishReason.STOP, 0
                )
                for answer in part
            ],
        )
        for prompt, part in ((1, answers[:16]), (2, answers[16:]))
    ]
    return make_batch(groups, np.zeros(32)), right


@pytest.mark.parametrize("trunk", TRUNKS)
def test_ppo_learns_a_toy_problem(policy_folder: Path, trunk: str) -> None:
    learner = make_learner(
        policy_folder,
        critic=trunk,
        layout="padded",  # the policy's own forward is called for sampling
        learning_rate=3e-3,
        critic_learning_rate=3e-3,
        num_iterations=2,
        num_minibatches=2,
        critic_warmup=3,
        loss_type="dapo",
        vf_coef=0.5 if trunk == "shared" else LearnerConfig().vf_coef,
    )
    rng = np.random.default_rng(0)
    means, explained = [], []
    for _ in range(35):
        batch, right = play(learner, rng)
        # One prompt is worth more than the other, which the critic can know.
        metrics = learner.update(batch, group_sizes=[16, 16], rewards=right * np.repeat([1.0, 0.2], 16))
        means.append(right[:16].mean())
        explained.append(metrics["learner/explained_variance"])
    assert np.mean(means[:4]) < 0.65 and np.mean(means[-5:]) > 0.8, means
    assert np.mean(explained[10:20]) > 0.2, explained
    assert metrics["learner/optimizer_steps"] == 4


@pytest.mark.parametrize("kl_estimator", ["k1", "k3"])
def test_kl_in_the_reward_is_subtracted_at_each_token(
    policy_folder: Path, make_random_batch: MakeBatch, kl_estimator: Any
) -> None:
    batch, rewards = make_random_batch(), np.arange(12) % 2.0
    settings: dict[str, Any] = {"beta": 0.1, "kl_placement": "reward", "kl_estimator": kl_estimator}
    learner = make_learner(policy_folder, lam=1.0, **settings)
    initial = learner.logprobs(batch)
    assert learner.update(batch, rewards=rewards)["learner/kl_reference"] == 0
    estimates = kl_estimate(torch.from_numpy(learner.logprobs(batch)), torch.from_numpy(initial), kl_estimator).numpy()
    metrics = learner.update(batch, rewards=rewards)
    assert metrics["learner/kl_reference"] == pytest.approx(estimates[batch.loss_mask].mean(), abs=1e-5)
    # With lam 1 the return of a token is the reward less the penalties from there on.
    returns = np.zeros(len(batch.token_ids))
    for reward, start, end in zip(rewards, batch.offsets[:-1], batch.offsets[1:], strict=True):
        returns[start:end] = reward - 0.1 * np.cumsum(estimates[start:end][::-1])[::-1]
    assert np.abs(estimates).max() > 0.01
    assert metrics["learner/return_mean"] == pytest.approx(returns[batch.loss_mask].mean(), abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_saved_state_goes_on_bit_by_bit(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path, trunk: str, dtype: str
) -> None:
    settings: dict[str, Any] = {
        "dtype": dtype,
        "num_minibatches": 2,
        "num_iterations": 2,
        "critic": trunk,
        "critic_warmup": 1,
    }
    rewards = np.arange(12) % 2.0
    one = make_learner(policy_folder, **settings)
    for seed in (1, 2):
        one.update(make_random_batch(seed=seed), group_sizes=[4, 4, 4], rewards=rewards)
    one.save_state(tmp_path)
    two = make_learner(policy_folder, **settings)
    two.load_state(tmp_path)
    results = []
    for learner in (one, two):
        result = learner.update(make_random_batch(seed=3), group_sizes=[4, 4, 4], rewards=rewards)
        results.append({k: v for k, v in result.items() if not k.endswith(("seconds", "per_second"))})
    assert results[0] == results[1] and results[0]["learner/optimizer_steps"] == 4
    assert all(torch.equal(a, b) for a, b in zip(all_weights(one), all_weights(two), strict=True))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_a_saved_critic_can_start_another_run(
    policy_folder: Path, value_folder: Path, make_random_batch: MakeBatch, tmp_path: Path
) -> None:
    batch = make_random_batch()
    learner = make_learner(policy_folder, critic_path=str(value_folder))
    learner.update(batch, rewards=np.ones(12))
    learner.save_state(tmp_path)
    values = critic_of(make_learner(policy_folder, critic_path=str(tmp_path / "critic"))).values(batch)
    assert np.abs(values).max() > 0.1 and (values == critic_of(learner).values(batch)).all()


def test_state_without_a_critic_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    make_learner(policy_folder, advantage_estimator="grpo", critic_learning_rate=1e-5).save_state(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        make_learner(policy_folder).load_state(tmp_path)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_bfloat16_stays_near_float32(policy_folder: Path, make_random_batch: MakeBatch, trunk: str) -> None:
    batch = make_random_batch()
    exact, rounded = (
        critic_of(with_random_head(make_learner(policy_folder, critic=trunk, dtype=dtype))).values(batch)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - rounded).max() < 0.3 * np.abs(exact).max()


def test_gradients_that_are_not_finite_are_skipped_and_counted(
    policy_folder: Path, make_random_batch: MakeBatch
) -> None:
    learner = make_learner(policy_folder, critic_warmup=9, max_skipped_steps=2)
    with torch.no_grad():
        critic_of(learner).head.weight.fill_(torch.nan)
    assert learner.update(make_random_batch(), rewards=np.ones(12))["learner/critic_skipped_steps"] == 1
    with pytest.raises(RLCSError, match=r"2 steps in a row.*learner\.critic_learning_rate"):
        learner.update(make_random_batch(), rewards=np.ones(12))


def test_a_batch_without_learned_tokens_changes_nothing(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    batch = make_random_batch()
    batch.loss_mask[:] = False
    for trunk in TRUNKS:
        learner = make_learner(policy_folder, critic=trunk)
        before = all_weights(learner)
        metrics = learner.update(batch, rewards=np.ones(12))
        assert metrics["learner/learned_tokens"] == 0 and "learner/explained_variance" not in metrics
        assert all(torch.equal(a, b) for a, b in zip(before, all_weights(learner), strict=True))


def test_rewards_are_needed(policy_folder: Path, make_random_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match="gae needs the rewards"):
        make_learner(policy_folder).update(make_random_batch())


def test_a_critic_path_that_is_no_critic_of_this_policy_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    from rlcs.config import TinyConfig
    from rlcs.models import build_tiny_policy

    with pytest.raises(DataError, match=r"learner\.critic_path: transformers cannot make a critic of .*nowhere"):
        make_learner(policy_folder, critic_path=str(tmp_path / "nowhere"))
    build_tiny_policy(
        tmp_path / "other", TinyConfig(hidden_size=32, num_heads=2, num_layers=1), ["abcabc " * 200], seed=0
    )
    with pytest.raises(ConfigError, match="has another vocabulary than the policy"):
        make_learner(policy_folder, critic_path=str(tmp_path / "other"))
    model = AutoModelForSequenceClassification.from_pretrained(policy_folder, num_labels=3)
    model.save_pretrained(tmp_path / "three")
    with pytest.raises(DataError, match="has 3 labels"):
        make_learner(policy_folder, critic_path=str(tmp_path / "three"))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_under_an_adapter_the_base_stands_still(
    policy_folder: Path, make_random_batch: MakeBatch, tmp_path: Path, trunk: str
) -> None:
    model = ModelConfig(path=str(policy_folder), lora=LoRAConfig(r=4, lora_alpha=8))
    settings: dict[str, Any] = {"model": model, "critic": trunk, "critic_warmup": 1, "num_minibatches": 2}
    batch, rewards = make_random_batch(), np.arange(12) % 2.0
    learner = with_random_head(make_learner(policy_folder, **settings))
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}

    def changed() -> set[bool]:
        """Of which kinds parameters of the policy have moved: trained (True), frozen (False)."""
        now = dict(learner.model.named_parameters())
        return {now[name].requires_grad for name, old in before.items() if not torch.equal(old, now[name])}

    head = critic_of(learner).head.weight.detach().clone()
    values = critic_of(learner).values(batch)
    learner.update(batch, group_sizes=[4, 4, 4], rewards=rewards)
    assert changed() == set() and not torch.equal(head, critic_of(learner).head.weight), "the critic warms up"
    learner.update(batch, group_sizes=[4, 4, 4], rewards=rewards)
    assert changed() == {True}
    assert np.abs(critic_of(learner).values(batch) - values).max() > 1e-3
    learner.save_state(tmp_path)
    again = make_learner(policy_folder, **settings)
    again.load_state(tmp_path)
    np.testing.assert_array_equal(critic_of(again).values(batch), critic_of(learner).values(batch))
    results = [one.update(batch, group_sizes=[4, 4, 4], rewards=rewards) for one in (learner, again)]
    assert results[0]["learner/value_loss"] == results[1]["learner/value_loss"]


def test_a_shared_trunks_adapter_learns_from_the_value_loss_and_the_base_does_not(
    policy_folder: Path, make_random_batch: MakeBatch
) -> None:
    model = ModelConfig(path=str(policy_folder), lora=LoRAConfig(r=4, lora_alpha=8))
    batch, rewards = make_random_batch(), np.arange(12) % 2.0
    found = []
    for size in (1.0, 2.0):
        learner = with_random_head(make_learner(policy_folder, model=model, critic="shared", vf_coef=size))
        found.append(gradients(learner, batch, rewards))
        assert {name for name in found[-1] if name.startswith("policy")} == {
            f"policy.{name}" for name, p in learner.model.named_parameters() if p.requires_grad
        }
    neither = with_random_head(make_learner(policy_folder, model=model, critic="shared", vf_coef=1e-9))
    policy_alone = gradients(neither, batch, rewards)
    for name in found[0]:
        part = found[0][name] - policy_alone[name]
        torch.testing.assert_close(found[1][name] - policy_alone[name], 2 * part, atol=1e-5, rtol=1e-4)
    assert any(float((found[0][name] - policy_alone[name]).abs().max()) > 1e-4 for name in found[0] if "lora" in name)


def test_a_critic_of_its_own_has_the_policys_kind_of_optimizer(
    policy_folder: Path, make_random_batch: MakeBatch
) -> None:
    batch, rewards = make_random_batch(), np.arange(12) % 2.0
    own = make_learner(policy_folder, optimizer="muon", num_minibatches=1)
    assert [type(part).__name__ for part in critic_of(own).optimizer.parts] == ["Muon", "AdamW"]
    rates = {group["lr"] for group in critic_of(own).optimizer.param_groups}
    assert rates == {1e-2}
    assert not any(p is critic_of(own).head.weight for p in critic_of(own).optimizer.parts[0].param_groups[0]["params"])
    first = own.update(batch, group_sizes=[4, 4, 4], rewards=rewards)
    for _ in range(5):
        last = own.update(batch, group_sizes=[4, 4, 4], rewards=rewards)
    assert last["learner/value_loss"] < first["learner/value_loss"]
    shared = make_learner(policy_folder, optimizer="muon", critic="shared")
    assert isinstance(critic_of(shared).optimizer, torch.optim.AdamW)
