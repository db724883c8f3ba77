"""Overlaps of boxes a second, on one core: the function, the batched function and the whole verifier.

    python benchmarks/rewards_iou.py

Prints rows of a Markdown table. The whole verifier finds the box in a response, reads it and compares it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported: one core

import time
from collections.abc import Callable

import numpy as np

from rlcs.response_format import render_response
from rlcs.rewards.boxes import iou, iou_matrix, iou_pairs
from rlcs.rewards.grounding import Grounding

_REPEATS = 5


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 4] integer boxes in a square of 1000."""
    corners = np.sort(rng.integers(0, 1000, (count, 2, 2)), axis=1)
    corners[:, 1] += 1
    return corners.reshape(count, 4).astype(np.float64)


def rate(work: Callable[[], object], comparisons: int) -> float:
    """Comparisons a second, the best of some repeats."""
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return comparisons / min(seconds)


def main() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 20_000), random_boxes(rng, 20_000)
    pairs = [(tuple(x), tuple(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    many_a, many_b = a[:1000], b[:1000]
    responses = [render_response("It is there.", str([int(v) for v in box])) for box in a]
    answers = [str([[int(v) for v in box]]) for box in b]
    columns: list[dict[str, object]] = [{} for _ in a]
    several = [render_response("", str(a[i : i + 5].astype(int).tolist())) for i in range(0, 10_000, 5)]
    references = [str(b[i : i + 5].astype(int).tolist()) for i in range(0, 10_000, 5)]
    grounding = Grounding()
    rows = {
        "`iou(a, b)`": rate(lambda: [iou(x, y) for x, y in pairs], len(pairs)),
        "`iou_pairs`, 20,000 pairs": rate(lambda: iou_pairs(a, b), len(a)),
        "`iou_matrix`, 1,000 x 1,000": rate(lambda: iou_matrix(many_a, many_b), 1_000_000),
        "`Grounding.score_batch`, one box each": rate(
            lambda: grounding.score_batch(responses, answers, columns), len(responses)
        ),
        "`Grounding.score_batch`, five boxes each, 25 overlaps and an assignment": rate(
            lambda: grounding.score_batch(several, references, columns[: len(several)]), 25 * len(several)
        ),
    }
    print("| IoU, one core | comparisons a second |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:,.0f} |")


if __name__ == "__main__":
    main()
