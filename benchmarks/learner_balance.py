"""Sequences dealt to data-parallel ranks: the spread between ranks and the time it takes, ours beside others.

    pip download verl --no-deps -d /tmp/verl
    python benchmarks/learner_balance.py [--verl /tmp/verl/verl-*.whl] [--seeds 5] [--measure 2]

Sequences of log-normal lengths (mean about 900 tokens, up to 8,192; prompts of 200 tokens, 8 responses each) cost
24,576 n + n^2, verl's formula. `round-robin` is what a sampler does that knows no lengths. verl's functions are read
from the wheel without installing it; it deals single sequences, in equal numbers where its trainer asks for that.
`families` is `deal` from the batch's arrays, which finds the shared prompts and keeps them together: there the cost of a
shared prompt counts once, and the time includes finding them. Times are processor time of one thread.

`deal`'s largest load is compared with what no deal can beat: all prompts shared and the rest spread evenly, or the
costliest sequence alone, which is more than the mean load where ranks have few sequences. The same for 30 batches of
several sizes.

Then the packing of micro-batches: the lower bound on their number, how many `micro_batches` makes, and its time.
With `--measure`, the processor time of forward and backward passes of each of 8 ranks, one after the other in this
process: a policy of 3 M parameters, 32 groups of 8, one thread.
"""

from __future__ import annotations

import argparse
import ast
import heapq
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlcs.learner.balance import CostModel, deal, spread
from rlcs.learner.batching import families, micro_batches, packing_work
from rlcs.learner.partition import partition
from rlcs.types import Batch

MODEL = CostModel(24576.0, 1.0)
PROMPT = 200
SIZE = 8
SIZES = ((4096, 64), (2048, 32), (512, 8), (256, 32), (64, 8))
BUDGETS = (8192, 16384, 32768)


def verl_partition(wheel: Path) -> Callable[[list[float], int, bool], list[list[int]]]:
    """verl's `get_seqlen_balanced_partitions` and the function it calls, without the imports of their module."""
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read("verl/utils/seqlen_balancing.py"))
    wanted = ("karmarkar_karp", "get_seqlen_balanced_partitions")
    functions: list[ast.stmt] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in wanted]
    names: dict[str, Any] = {"heapq": heapq}
    exec(compile(ast.Module(functions, []), str(wheel), "exec"), names)
    return lambda costs, parts, equal: names["get_seqlen_balanced_partitions"](costs, parts, equal_size=equal)


