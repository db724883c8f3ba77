"""LoRA beside all weights: what a sync sends and takes, how fast engines generate after it, what the learner holds.

    python benchmarks/lora_sync.py [--sizes tiny 100m] [--rank 16] [--syncs 5]

Each line is a process of its own. Engine lines: the bytes that leave the learner, the seconds until a live vLLM engine has them
in place (median; without the way through Ray), tokens a second of 32 prompts x 8 responses x 64 tokens afterwards, and the
largest difference of log-probabilities to the learner's after the last sync. Learner lines: growth of the peak resident set
over that before the policy was loaded, after one update of 32 sequences, with and without the KL penalty's reference.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rlcs.config import LearnerConfig, ModelConfig, RolloutConfig, TinyConfig
from rlcs.config_lora import LoRAConfig
from rlcs.rollout.engine import engine_env

SHAPES = {
    "tiny": TinyConfig(),
    "100m": TinyConfig(hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, initializer_range=0.03),
}
ROLLOUT = RolloutConfig(max_prompt_length=64, max_completion_length=64, max_num_seqs=256)
PROMPTS, RESPONSES, LENGTH = 32, 8, 64


def random_batch(rng: Any) -> Any:
    """32 sequences of 84 tokens in groups of eight."""
    import numpy as np

    from rlcs.learner.batching import make_batch
    from rlcs.types import FinishReason, Group, Prompt, Response

    groups = []
    for index in range(4):
        responses = [
            Response(
                rng.integers(10, 300, LENGTH).astype(np.int32),
                np.full(LENGTH, -5.7, np.float32),
                np.ones(LENGTH, np.bool_),
                "",
                FinishReason.LENGTH,
                0,
            )
            for _ in range(RESPONSES)
        ]
        groups.append(Group(Prompt(str(index), [], ""), rng.integers(10, 300, 20).astype(np.int32), responses))
    return make_batch(groups, rng.normal(size=4 * RESPONSES))


def settings(base: str, mode: str, rank: int) -> ModelConfig:
    if mode == "full":
        return ModelConfig(path=base)
    return ModelConfig(path=base, lora=LoRAConfig(r=rank, engine_mode=mode if mode != "lora" else "auto"))  # type: ignore[arg-type]


def measure_engine(base: str, mode: str, rank: int, syncs: int) -> dict[str, float]:
    import numpy as np

    from rlcs.learner.batching import make_batch
    from rlcs.learner.learner import Learner
    from rlcs.rollout.engine import Engine
    from rlcs.rollout.work import SamplingSettings
    from rlcs.types import Group, Prompt
    from rlcs.weights import to_arrays

    model = settings(base, mode, rank)
    engine = Engine(base, model, ROLLOUT, max_model_len=128, seed=0)
    learner = Learner(base, LearnerConfig(threads=1, learning_rate=1e-4 if mode == "full" else 3e-3), model=model)
    rng = np.random.default_rng(0)
    seconds, sent = [], 0
    for version in range(1, syncs + 1):
        learner.update(random_batch(rng))
        started = time.perf_counter()
        arrays = to_arrays(learner.weights())
        sent = sum(array.nbytes for array in arrays.values())
        engine.load_weights(arrays, version)
        seconds.append(time.perf_counter() - started)
    prompts = [rng.integers(10, 300, 20).astype(np.int32) for _ in range(PROMPTS)]
    speeds = []
    for _ in range(3):
        left = list(range(PROMPTS))
        started = time.perf_counter()
        answers = engine.generate(
            prompts,
            [RESPONSES] * PROMPTS,
            SamplingSettings(max_tokens=LENGTH, temperature=1.0, top_p=1.0),
            lambda most: [left.pop(0) for _ in range(min(most, len(left)))],  # noqa: B023 - used at once
            600,
        )
        found = {answer.index: answer.responses for answer in answers if answer is not None}
        tokens = sum(len(response.token_ids) for responses in found.values() for response in responses)
        speeds.append(tokens / (time.perf_counter() - started))
    batch = make_batch([Group(Prompt(str(i), [], ""), prompts[i], found[i]) for i in range(4)], np.zeros(4 * RESPONSES))
    gap = np.abs(learner.logprobs(batch) - batch.logprobs)[batch.loss_mask].max()
    return {"bytes": sent, "sync_s": median(seconds), "tokens_per_s": max(speeds), "gap": float(gap)}


def measure_learner(base: str, mode: str, rank: int, beta: float) -> dict[str, float]:
    import numpy as np

    from rlcs.learner.learner import Learner

    batch = random_batch(np.random.default_rng(0))
    before = _peak_mib()
    config = LearnerConfig(threads=1, beta=beta, gradient_checkpointing=True, tokens_per_micro_batch=1024)
    learner = Learner(base, config, model=settings(base, mode, rank))
    started = time.perf_counter()
    learner.update(batch)
    trained = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    return {"mib": _peak_mib() - before, "update_s": time.perf_counter() - started, "trained": trained}


def _peak_mib() -> float:
    import peft  # noqa: F401 - what is imported counts for nobody
    import torch  # noqa: F401
    import transformers.models.qwen2  # noqa: F401

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_part(arguments: list[str]) -> dict[str, float]:
    """A measurement in a process of its own."""
    environment = {**os.environ, **engine_env(ROLLOUT)}
    command = [sys.executable, __file__, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    if result.returncode:
        sys.exit(result.stderr[-2000:])
    found: dict[str, float] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--syncs", type=int, default=5)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        what, base, mode, number = options.part
        if what == "engine":
            found = measure_engine(base, mode, options.rank, int(number))
        else:
            found = measure_learner(base, mode, options.rank, float(number))
        print(json.dumps(found))
        return
    from rlcs.models import build_tiny_policy

    common = ["--rank", str(options.rank)]
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            base = str(Path(folder) / size)
            build_tiny_policy(Path(base), SHAPES[size], ["one two three 4 5 6"] * 100, seed=0)
            for mode in ("full", "adapter", "merged"):
                found = run_part([*common, "--part", "engine", base, mode, str(options.syncs)])
                print(
                    f"| {size} | {mode} | {found['bytes'] / 1e6:.2f} MB | {1000 * found['sync_s']:.1f} ms "
                    f"| {found['tokens_per_s']:.0f} | {found['gap']:.1e} |",
                    flush=True,
                )
            for mode in ("full", "lora"):
                for beta in (0.0, 0.1):
                    found = run_part([*common, "--part", "learner", base, mode, str(beta)])
                    print(
                        f"| {size} | learner, {mode} | beta {beta:g} | {found['mib']:.0f} MiB "
                        f"| {found['trained'] / 1e6:.2f} M trained | {found['update_s']:.1f} s |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
