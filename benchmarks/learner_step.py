"""Samples a second of an optimizer step: our learner against TRL's GRPOTrainer, same model, same batch, same threads.

    python benchmarks/learner_step.py [--groups 8] [--size 8] [--threads 1] [--clock cpu] [--repeats 2] [--json FILE]

Two mixes of response lengths: `even` (all the same) and `skewed` (log-normal, as those of reasoning models are). TRL
gets the batch as its own code lays it out (prompts padded left, responses right, to the longest of the batch), and the
best of several sizes of micro-batch. `step` is forward, backward, clipping and AdamW from ready tensors; ours also
counts its packing. `corrected` adds what each needs for importance sampling against an engine: TRL computes the old
log-probabilities in a pass of their own, we take them from the step's forward. The clock is the processor time of one
thread, which other work on the machine hardly changes; `--clock wall --threads N` for a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

MAX_COMPLETION_LENGTH = 256
TRL_MICRO_BATCHES = (8, 32)


def make_groups(lengths: np.ndarray, vocabulary: int, rng: np.random.Generator) -> list[Any]:
    """Groups of random tokens with the response lengths [groups, size]."""
    from rlcs.types import FinishReason, Group, Prompt, Response

    groups = []
    for index, row in enumerate(lengths):
        responses = [
            Response(
                token_ids=rng.integers(10, vocabulary, length).astype(np.int32),
                logprobs=np.full(length, -np.log(vocabulary), np.float32),
                loss_mask=np.ones(length, np.bool_),
                text="",
                finish_reason=FinishReason.STOP,
                policy_version=0,
            )
            for length in row
        ]
        prompt_ids = rng.integers(10, vocabulary, int(rng.integers(24, 49))).astype(np.int32)
        groups.append(Group(Prompt(str(index), [], ""), prompt_ids, responses))
    return groups


def trl_inputs(groups: list[Any], advantages: np.ndarray) -> dict[str, Any]:
    """The padded tensors of a whole generation batch, as GRPOTrainer makes them."""
    import torch

    prompts = [torch.from_numpy(g.prompt_ids.astype(np.int64)) for g in groups for _ in g.responses]
    responses = [torch.from_numpy(r.token_ids.astype(np.int64)) for g in groups for r in g.responses]

    def pad(rows: list[torch.Tensor], side: str) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side=side)

    return {
        "prompt_ids": pad(prompts, "left"),
        "prompt_mask": pad([torch.ones_like(p) for p in prompts], "left"),
        "completion_ids": pad(responses, "right"),
        "completion_mask": pad([torch.ones_like(r) for r in responses], "right"),
        "advantages": torch.from_numpy(advantages.reshape(-1).astype(np.float32)),
    }


class TRLStep:
    """GRPOTrainer's own loss, and the optimizer step around it that transformers' Trainer makes."""

    def __init__(self, folder: Path, output: Path) -> None:
        import torch
        from datasets import Dataset
        from transformers import AutoModelForCausalLM
        from trl import GRPOConfig, GRPOTrainer

        from rlcs.models import load_tokenizer

        self.trainer: Any = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            reward_funcs=lambda completions, **columns: [0.0] * len(completions),
            args=GRPOConfig(
                output_dir=str(output),
                use_cpu=True,
                bf16=False,
                report_to="none",
                gradient_checkpointing=False,
                per_device_train_batch_size=8,
                num_generations=8,
                max_completion_length=MAX_COMPLETION_LENGTH,
                loss_type="grpo",
                beta=0.0,
            ),
            train_dataset=Dataset.from_dict({"prompt": ["one"] * 8}),
            processing_class=load_tokenizer(str(folder)),
        )
        self.trainer.model.train()
        self.optimizer = torch.optim.AdamW(self.trainer.model.parameters(), lr=1e-6, fused=True)

    def __call__(self, inputs: dict[str, Any], size: int, *, corrected: bool) -> None:
        import torch

        trainer, model = self.trainer, self.trainer.model
        total = len(inputs["prompt_ids"])
        trainer.current_gradient_accumulation_steps = -(-total // size)
        for start in range(0, total, size):
            part = {name: value[start : start + size] for name, value in inputs.items()}
            if corrected:
                with torch.no_grad():
                    part["old_per_token_logps"], _, _ = trainer._get_per_token_logps_and_entropies(
                        model,
                        torch.cat([part["prompt_ids"], part["completion_ids"]], 1),
                        torch.cat([part["prompt_mask"], part["completion_mask"]], 1),
                        part["completion_ids"].shape[1],
                    )
            trainer._compute_loss(model, part).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def best_seconds(step: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """The shortest of `repeats` runs."""
    times = []
    for _ in range(repeats):
        started = clock()
        step()
        times.append(clock() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")

    from rlcs.config import LearnerConfig, TinyConfig
    from rlcs.learner.batching import make_batch
    from rlcs.learner.learner import Learner
    from rlcs.models import build_tiny_policy

    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    rng = np.random.default_rng(0)
    shape = (args.groups, args.size)
    mixes = {
        "even": np.full(shape, 80),
        "skewed": np.clip(rng.lognormal(np.log(50), 0.7, shape), 8, MAX_COMPLETION_LENGTH).astype(int),
    }
    advantages = rng.normal(size=shape).astype(np.float32)
    results: dict[str, Any] = {"sequences": int(np.prod(shape))}
    results |= {"threads": args.threads, "clock": args.clock, "repeats": args.repeats}
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy"
        build_tiny_policy(policy, TinyConfig(), ["one two three 4 5 6"], seed=0)
        config = LearnerConfig(threads=args.threads, tokens_per_micro_batch=4096)
        learner = Learner(str(policy), config, max_completion_length=MAX_COMPLETION_LENGTH)
        trl = TRLStep(policy, Path(folder) / "trl")
        results["parameters"] = sum(p.numel() for p in learner.model.parameters())
        for mix, lengths in mixes.items():
            groups = make_groups(lengths, 300, rng)
            batch = make_batch(groups, advantages)
            inputs = trl_inputs(groups, advantages)
            learner.update(batch)  # warm up
            ours = best_seconds(partial(learner.update, batch), args.repeats, clock)
            theirs = {
                size: best_seconds(partial(trl, inputs, size, corrected=False), args.repeats, clock)
                for size in TRL_MICRO_BATCHES
            }
            best = min(theirs, key=theirs.__getitem__)
            corrected = best_seconds(partial(trl, inputs, best, corrected=True), 1, clock)
            results[mix] = {
                "mean_length": float(lengths.mean()),
                "longest": int(lengths.max()),
                "ours_samples_per_second": lengths.size / ours,
                "trl_samples_per_second": lengths.size / theirs[best],
                "trl_micro_batch": best,
                "step_ratio": theirs[best] / ours,
                "corrected_ratio": corrected / ours,
            }
            figures = results[mix]
            print(
                f"{mix:7s} mean {figures['mean_length']:5.1f} longest {figures['longest']:3d} tokens | ours "
                f"{figures['ours_samples_per_second']:6.1f} samples/s, TRL {figures['trl_samples_per_second']:6.1f} "
                f"(micro-batch {best}) | step {figures['step_ratio']:.2f}x, corrected "
                f"{figures['corrected_ratio']:.2f}x",
                flush=True,
            )
    text = json.dumps(results, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
