"""Samples a second of a whole iteration (generate, score, update, sync) and of its update, ours against TRL's GRPOTrainer.

    python benchmarks/iteration.py [--size 3M 30M] [--mix even skewed] [--side ours trl trl-vllm] [--prompts 8] [--json FILE]

The same random policy, prompts, sampling and number of responses (G = 8) on both sides, each side in a process of its own,
alone in it: ours is `Engine` (vLLM) and `Learner`, without Ray; `trl` is `GRPOTrainer.train` as it stands, which
generates with transformers, at the better of two sizes of micro-batch; `trl-vllm` asks it for its vLLM mode.

The policy makes the lengths: it ends a response with a constant probability at each token (`skewed`: geometric lengths of
mean 60, cut at 256), or never (`even`: 96 tokens each). Rewards are random, so that every group has a gradient; the
learning rate is 1e-9, so that the policy stays what it is. The clock is the processor time of the process with one thread,
which other work on the machine hardly changes; the first iteration is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

G = 8
SHAPES = {"3M": (256, 4, 704), "30M": (512, 9, 1408)}  # width, layers, MLP width
LENGTHS = {"even": 96, "skewed": 256}  # most tokens of a response
MEAN_SKEWED = 60
WORDS = "one two three four five six seven eight nine ten".split()
ENV = {
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def build_policy(folder: Path, size: str, mix: str) -> int:
    """A random Qwen2 whose chance to end is the same at each token; returns its number of parameters.

    Width 0 of the residual stream is large and constant, so that after the last norm it is about the root of the width;
    only the head's row of the end-of-sequence token reads it.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from rlcs.models import build_tokenizer

    tokenizer = build_tokenizer([" ".join(WORDS)] * 100, 300)
    width, layers, inner = SHAPES[size]
    torch.manual_seed(0)
    vocabulary = -(-len(tokenizer) // 64) * 64
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 4.0
        model.lm_head.weight[:, 0] = 0.0
        row = model.lm_head.weight[tokenizer.eos_token_id]
        row.zero_()
        ids = torch.randint(0, len(tokenizer), (4, 64))
        low, high = (-40.0, -39.0) if mix == "even" else (-5.0, 5.0)
        for _ in range(40):
            row[0] = (low + high) / 2
            chance = float(torch.softmax(model(input_ids=ids).logits, -1)[..., tokenizer.eos_token_id].mean())
            low, high = (row[0].item(), high) if chance < 1 / MEAN_SKEWED else (low, row[0].item())
            if mix == "even":
                break
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def prompts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, int(rng.integers(8, 16)))) for _ in range(count)]


def ours(folder: Path, mix: str, count: int, iterations: int) -> list[dict[str, float]]:
    from rlcs.config import LearnerConfig, ModelConfig, RolloutConfig
    from rlcs.learner.advantages import learning_batch
    from rlcs.learner.learner import Learner
    from rlcs.models import load_tokenizer
    from rlcs.rollout.engine import Engine
    from rlcs.rollout.work import SamplingSettings
    from rlcs.types import Group, Prompt, Score
    from rlcs.weights import to_arrays

    longest = LENGTHS[mix]
    rollout = RolloutConfig(num_generations=G, max_completion_length=longest, max_prompt_length=128)
    engine = Engine(str(folder), ModelConfig(path=str(folder)), rollout, max_model_len=128 + longest, seed=0)
    config = LearnerConfig(threads=1, tokens_per_micro_batch=4096, learning_rate=1e-9)
    learner = Learner(str(folder), config, max_completion_length=longest)
    tokenizer, rng = load_tokenizer(str(folder)), np.random.default_rng(0)
    texts = prompts(count)
    results = []
    for iteration in range(iterations + 1):
        started = time.process_time()
        ids = [np.asarray(tokenizer(text).input_ids, np.int32) for text in texts]
        queue = list(range(count))

        def take(most: int, queue: list[int] = queue) -> list[int]:
            taken, queue[:] = queue[:most], queue[most:]
            return taken

        settings = SamplingSettings(max_tokens=longest, temperature=1.0, top_p=1.0)
        answers = engine.generate(ids, [G] * count, settings, take, 3600)
        found = {answer.index: answer.responses for answer in answers if answer is not None}
        groups = [Group(Prompt(str(i), [], ""), ids[i], found[i]) for i in range(count)]
        for group in groups:
            for response in group.responses:
                response.reward = Score(value=float(rng.random()), correct=None, parts={}, detail="")
        generated = time.process_time()
        learner.update(learning_batch(groups, config), group_sizes=[G] * count)
        updated = time.process_time()
        engine.load_weights(to_arrays(learner.weights()), version=iteration + 1)
        ended = time.process_time()
        lengths = [len(r.token_ids) for group in groups for r in group.responses]
        results.append(_figures(ended - started, updated - generated, float(np.mean(lengths)), max(lengths)))
    return results[1:]


