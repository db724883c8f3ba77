"""Log-probabilities and entropies of chosen tokens, forward and backward: peak memory and time, chunked beside plain.

    python benchmarks/learner_logprobs.py [--tokens 8192] [--vocabulary 32768] [--width 256] [--chunks 64 256 1024]

`plain` is the head over all tokens, cross entropy and entropy by the book; `checkpointed` is the same by chunks that
PyTorch's checkpointing computes again; `chunked` is `rlcs.learner.head`. Each runs in a process of its own: memory is
the growth of its peak resident set over what it held before (on a GPU, PyTorch's own peak), time the processor time of
one thread (on a GPU, wall clock after a warm-up). Prints rows of a Markdown table, and the largest difference to plain of
the log-probabilities and of the gradients (relative to the largest gradient), taken on a sixteenth of the tokens.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

TEMPERATURE = 0.7


def compute(way: str, chunk: int, hidden: Any, weight: Any, targets: Any) -> tuple[Any, Any]:
    import torch
    from torch.utils.checkpoint import checkpoint

    from rlcs.learner.head import Logits, chosen_logprobs

    def plain(rows: Any, wanted: Any) -> tuple[Any, Any]:
        scores = torch.nn.functional.linear(rows, weight).float() / TEMPERATURE
        logprobs = -torch.nn.functional.cross_entropy(scores, wanted, reduction="none")
        with torch.no_grad():
            table = torch.log_softmax(scores.detach(), -1)
            return logprobs, -(table.exp() * table).sum(-1)

    if way == "plain":
        return plain(hidden, targets)
    if way == "checkpointed":
        parts = [
            checkpoint(plain, rows, wanted, use_reentrant=False)
            for rows, wanted in zip(hidden.split(chunk), targets.split(chunk), strict=True)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    return chosen_logprobs(hidden, weight, targets, logits=Logits(TEMPERATURE), chunk=chunk)


def measure(way: str, chunk: int, tokens: int, vocabulary: int, width: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    hidden = torch.randn(tokens, width, device=device, requires_grad=True)
    weight = (torch.randn(vocabulary, width, device=device) / width**0.5).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), device=device)
    scale = torch.randn(tokens, device=device)

    def step(rows: Any, wanted: Any, by: Any, kind: str) -> tuple[Any, list[Any]]:
        logprobs, _ = compute(kind, chunk, rows, weight, wanted)
        return logprobs.detach(), list(torch.autograd.grad((logprobs * by).sum(), [rows, weight]))

    memory = 0
    if gpu:
        step(hidden, targets, scale, way)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        memory = torch.cuda.memory_allocated()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.perf_counter if gpu else time.process_time
    started = clock()
    step(hidden, targets, scale, way)
    if gpu:
        torch.cuda.synchronize()
    seconds = clock() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if gpu:
        grown = torch.cuda.max_memory_allocated() - memory
    # Afterwards: what it leaves behind would make the growth look smaller.
    few = tokens // 16
    small = hidden[:few].detach().clone().requires_grad_()
    ours, gradients = step(small, targets[:few], scale[:few], way)
    theirs, wanted = step(small, targets[:few], scale[:few], "plain")
    differences = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(gradients, wanted, strict=True)]
    return {
        "mib": grown / 2**20,
        "seconds": seconds,
        "logprobs": float((ours - theirs).abs().max()),
        "gradients": max(differences),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--one", nargs=2, metavar=("WAY", "CHUNK"), help="measure one way in this process, print JSON")
    args = parser.parse_args()
    sizes = (args.tokens, args.vocabulary, args.width)
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), *sizes)))
        return
    print(f"| {args.tokens:,} tokens, vocabulary {args.vocabulary:,}, width {args.width} | memory, MiB | seconds |")
    print("|---|---|---|")
    runs = [("plain", args.tokens)]
    runs += [(way, chunk) for way in ("checkpointed", "chunked") for chunk in args.chunks]
    worst = [0.0, 0.0]
    options = ["--tokens", str(args.tokens), "--vocabulary", str(args.vocabulary), "--width", str(args.width)]
    for way, chunk in runs:
        command = [sys.executable, __file__, *options, "--one", way, str(chunk)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        name = way if way == "plain" else f"{way}, {chunk} tokens"
        print(f"| {name} | {result['mib']:,.0f} | {result['seconds']:.1f} |", flush=True)
        worst = [max(worst[0], result["logprobs"]), max(worst[1], result["gradients"])]
    print(f"\nLargest difference to plain: log-probabilities {worst[0]:.1e}, gradients {worst[1]:.1e} of the largest.")


if __name__ == "__main__":
    main()
