"""How long a checkpoint stalls the loop: written beside it (`train.background_save`) and with the loop waiting.

    python benchmarks/checkpoints.py [--hidden 768] [--layers 12] [--vocabulary 32000] [--rounds 5]

The model (Qwen2, tied embeddings, 110 M parameters by default) has random weights and AdamW's moments; the learner is a Ray
actor and the checkpoints are written by `CheckpointSaver`, as in a run. Every round makes an update, saves in one way, makes
another update and saves in the other; between, updates go on until the checkpoint is whole. Prints medians: the stall, the
time until the checkpoint was whole, and an update alone and beside the writing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import ray
from weight_sync import make_policy  # the file beside this one

from rlcs.checkpoint import Progress, find_damage, list_checkpoints
from rlcs.config import LearnerConfig, TrainConfig
from rlcs.learner.advantages import learning_batch
from rlcs.learner.group import LearnerGroup
from rlcs.saving import CheckpointSaver
from rlcs.types import FinishReason, Group, Prompt, Response, Score


def groups(count: int, tokens: int) -> list[Group]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        prompt = Prompt(str(index), [{"role": "user", "content": "?"}], "1")
        responses = [
            Response(
                rng.integers(5, 250, tokens).astype(np.int32),
                np.full(tokens, -5.0, np.float32),
                np.ones(tokens, bool),
                "",
                FinishReason.STOP,
                0,
                Score(float(place % 2)),
            )
            for place in range(4)
        ]
        made.append(Group(prompt, rng.integers(5, 250, 16).astype(np.int32), responses))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        run_dir.mkdir()
        (run_dir / "config.yaml").touch()
        number = make_policy(Path(folder) / "policy", arguments.hidden, arguments.layers, arguments.vocabulary)
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        config = LearnerConfig(learning_rate=1e-6, importance_sampling_correction=False)
        learner = LearnerGroup(str(Path(folder) / "policy"), config, total_steps=100)
        learner.start()
        batch = learning_batch(groups(2, 32), config)

        def update() -> float:
            begun = time.perf_counter()
            learner.update(batch, group_sizes=[4, 4], rewards=np.tile([0.0, 1.0], 4))
            return time.perf_counter() - begun

        savers = {
            way: CheckpointSaver(run_dir, TrainConfig(keep_last=1, background_save=way), learner, scores=dict)
            for way in (True, False)
        }
        update()
        figures: dict[str, list[float]] = {}
        step = 0
        for _ in range(arguments.rounds):
            figures.setdefault("update alone", []).append(update())
            for way, saver in savers.items():
                step += 1
                begun = time.perf_counter()
                saver.save(Progress(step), {"curriculum": {"weights": np.zeros(10_000)}})
                name = "beside the loop" if way else "the loop waits"
                figures.setdefault(f"stall, {name}", []).append(time.perf_counter() - begun)
                while not any(folder.name == f"step-{step:06d}" for folder in list_checkpoints(run_dir)):
                    figures.setdefault("update beside the writing", []).append(update())
                    saver.check()
                figures.setdefault(f"until whole, {name}", []).append(time.perf_counter() - begun)
                saver.finish()
        (checkpoint,) = list_checkpoints(run_dir)
        assert find_damage(checkpoint) is None
        size = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
        print(f"{number / 1e6:.0f} M parameters, checkpoints of {size / 1e9:.2f} GB, {arguments.rounds} rounds")
        for name, seconds in figures.items():
            print(f"{name:40s} {statistics.median(seconds):7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")
        learner.close()
        ray.shutdown()


if __name__ == "__main__":
    main()
