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
from rlcs.learner.learner import Learner
from rlcs.learner.metrics import TokenMetrics
from rlcs.models import load_tokenizer
from rlcs.types import Batch

MAX_COMPLETION_LENGTH = 32
CAP = 1.5
TEMPERATURE = 0.9
BETA = 0.2


def trl_trainer(folder: Path, output: Path, *, loss_type: str, beta: float, corrected: bool, importance: bool) -> Any:
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
            loss_type=loss_type,
            beta=beta,
            use_bias_correction_kl=corrected,
            epsilon=0.2,
            epsilon_high=0.28,
            vllm_importance_sampling_mode="token_truncate",
            vllm_importance_sampling_clip_max=CAP,
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
    firsts = [int(start + batch.loss_mask[start:end].argmax()) for start, end in spans]
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
        policy_folder, tmp_path, loss_type=loss_type, beta=beta, corrected=corrected, importance=importance
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