def make_batch(
    count: int,
    rng: np.random.Generator,
    size: int | None = SIZE,
    *,
    prompt: int = PROMPT,
    median: int = 500,
    longest: int = 8192,
    vocabulary: int = 30_000,
) -> Batch:
    """`size` sequences a prompt; 2 to 16 if None."""
    sizes = [size] * (count // size) if size else rng.integers(2, 17, count)
    owner = np.repeat(np.arange(len(sizes)), sizes)[:count]
    lengths = np.clip(rng.lognormal(np.log(median), 0.8, count), 8, longest - prompt).astype(np.int64) + prompt
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(0, vocabulary, offsets[-1])
    mask = np.ones(offsets[-1], np.bool_)
    for index, start in enumerate(offsets[:-1]):
        first = offsets[np.searchsorted(owner, owner[index])]
        tokens[start : start + prompt] = tokens[first : first + prompt]
        mask[start : start + prompt] = False
    zeros = np.zeros(offsets[-1], np.float32)
    return Batch(tokens, offsets, mask, zeros, zeros)


def round_robin(costs: np.ndarray, parts: int) -> np.ndarray:
    return np.arange(len(costs)) % parts


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    result = work()
    return result, (time.process_time() - started) * 1000


def packing(seeds: int) -> None:
    print("\n| micro-batches above the lower bound, 512 sequences | " + " | ".join(f"{b:,}" for b in BUDGETS) + " |")
    print("|---|" + "---|" * len(BUDGETS))
    rows: dict[str, list[str]] = {}
    for kind, sizes, share in (
        ("single sequences", SIZE, False),
        (f"families of {SIZE}", SIZE, True),
        ("families of 2 to 16", None, True),
    ):
        for budget in BUDGETS:
            counts, ms = np.zeros(2), 0.0
            for seed in range(seeds):
                batch = make_batch(512, np.random.default_rng(seed), sizes)
                units = families(batch, np.arange(512), share=share)
                parts, taken = timed(lambda b=batch, t=budget, s=share: micro_batches(b, np.arange(512), t, share=s))
                bound = packing_work(batch, units).lower_bound(budget)
                counts += [bound, len(parts)]
                ms += taken
            text = f"{counts[0] / seeds:.1f} -> {counts[1] / seeds:.1f} (+{counts[1] / counts[0] - 1:.1%}), {ms / seeds:.0f} ms"
            rows.setdefault(kind, []).append(text)
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def sweep(seeds: int = 30) -> None:
    """Print how `deal` does on many batches, apart for those that one sequence dominates."""
    print(
        f"\n| `deal`, {seeds} batches | one sequence above the mean load | spread of the others: mean, largest |\n|---|---|---|"
    )
    for count, ranks in ((32, 2), (128, 2), (64, 8), (128, 8), (256, 8), (256, 32), (512, 32)):
        spreads, dominated = [], []
        for seed in range(seeds):
            batch = make_batch(count, np.random.default_rng(seed))
            lengths = batch.lengths.astype(np.float64)
            dealt = deal(batch, ranks, MODEL)
            spreads.append(dealt.spread)
            largest = float((MODEL.linear * lengths + MODEL.quadratic * lengths**2).max())
            dominated.append(largest > dealt.loads.mean())
        others = np.array(spreads)[~np.array(dominated)]
        print(f"| {count} to {ranks} | {sum(dominated)} | {others.mean():.2%}, {others.max():.2%} |", flush=True)


def measure(seeds: int) -> None:
    """Print the spread of processor time over 8 ranks."""
    import tempfile

    from rlcs.config import LearnerConfig, TinyConfig
    from rlcs.learner.learner import Learner
    from rlcs.learner.metrics import TokenMetrics
    from rlcs.models import build_tiny_policy

    ranks, count = 8, 256
    with tempfile.TemporaryDirectory() as folder:
        shape = TinyConfig(hidden_size=256, num_layers=4, intermediate_size=688, max_position_embeddings=4096)
        build_tiny_policy(Path(folder), shape, ["one two three"], seed=0)
        learner = Learner(folder, LearnerConfig(threads=1, tokens_per_micro_batch=4096))
        model = CostModel.of(learner.model.config)

        def seconds(batch: Batch, sequences: np.ndarray) -> float:
            started = time.process_time()
            learner._accumulate(batch, sequences, None, None, TokenMetrics())
            learner.optimizer.zero_grad()
            return time.process_time() - started

        rows: dict[str, list[list[float]]] = {}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            batch = make_batch(count, rng, prompt=40, median=80, longest=1024, vocabulary=300)
            deals = {
                "whole groups in turn": [np.flatnonzero(np.arange(count) // SIZE % ranks == r) for r in range(ranks)],
                "`deal`": deal(batch, ranks, model).ranks,
            }
            seconds(batch, np.arange(8))  # warm-up
            for name, parts in deals.items():
                times = np.array([min(seconds(batch, part) for _ in range(2)) for part in parts])
                rows.setdefault(name, []).append([spread(times), float(times.max())])
    print(
        f"\n| {learner.model.num_parameters():,} parameters, {ranks} ranks | spread of CPU time | slowest, s |\n|---|---|---|"
    )
    for name, cells in rows.items():
        mean = np.mean(cells, axis=0)
        print(f"| {name} | {mean[0]:.1%} (at most {max(c[0] for c in cells):.1%}) | {mean[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verl", type=Path, help="verl's wheel")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--measure", type=int, default=0, metavar="SEEDS", help="time the passes of a policy too")
    args = parser.parse_args()
    theirs = verl_partition(args.verl) if args.verl else None

    print("| spread (max / mean - 1), ms | " + " | ".join(f"{n:,} to {k}" for n, k in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    rows: dict[str, dict[tuple[int, int], list[tuple[float, float]]]] = {}
    for count, ranks in SIZES:
        for seed in range(args.seeds):
            batch = make_batch(count, np.random.default_rng(seed))
            lengths = batch.lengths.astype(np.float64)
            costs = MODEL.linear * lengths + MODEL.quadratic * lengths**2
            mean = costs.sum() / ranks

            def add(name: str, result: float, ms: float, key: tuple[int, int] = (count, ranks)) -> None:
                rows.setdefault(name, {}).setdefault(key, []).append((result, ms))

            ordered = np.sort(costs)[::-1]
            bound = max(mean, ordered[0], ordered[ranks - 1] + ordered[ranks])
            add("no deal can have less (single sequences)", bound / mean - 1, 0.0)
            for name, work in (
                ("round-robin", lambda c=costs, k=ranks: round_robin(c, k)),
                ("`partition`", lambda c=costs, k=ranks: partition(c, k)),
                ("`partition`, equal counts", lambda c=costs, k=ranks: partition(c, k, equal_count=True)),
            ):
                labels, ms = timed(work)
                add(name, spread(np.bincount(labels, costs, ranks)), ms)
            for equal in (False, True) if theirs else ():
                dealt, ms = timed(lambda c=costs, k=ranks, e=equal: theirs(c.astype(int).tolist(), k, e))
                add("verl" + ", equal counts" * equal, spread(np.array([costs[part].sum() for part in dealt])), ms)
            found, ms = timed(lambda b=batch, k=ranks: deal(b, k, MODEL))
            add("`deal`, families", found.spread, ms)
            add("... families split, of all", found.split_families / (count // SIZE), 0.0)
            shared = (lengths.sum() - PROMPT * (count - count // SIZE)) * MODEL.linear
            shared += float(MODEL.quadratic * (lengths**2).sum())
            add("... its largest load above the bound", found.loads.max() / max(shared / ranks, costs.max()) - 1, 0.0)
            add("... batches with a sequence above the mean load", float(costs.max() > found.loads.mean()), 0.0)
    for name, cells in rows.items():
        means = [np.mean(cells[key], axis=0) for key in SIZES]
        print(f"| {name} | " + " | ".join(f"{s:.3%}, {ms:.1f}" for s, ms in means) + " |", flush=True)
    packing(args.seeds)
    sweep()
    if args.measure:
        measure(args.measure)


if __name__ == "__main__":
    main()
