"""Time and memory of a curriculum over ten million prompts.

    python benchmarks/curriculum_scale.py [--kind posterior] [--prompts 10000000] [--domains 10]

Prints median times of `draw` and `observe` of 4,096 prompts, memory of the process above the table, and the time to
save and load the state as .npz. Made to be run with one process on two cores.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Observation, PromptTable
from rlcs.curricula.loading import load_curriculum


def memory_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="posterior")
    parser.add_argument("--prompts", type=int, default=10_000_000)
    parser.add_argument("--domains", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=50)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    table = PromptTable(
        rng.integers(-1, 5, args.prompts).astype(np.int8),
        rng.integers(0, args.domains, args.prompts).astype(np.int16),
        [f"domain_{d}" for d in range(args.domains)],
    )
    difficulty = (2.6 * rng.standard_normal(args.prompts)).astype(np.float32)
    before, start = memory_mb(), time.perf_counter()
    curriculum = load_curriculum(args.kind, table, CurriculumConfig(), seed=0)
    print(f"{args.kind}: {args.prompts:,} prompts, {args.domains} domains")
    print(f"start             {time.perf_counter() - start:8.2f} s")
    draws, observes = [], []
    for _ in range(args.iterations):
        start = time.perf_counter()
        rows = curriculum.draw(4096)
        draws.append(time.perf_counter() - start)
        right = rng.binomial(8, 1 / (1 + np.exp(difficulty[rows])))
        observation = Observation(rows, right / 8, (right == 0) | (right == 8), 8)
        start = time.perf_counter()
        curriculum.observe(observation)
        observes.append(time.perf_counter() - start)
    print(f"draw 4,096        {np.median(draws) * 1e3:8.2f} ms median, {max(draws) * 1e3:.0f} ms worst")
    print(f"observe 4,096     {np.median(observes) * 1e3:8.2f} ms median, {max(observes) * 1e3:.0f} ms worst")
    print(f"memory            {memory_mb() - before:8.0f} MB at the peak, above the table")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        state = curriculum.state_dict()
        arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
        np.savez(Path(folder) / "state.npz", **arrays)
        megabytes = sum(a.nbytes for a in arrays.values()) / 1e6
        print(f"save              {time.perf_counter() - start:8.2f} s, {megabytes:.0f} MB")
        start = time.perf_counter()
        with np.load(Path(folder) / "state.npz", allow_pickle=False) as loaded:
            curriculum.load_state_dict(state | {k: loaded[k] for k in loaded.files})
        print(f"load              {time.perf_counter() - start:8.2f} s")


if __name__ == "__main__":
    main()
