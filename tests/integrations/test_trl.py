"""A built-in reward as a reward function of TRL's GRPOTrainer, in one true step on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlcs.models import load_tokenizer
from rlcs.rewards.extract import ExtractOptions, Fallback
from rlcs.rewards.math import Math

PROMPT = "What is 1 + 1?"
ANSWERS = (r"\boxed{2}", r"\boxed{3}")


@pytest.fixture(scope="module")
def policy(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that says one of two answers: a response of an untrained one is noise."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(str(tiny_policy))
    model = AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32)
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)
    texts = [prompt + tokenizer.encode(answer, add_special_tokens=False) for answer in ANSWERS]
    ids = torch.tensor([[*text, tokenizer.eos_token_id] for text in texts])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("trl") / "policy"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_one_step_of_grpo_with_a_built_in_reward(policy: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    seen: list[tuple[str, str, float | None]] = []

    class Recorded(Math):
        """The reward, and what it was asked."""

        name = "math"

        def score_batch(self, completions, answers, columns):  # type: ignore[no-untyped-def]
            scores = super().score_batch(completions, answers, columns)
            for completion, answer, row, score in zip(completions, answers, columns, scores, strict=True):
                assert row["messages"] == [{"role": "user", "content": PROMPT}] and row["domain"] == "sums"
                seen.append((completion, answer, score and score.value))
            return scores

    # TRL decodes without special tokens, and the box markers are special tokens of this policy.
    reward = Recorded(ExtractOptions(fallbacks=(Fallback.BOXED,)))
    # The template would put a role's token between the prompt and the answer; a plain text is taught above.
    tokenizer = load_tokenizer(str(policy))
    rows = {"prompt": [PROMPT] * 2, "answer": ["2", "7"], "domain": ["sums"] * 2}
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
            per_device_train_batch_size=16,
            num_generations=8,
            max_completion_length=16,
            learning_rate=1e-3,
            max_steps=1,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    try:
        trainer.train()
    finally:
        reward.close()
    assert trainer.state.global_step == 1
    assert len(seen) == 16
    for completion, answer, value in seen:
        assert value == float(completion.strip() == rf"\boxed{{{answer}}}"), (completion, answer, value)
    values = [value for _, _, value in seen]
    assert 0 < sum(values) < 16, "some are right and some are wrong"
    logs = {name: value for entry in trainer.state.log_history for name, value in entry.items()}
    assert logs["rewards/math/mean"] == pytest.approx(sum(values) / 16)
    moved = [name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])]
    assert moved, "the step changed the policy"
