"""The loss and its gradient against TRL's own GRPOTrainer on the same batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlcs.config import LearnerConfig
from rlcs.learner.advantages import learning_batch
from rlcs.learner.batching import learned_counts
from rlcs.learner.learner import Learner
from rlcs.learner.metrics import TokenMetrics
from rlcs.models import load_tokenizer
from rlcs.types import Batch, FinishReason, Group, Score

MAX_COMPLETION_LENGTH = 32
CAP = 1.5
TEMPERATURE = 0.9
BETA = 0.2


# Ratios and weights are near 1: bounds are close to it, so that every one of them matters.
GSPO = {"importance_sampling_level": "sequence", "epsilon": 0.02, "epsilon_high": 0.03}
BOUNDS = {"importance_sampling_clip_min": 0.7, "importance_sampling_cap": 1.4}
VARIANTS: dict[str, dict[str, Any]] = {
    "bnpo": {"loss_type": "bnpo"},
    "gspo": GSPO,
    "gspo_kl": {**GSPO, "beta": BETA},
    "gspo_dapo": {**GSPO, "loss_type": "dapo"},
    "luspo": {**GSPO, "loss_type": "luspo"},
    "dual_clip": {"delta": 1.35},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.1, "beta": BETA},
    "sapo": {"loss_type": "sapo", "sapo_temperature_neg": 1.3},
    "sapo_sequence": {"loss_type": "sapo", "importance_sampling_level": "sequence"},
    "vespo": {"loss_type": "vespo"},
    "vespo_token_mask": {  # one masked token takes its whole sequence out
        "loss_type": "vespo", "importance_sampling_mode": "token_mask", "importance_sampling_clip_min": 0.68,
    },
    "vespo_plain": {"loss_type": "vespo", "importance_sampling_correction": False},
    "off_policy_mask": {"off_policy_mask_threshold": 0.02},
    "token_truncate": {"importance_sampling_mode": "token_truncate", **BOUNDS},
    "token_mask": {"importance_sampling_mode": "token_mask", **BOUNDS},
    "sequence_truncate": {"importance_sampling_mode": "sequence_truncate", **BOUNDS},
    "sequence_mask": {"importance_sampling_mode": "sequence_mask", **BOUNDS},
    "all": {
        **GSPO, **BOUNDS, "importance_sampling_mode": "sequence_mask", "off_policy_mask_threshold": 0.02, "beta": BETA,
        "delta": 1.05,
    },
}  # fmt: skip
THEIR_NAMES = {
    "importance_sampling_correction": "vllm_importance_sampling_correction",
    "importance_sampling_mode": "vllm_importance_sampling_mode",
    "importance_sampling_cap": "vllm_importance_sampling_clip_max",
    "importance_sampling_clip_min": "vllm_importance_sampling_clip_min",
}


def trl_trainer(folder: Path, output: Path, *, importance: bool, **options: Any) -> Any:
    """TRL's trainer; `options` are named as in `LearnerConfig`."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=lambda completions, **columns: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(output),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
            per_device_train_batch_size=12,
            gradient_accumulation_steps=1,
            steps_per_generation=1,
            num_generations=4,
            max_completion_length=MAX_COMPLETION_LENGTH,
            temperature=TEMPERATURE,
            **{THEIR_NAMES.get(name, name): value for name, value in options.items()},
        ),
        train_dataset=Dataset.from_dict({"prompt": ["one"] * 12}),
        processing_class=load_tokenizer(str(folder)),
    )
    trainer.use_vllm = importance  # only the loss looks at it here: there is no engine
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def trl_inputs(batch: Batch, columns: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The batch as TRL's padded tensors: prompts padded on the left, completions on the right."""
    spans = list(zip(batch.offsets[:-1], batch.offsets[1:], strict=True))
    firsts = [int(start + max(1, batch.loss_mask[start:end].argmax())) for start, end in spans]
    prompt_width = max(first - start for first, (start, _) in zip(firsts, spans, strict=True))
    width = max(end - first for first, (_, end) in zip(firsts, spans, strict=True))
    size = len(spans)
    inputs = {
        "prompt_ids": torch.zeros(size, prompt_width, dtype=torch.long),
        "prompt_mask": torch.zeros(size, prompt_width, dtype=torch.long),
        "completion_ids": torch.zeros(size, width, dtype=torch.long),
        "completion_mask": torch.zeros(size, width, dtype=torch.long),
        "tool_mask": torch.zeros(size, width, dtype=torch.long),
        "advantages": torch.zeros(size),
        "num_items_in_batch": torch.tensor(float(batch.loss_mask.sum())),
        **{name: torch.zeros(size, width) for name in columns},
    }
    for row, (first, (start, end)) in enumerate(zip(firsts, spans, strict=True)):
        inputs["prompt_ids"][row, prompt_width - (first - start) :] = torch.from_numpy(batch.token_ids[start:first])
        inputs["prompt_mask"][row, prompt_width - (first - start) :] = 1
        inputs["completion_ids"][row, : end - first] = torch.from_numpy(batch.token_ids[first:end])
        inputs["completion_mask"][row, : end - first] = 1
        inputs["tool_mask"][row, : end - first] = torch.from_numpy(batch.loss_mask[first:end])
        inputs["advantages"][row] = float(batch.advantages[first])
        for name, values in columns.items():
            inputs[name][row, : end - first] = torch.from_numpy(values[first:end])
    return inputs


@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
@pytest.mark.parametrize("importance", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("kl", ["no_kl", "kl", "kl_corrected"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_loss_gradient_and_metrics_equal_trls(
    policy_folder: Path,
    tmp_path: Path,
    make_random_batch: Callable[..., Batch],
    loss_type: str,
    kl: str,
    importance: bool,
    on_policy: bool,
) -> None:
    beta, corrected = (0.0 if kl == "no_kl" else BETA), kl == "kl_corrected"
    batch = make_random_batch(3, 4, forced=True)
    learner = Learner(
        str(policy_folder),
        LearnerConfig(
            loss_type=loss_type,
            beta=beta,
            importance_sampling_correction=importance,
            importance_sampling_cap=CAP,
            use_bias_correction_kl=corrected,
            threads=1,
            tokens_per_micro_batch=120,
        ),
        max_completion_length=MAX_COMPLETION_LENGTH,
        temperature=TEMPERATURE,
    )
    # Old, reference and engine log-probabilities near the policy's, so that clips, KL and weights all matter.
    rng = np.random.default_rng(7)
    current = learner.logprobs(batch)
    near = [(current + rng.normal(0, 0.3, len(current))).astype(np.float32) * batch.loss_mask for _ in range(3)]
    old, reference = (None if on_policy else near[0]), (near[1] if beta else None)
    batch.logprobs[:] = near[2]

    metrics = TokenMetrics()
    loss = learner._accumulate(batch, np.arange(batch.num_sequences), old, reference, metrics)

    columns = {"importance_sampling_ratio": np.minimum(np.exp((current if old is None else old) - batch.logprobs), CAP)}
    if old is not None:
        columns["old_per_token_logps"] = old
    if reference is not None:
        columns["ref_per_token_logps"] = reference
    trainer = trl_trainer(
        policy_folder,
        tmp_path,
        importance=importance,
        loss_type=loss_type,
        beta=beta,
        use_bias_correction_kl=corrected,
        epsilon=0.2,
        epsilon_high=0.28,
        importance_sampling_mode="token_truncate",
        importance_sampling_cap=CAP,
    )
    expected = trainer._compute_loss(trainer.model, trl_inputs(batch, columns))
    expected.backward()

    assert abs(loss - expected.item()) <= 1e-5
    theirs = dict(trainer.model.named_parameters())
    for name, parameter in learner.model.named_parameters():
        difference = float((parameter.grad - theirs[name].grad).abs().max())
        assert difference <= 1e-5, f"{name}: {difference}"
    assert max(float(p.grad.abs().max()) for p in theirs.values()) > 1e-2

    ours, logged = metrics.means(), {key: values[-1] for key, values in trainer._metrics["train"].items()}
    assert ours["entropy"] == pytest.approx(logged["entropy"], abs=1e-4)
    assert ours["clip_low"] == pytest.approx(logged["clip_ratio/low_mean"], abs=1e-6)
    assert ours["clip_high"] == pytest.approx(logged["clip_ratio/high_mean"], abs=1e-6)
    assert (ours["clip_high"] == 0) == on_policy
    if beta:
        assert ours["kl_reference"] == pytest.approx(logged["kl"], abs=1e-4)


def trl_importance(old: np.ndarray, batch: Batch, mode: str, low: float | None, high: float | None) -> np.ndarray:
    """The lines of TRL's GRPOTrainer._generate_and_score_completions, a sequence at a time."""
    result = np.ones(len(old), np.float32)
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        difference = torch.from_numpy((old - batch.logprobs)[start:end] * batch.loss_mask[start:end])
        if mode in ("sequence_mask", "sequence_truncate"):
            difference = difference.sum(dim=-1, keepdim=True)
        ratio = torch.exp(difference)
        if mode in ("sequence_truncate", "token_truncate"):
            ratio = torch.clamp(ratio, min=low, max=high)
        else:
            ratio = ratio.masked_fill((ratio < (low or -np.inf)) | (ratio > (high or np.inf)), value=0.0)
        result[start:end] = ratio.numpy()
    return result


@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_of_every_variant_equal_trls(
    policy_folder: Path, tmp_path: Path, make_random_batch: Callable[..., Batch], variant: str, on_policy: bool
) -> None:
    options: dict[str, Any] = {"epsilon_high": 0.28, **VARIANTS[variant]}
    config = LearnerConfig(threads=1, tokens_per_micro_batch=120, **options)
    batch = make_random_batch(3, 4, forced=True)
    # As a response with one advantage has it in TRL.
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        assert len(set(batch.advantages[start:end][batch.loss_mask[start:end]])) == 1
    learner = Learner(str(policy_folder), config, max_completion_length=MAX_COMPLETION_LENGTH, temperature=TEMPERATURE)
    rng = np.random.default_rng(7)
    current = learner.logprobs(batch)
    near = [(current + rng.normal(0, 0.2, len(current))).astype(np.float32) * batch.loss_mask for _ in range(3)]
    old, reference = (None if on_policy else near[0]), (near[1] if config.beta else None)
    batch.logprobs[:] = near[2]

    metrics = TokenMetrics()
    loss = learner._accumulate(batch, np.arange(batch.num_sequences), old, reference, metrics)

    weights = trl_importance(
        current if old is None else old,
        batch,
        config.importance_sampling_mode,
        config.importance_sampling_clip_min,
        config.importance_sampling_cap,
    )
    columns = {"sampling_per_token_logps": batch.logprobs}
    if config.importance_sampling_correction:
        columns["importance_sampling_ratio"] = weights
    if old is not None:
        columns["old_per_token_logps"] = old
    if reference is not None:
        columns["ref_per_token_logps"] = reference
    options = {
        "loss_type": "grpo",
        "importance_sampling_mode": config.importance_sampling_mode,
        "importance_sampling_cap": config.importance_sampling_cap,
        **options,
    }
    trainer = trl_trainer(policy_folder, tmp_path, importance=config.importance_sampling_correction, **options)
    inputs = trl_inputs(batch, columns)
    if config.importance_sampling_correction:
        inputs["importance_sampling_ratio"][inputs["completion_mask"] == 0] = 1  # as exp(0) there
    expected = trainer._compute_loss(trainer.model, inputs)
    expected.backward()

    assert abs(loss - expected.item()) <= 1e-5 * max(1, abs(expected.item()))
    theirs = dict(trainer.model.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in theirs.values())
    assert largest > 1e-2
    for name, parameter in learner.model.named_parameters():
        difference = float((parameter.grad - theirs[name].grad).abs().max())
        assert difference <= 1e-5 * max(1, largest), f"{name}: {difference}"

    ours, logged = metrics.means(), {key: values[-1] for key, values in trainer._metrics["train"].items()}
    if config.importance_sampling_level == "token" and "clip_ratio/low_mean" in logged:
        assert ours["clip_low"] == pytest.approx(logged["clip_ratio/low_mean"], abs=1e-6)
        assert ours["clip_high"] == pytest.approx(logged["clip_ratio/high_mean"], abs=1e-6)
    if variant == "cispo":
        assert ours["clip_high"] == pytest.approx(logged["cispo_clip_ratio"], abs=1e-6)
    # What is tested here does something.
    if not on_policy and config.loss_type not in ("sapo", "vespo"):
        assert ours["clip_high"] > 0
    if config.off_policy_mask_threshold:
        assert 0 < ours["off_policy_masked"] < 1
    if config.importance_sampling_mode.endswith("mask"):
        learned = weights[batch.loss_mask]
        assert 0 < (learned == 0).mean() < 1


def test_masked_truncated_responses_equal_trls(
    policy_folder: Path, tmp_path: Path, make_groups: Callable[..., list[Group]]
) -> None:
    groups = make_groups(3, 4)
    for index, response in enumerate(response for group in groups for response in group.responses):
        response.reward = Score(float(index % 3 == 0))
        response.finish_reason = FinishReason.LENGTH if index % 4 == 1 else FinishReason.STOP
    config = LearnerConfig(mask_truncated_completions=True, threads=1, importance_sampling_correction=False)
    batch = learning_batch(groups, config)
    assert (learned_counts(batch) == 0).sum() == 3
    learner = Learner(str(policy_folder), config, temperature=TEMPERATURE)
    loss = learner._accumulate(batch, np.arange(batch.num_sequences), None, None, TokenMetrics())
    trainer = trl_trainer(policy_folder, tmp_path, importance=False, loss_type="grpo")
    expected = trainer._compute_loss(trainer.model, trl_inputs(batch, {}))
    expected.backward()
    assert abs(loss - expected.item()) <= 1e-5
    theirs = dict(trainer.model.named_parameters())
    for name, parameter in learner.model.named_parameters():
        assert float((parameter.grad - theirs[name].grad).abs().max()) <= 1e-5
