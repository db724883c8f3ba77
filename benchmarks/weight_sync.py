"""Weight sync on a CPU: learner to Ray's object store to a vLLM engine, beside a plain memory copy of the same bytes.

    python benchmarks/weight_sync.py [--hidden 768] [--layers 12] [--vocabulary 32000] [--rounds 10] [--dtype float32]

The model (Qwen2, tied embeddings, 110 M parameters by default) has random weights. Every round times, one after the other:
a memory copy into memory in use (in the learner's process, one thread), the same into fresh memory, and one sync as a run
makes it (`ObjectStoreSync`), with its parts: `put` (the learner's weights into shared memory) and `load` (out of it
into the engine). Prints medians and their ratios to the copy, then where the engine's time goes (`--profile`).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def make_policy(folder: Path, hidden: int, layers: int, vocabulary: int) -> int:
    """Write a random policy with a small tokenizer; returns its number of parameters."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from rlcs.config import TinyConfig
    from rlcs.models import build_tiny_policy

    build_tiny_policy(folder, TinyConfig(hidden_size=16, num_layers=1, num_heads=2), ["what is 1 + 1?"], seed=0)
    config = Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        intermediate_size=hidden * 8 // 3,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    return int(model.num_parameters())


class Copier:
    """Copies as many bytes as a model has, in a process of its own."""

    def __init__(self, num_bytes: int) -> None:
        self._source = np.ones(num_bytes, np.uint8)
        self._target = np.ones(num_bytes, np.uint8)

    def copy(self) -> tuple[float, float]:
        """Seconds into memory in use, and into fresh memory."""
        start = time.perf_counter()
        np.copyto(self._target, self._source)
        middle = time.perf_counter()
        self._source.copy()
        return middle - start, time.perf_counter() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import ray

    from rlcs.actors import start_ray, stop_ray
    from rlcs.config import Config
    from rlcs.fleets import start_learner
    from rlcs.models import load_tokenizer
    from rlcs.rollout.fleet import RolloutFleet
    from rlcs.weight_sync import open_weight_sync

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy"
        parameters = make_policy(path, arguments.hidden, arguments.layers, arguments.vocabulary)
        tree: dict[str, Any] = {
            "model": {"path": str(path), "dtype": arguments.dtype},
            "data": {"train": "none.jsonl"},
            "rollout": {"max_num_seqs": 16, "max_prompt_length": 64, "max_completion_length": 64},
        }
        config = Config(**tree)
        start_ray(config.cluster)
        try:
            rollouts = RolloutFleet(str(path), config.model, config.rollout, load_tokenizer(str(path)), seed=0)
            learner = start_learner(str(path), config)
            rollouts.start()
            learner.start()
            sync = open_weight_sync(config, learner, rollouts)
            num_bytes = sync.sync(1).num_bytes
            copier: Any = ray.remote(Copier).options(num_cpus=0).remote(num_bytes)
            times: dict[str, list[float]] = {name: [] for name in ("copy", "copy_fresh", "sync", "put", "load")}
            for round_ in range(arguments.rounds + 1):
                copy, fresh = ray.get(copier.copy.remote())
                report = sync.sync(2 + 2 * round_)
                start = time.perf_counter()
                weights = learner.weights()
                ray.wait([weights], fetch_local=False)
                middle = time.perf_counter()
                rollouts.sync(weights, 3 + 2 * round_)
                del weights
                end = time.perf_counter()
                sync = type(sync)(learner, rollouts, version=3 + 2 * round_)
                if round_:  # the first warms up
                    for name, value in zip(
                        times, (copy, fresh, report.seconds, middle - start, end - middle), strict=True
                    ):
                        times[name].append(value)
        finally:
            stop_ray()
    print(
        f"{parameters / 1e6:.1f} M parameters, {num_bytes / 1e6:.0f} MB, {arguments.dtype}, {arguments.rounds} rounds"
    )
    print("| | median s | least s | GB/s | times a copy | times a fresh copy |")
    print("|---|---|---|---|---|---|")
    for name, values in times.items():
        ratio = np.median(np.divide(values, times["copy"]))
        fresh_ratio = np.median(np.divide(values, times["copy_fresh"]))
        middle = float(np.median(values))
        print(
            f"| {name} | {middle:.3f} | {min(values):.3f} | {num_bytes / middle / 1e9:.2f} | {ratio:.1f} | {fresh_ratio:.1f} |"
        )


if __name__ == "__main__":
    main()
