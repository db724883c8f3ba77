"""The math verifier beside Math-Verify on the same pairs: latency, false accepts and false rejects.

    python benchmarks/rewards_math.py

Three sets: a made-up mix of common answers, the cases of rewards/cases/math.jsonl that are not hostile, and the hostile
ones. Caches are cleared before each pair; Math-Verify gets limits of 2 s. The cases are ours, so errors on them favour us.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from math_verify import parse, verify

from rlcs.rewards import math as math_reward
from rlcs.rewards.case_files import builtin_cases
from rlcs.rewards.extract import holds_format_markers
from rlcs.rewards.mathtext import exact

Pair = tuple[str, str, bool]
"""Answer, reference, whether they are equal."""


def theirs(answer: str, reference: str) -> bool:
    try:
        gold, found = (parse(f"${text}$", parsing_timeout=2) for text in (reference, answer))
        return bool(verify(gold, found, timeout_seconds=2))
    except Exception:
        return False


def ours(matcher: math_reward.MathMatcher) -> Callable[[str, str], bool]:
    def compare(answer: str, reference: str) -> bool:
        math_reward._parse_short.cache_clear()
        math_reward._read.cache_clear()
        exact.quotient_of.cache_clear()
        return bool(matcher.match([(answer, reference)])[0].correct)

    return compare


def mix(count: int, seed: int = 0) -> list[Pair]:
    """Integers, fractions, radicals, tuples, polynomials and decimals; about half of the answers are off by one."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    for _ in range(count):
        kind, right = rng.random(), rng.random() < 0.5
        off = 0 if right else 1
        a, b = rng.randint(2, 30), rng.choice([2, 3, 5, 7])
        if kind < 0.5:
            n = rng.randint(-200, 5000)
            pairs.append((str(n + off), str(n), right))
        elif kind < 0.65:
            pairs.append((rf"\frac{{{a + off * b}}}{{{b}}}", rf"\dfrac{{{a}}}{{{b}}}", right))
        elif kind < 0.75:
            pairs.append((rf"{a + off}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", right))
        elif kind < 0.85:
            pairs.append((f"({a + off}, {b})", rf"\left({a},{b}\right)", right))
        elif kind < 0.95:
            pairs.append((f"x^2 + {a + b + off}x + {a * b}", f"(x+{a})(x+{b})", right))
        else:
            pairs.append((f"{a + off}.5", f"{2 * a + 1}/2", right))
    return pairs


def measure(title: str, pairs: list[Pair], compare: Callable[[str, str], bool]) -> None:
    compare("1", "1")
    seconds, accepts, rejects = [], 0, 0
    for answer, reference, right in pairs:
        start = time.perf_counter()
        verdict = compare(answer, reference)
        seconds.append(time.perf_counter() - start)
        accepts += verdict and not right
        rejects += right and not verdict
    seconds.sort()
    middle, late = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    print(
        f"{title:24} n={len(pairs)}  median {1e3 * middle:.3f} ms  p99 {1e3 * late:.1f} ms  "
        f"false accepts {accepts}  false rejects {rejects}",
        flush=True,
    )


def main() -> None:
    logging.disable(logging.CRITICAL)
    cases = [case for case in builtin_cases("math") if not holds_format_markers(case.response)]
    matcher = math_reward.MathMatcher()
    matcher.start()
    sets = {
        "mix": mix(400),
        "cases": [(c.response, c.answer, c.correct) for c in cases if "hostile" not in c.note],
        "hostile": [(c.response, c.answer, c.correct) for c in cases if "hostile" in c.note],
    }
    for name, pairs in sets.items():
        measure(f"{name}, RLCS", pairs, ours(matcher))
        measure(f"{name}, Math-Verify", pairs, theirs)
    matcher.close()


if __name__ == "__main__":
    main()
