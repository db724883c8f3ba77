"""OCR comparisons a second, on one core: one by one, in batches, and beside a plain Python edit distance.

    python benchmarks/rewards_ocr.py

The pairs are made up: lines of 10 to 40 characters with a tenth of their characters changed, a third of them Chinese.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from rlcs.rewards.ocr import ocr_similarities, ocr_similarity

_LATIN = "abcdefghijklmnopqrstuvwxyz     0123456789"
_CHINESE = "你好世界中文字符识别的一是在不了有和人这上大来 "


def make_pairs(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Read texts and references."""
    rng = random.Random(seed)
    answers, references = [], []
    for _ in range(count):
        letters = _CHINESE if rng.random() < 1 / 3 else _LATIN
        text = "".join(rng.choices(letters, k=rng.randint(10, 40)))
        references.append(text)
        answers.append("".join(rng.choice(letters) if rng.random() < 0.1 else letter for letter in text))
    return answers, references


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's distance in plain Python, for comparison."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def rate(run: Callable[[], object], count: int, repeats: int = 3) -> float:
    """Comparisons a second: the best of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return count / best


def bench_ocr(count: int = 100_000) -> dict[str, float]:
    """Comparisons a second by way of comparing."""
    answers, references = make_pairs(count)
    pairs = list(zip(answers, references, strict=True))
    few = pairs[: max(1, count // 100)]
    return {
        "one by one": rate(lambda: [ocr_similarity(one, other) for one, other in pairs], count),
        "in a batch": rate(lambda: ocr_similarities(answers, references), count),
        "plain Python": rate(lambda: [1 - edit_distance(a, b) / max(len(a), len(b)) for a, b in few], len(few)),
    }


def bench_longest() -> float:
    """Milliseconds of one comparison of two texts at the cap."""
    rng = random.Random(0)
    one, other = ("".join(rng.choices(_LATIN, k=16_384)) for _ in range(2))
    return 1e3 / rate(lambda: ocr_similarity(one, other), 1)


def main() -> None:
    for way, value in bench_ocr().items():
        print(f"{way:14} {value:12,.0f} comparisons/s")
    print(f"{'at the cap':14} {bench_longest():12.1f} ms")


if __name__ == "__main__":
    main()