def trl(folder: Path, mix: str, count: int, iterations: int, micro: int, *, vllm: bool) -> list[dict[str, float]]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rlcs.models import load_tokenizer

    if vllm:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29517")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    lengths: list[int] = []
    scored: list[float] = []
    ends: list[tuple[float, float, list[int]]] = []

    def reward(completions: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        scored.append(time.process_time())
        lengths[:] = [len(ids) for ids in completion_ids]
        return rng.random(len(completions)).tolist()

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **columns: Any) -> None:
            ends.append((time.process_time(), scored[-1], list(lengths)))

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) if not vllm else str(folder),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder.parent / "trl"),
            use_cpu=True,
            bf16=False,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            gradient_checkpointing=False,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=count * G // micro,
            num_generations=G,
            max_completion_length=LENGTHS[mix],
            max_steps=iterations + 1,
            learning_rate=1e-9,
            loss_type="grpo",
            beta=0.0,
            shuffle_dataset=False,
            use_vllm=vllm,
            vllm_mode="colocate",
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts(count) * (iterations + 2)}),
        processing_class=load_tokenizer(str(folder)),
        callbacks=[Clock()],
    )
    trainer.train()
    return [
        _figures(end - before[0], end - generated, float(np.mean(sizes)), max(sizes))
        for before, (end, generated, sizes) in itertools.pairwise(ends)
    ]


def _figures(iteration_s: float, update_s: float, mean: float, longest: int) -> dict[str, float]:
    return {"iteration_s": iteration_s, "update_s": update_s, "mean_length": mean, "longest": longest}


def run_side(folder: Path, mix: str, side: str, args: argparse.Namespace) -> dict[str, float] | str:
    """The mean figures of one side, or the last line of its error."""
    best: dict[str, float] | None = None
    for micro in (8, 32) if side != "ours" else (0,):
        words = [sys.executable, __file__, "--child", str(folder), mix, side, str(micro)]
        words += ["--prompts", str(args.prompts), "--iterations", str(args.iterations)]
        done = subprocess.run(words, env={**os.environ, **ENV}, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        rows = json.loads(done.stdout.strip().splitlines()[-1])
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"micro_batch": float(micro)}
        if best is None or mean["iteration_s"] < best["iteration_s"]:
            best = mean
    assert best is not None
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--mix", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--side", nargs="+", default=["ours", "trl"], help="ours, trl, trl-vllm")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.child:
        folder, mix, side, micro = args.child
        if side == "ours":
            rows = ours(Path(folder), mix, args.prompts, args.iterations)
        else:
            rows = trl(Path(folder), mix, args.prompts, args.iterations, int(micro), vllm=side == "trl-vllm")
        print(json.dumps(rows))
        return
    results: dict[str, Any] = {}
    samples = args.prompts * G
    for size in args.size:
        for mix in args.mix:
            with tempfile.TemporaryDirectory() as root:
                folder = Path(root) / "policy"
                parameters = build_policy(folder, size, mix)
                found = {side: run_side(folder, mix, side, args) for side in args.side}
            results[f"{size} {mix}"] = {"parameters": parameters, **found}
            for side, figures in found.items():
                if isinstance(figures, str):
                    print(f"{size} {mix}: {side} does not run: {figures}", flush=True)
                    continue
                print(
                    f"{size} ({parameters / 1e6:.1f} M) {mix}: {side}, mean length {figures['mean_length']:.0f}, longest "
                    f"{figures['longest']:.0f}: {samples / figures['iteration_s']:.2f} samples/s an iteration, "
                    f"{samples / figures['update_s']:.2f} the update",
                    flush=True,
                )
            one, other = found.get("ours"), found.get("trl")
            if isinstance(one, dict) and isinstance(other, dict):
                print(
                    f"{size} {mix}: iteration {other['iteration_s'] / one['iteration_s']:.2f}x, "
                    f"update {other['update_s'] / one['update_s']:.2f}x",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
