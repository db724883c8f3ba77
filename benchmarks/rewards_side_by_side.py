"""RLCS's verifiers beside Math-Verify's and verl's scorers on the same pairs: false accepts, false rejects, latency.

    pip download verl --no-deps -d /tmp/verl
    pip install --target /tmp/verl/extra --no-deps pylatexenc mathruler        # two of verl's scorers import them
    PYTHONPATH=/tmp/verl/extra python benchmarks/rewards_side_by_side.py --verl /tmp/verl/verl-*.whl

`--verl` takes a wheel or an installed `site-packages` folder; only `verl/utils/reward_score` and what it imports is read.
Without it, Math-Verify alone stands beside ours. A scorer whose imports are missing is named and left out.

Every scorer gets the bare answer in the form that it asks for (a box, `#### 5`, `Answer: 5`), so that only the
comparison counts. Each call has 5 s in a process that can be killed; a call that runs out of time, of memory, or that
dies gives no point, as in training, and is counted. GSM8K's scorer is asked only where the reference is a number.

Sets: pairs that a small generator makes (`rewards_math.mix`; nobody's cases), ours of `rewards/cases/math.jsonl`, of
them the hostile ones, and other domains' cases that a general comparison could get right. The cases are ours, and our
verifiers were written against them: figures on them favour us, those of the generator do not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import re
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcs.response_format import render_response
from rlcs.reward_commands.check import prompt_of
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.extract import holds_format_markers
from rlcs.rewards.loading import load_reward
from rlcs.rewards.workers import KillablePool, WorkerOutcome

VERL_ENVIRONMENT = "RLCS_BENCHMARK_VERL"
TIMEOUT_S = 5.0
OTHER_DOMAINS = ("physics", "chemistry", "multiple_choice", "counting", "chart", "vqa")
NUMBER = re.compile(r"-?[\d.,]*\d")


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer, a reference, and whether they are the same."""

    answer: str
    reference: str
    right: bool
    domain: str


# The scorers, in the worker processes


def math_verify(answer: str, reference: str) -> bool:
    from math_verify import parse, verify

    gold, found = (parse(f"${text}$", parsing_timeout=5) for text in (reference, answer))
    return bool(verify(gold, found, timeout_seconds=5))


def verl_scorer(name: str) -> Any:
    """A module of `verl/utils/reward_score`, without the imports of verl itself, whose dependencies are many."""
    root = Path(os.environ[VERL_ENVIRONMENT])
    for package in ("verl", "verl.utils", "verl.utils.reward_score"):
        if package not in sys.modules:
            module = types.ModuleType(package)
            module.__path__ = [str(root.joinpath(*package.split(".")))]
            sys.modules[package] = module
    return importlib.import_module(f"verl.utils.reward_score.{name}")


def value_of(result: Any) -> bool:
    """Whether a verl scorer says right: it returns a number, a tuple that starts with one, or a dictionary."""
    if isinstance(result, dict):
        result = result["score"]
    if isinstance(result, tuple):
        result = result[0]
    return float(result) > 0.5


def gsm8k(answer: str, reference: str) -> bool:
    return value_of(verl_scorer("gsm8k").compute_score(f"#### {answer}", reference))


def math_reward(answer: str, reference: str) -> bool:
    return value_of(verl_scorer("math_reward").compute_score(rf"\boxed{{{answer}}}", reference))


def math_dapo(answer: str, reference: str) -> bool:
    return value_of(verl_scorer("math_dapo").compute_score(f"Answer: {answer}", reference))


def prime_math(answer: str, reference: str) -> bool:
    return value_of(verl_scorer("prime_math").compute_score(rf"\boxed{{{answer}}}", reference))


def geo3k(answer: str, reference: str) -> bool:
    return value_of(verl_scorer("geo3k").acc_reward(rf"<think></think>\boxed{{{answer}}}", reference))


def verl_math_verify(answer: str, reference: str) -> bool:
    # What its compute_score runs in a process pool of its own; here the process is ours.
    scorer = verl_scorer("math_verify")
    return value_of(scorer._verify_in_subprocess(rf"\boxed{{{reference}}}", rf"\boxed{{{answer}}}"))


def search_r1(answer: str, reference: str) -> bool:
    scorer = verl_scorer("search_r1_like_qa_em")
    return value_of(scorer.compute_score(f"<answer>{answer}</answer>", {"target": [reference]}))


THEIRS: dict[str, Callable[[str, str], bool]] = {"Math-Verify": math_verify}
OF_VERL: dict[str, Callable[[str, str], bool]] = {
    "verl math_reward": math_reward,
    "verl math_dapo": math_dapo,
    "verl prime_math": prime_math,
    "verl math_verify": verl_math_verify,
    "verl geo3k": geo3k,
    "verl gsm8k": gsm8k,
    "verl search_r1 (EM)": search_r1,
}


def score_one(request: list[str]) -> list[Any]:
    """The target of the pool: `[accepted, seconds]`."""
    logging.disable(logging.CRITICAL)
    scorer, answer, reference = request
    start = time.perf_counter()
    accepted = {**THEIRS, **OF_VERL}[scorer](answer, reference)
    return [accepted, time.perf_counter() - start]


# The comparison


@dataclass(slots=True)
class Result:
    """How a scorer did on a set."""

    scorer: str
    asked: int = 0
    false_accepts: int = 0
    false_rejects: int = 0
    failures: int = 0
    """Calls that ran out of time or memory, raised or died."""
    seconds: list[float] | None = None

    def row(self) -> str:
        """A row of a Markdown table."""
        taken = sorted(self.seconds or [0.0])
        half, late = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
        counts = f"{self.asked} | {self.false_accepts} | {self.false_rejects} | {self.failures}"
        return f"| {self.scorer} | {counts} | {1e3 * half:.3f} | {1e3 * late:.1f} |"


def compare(scorer: str, pairs: list[Pair], ask: Callable[[Pair], tuple[bool, float, str]], listed: bool) -> Result:
    """Ask a scorer about every pair; `ask` gives whether it accepts, how long it took, and how it failed."""
    result = Result(scorer, seconds=[])
    for pair in pairs:
        if scorer == "verl gsm8k" and not NUMBER.fullmatch(pair.reference):
            continue
        accepted, seconds, failure = ask(pair)
        result.asked += 1
        result.failures += bool(failure)
        assert result.seconds is not None
        result.seconds.append(seconds)
        result.false_accepts += accepted and not pair.right
        result.false_rejects += pair.right and not accepted
        if listed and accepted != pair.right:
            kind = "accepts" if accepted else "rejects"
            print(f"    {scorer} {kind} {pair.answer[:60]!r} for {pair.reference[:60]!r} {failure}")
    return result


def ask_pool(pool: KillablePool, scorer: str) -> Callable[[Pair], tuple[bool, float, str]]:
    def ask(pair: Pair) -> tuple[bool, float, str]:
        start = time.perf_counter()
        (result,) = pool.run([[scorer, pair.answer, pair.reference]])
        if result.outcome is WorkerOutcome.OK:
            return bool(result.value[0]), float(result.value[1]), ""
        return False, time.perf_counter() - start, str(result.outcome)

    return ask


def ask_ours() -> tuple[Callable[[Pair], tuple[bool, float, str]], Callable[[], None]]:
    """The whole reward, extraction included, with its caches cleared before each pair."""
    from rlcs.rewards import math as math_module
    from rlcs.rewards.mathtext import exact

    rewards = {}

    def ask(pair: Pair) -> tuple[bool, float, str]:
        if pair.domain not in rewards:
            rewards[pair.domain] = load_reward(pair.domain)
            rewards[pair.domain].setup()
            warm = Case("1", "1")
            rewards[pair.domain].score_batch([prompt_of(warm)], [warm.completion])
        for cached in (math_module._parse_short, math_module._read, exact.quotient_of):
            cached.cache_clear()
        prompt = prompt_of(Case(pair.answer, pair.reference))
        text = render_response("", pair.answer)
        start = time.perf_counter()
        (score,) = rewards[pair.domain].score_batch([prompt], [text])
        seconds = time.perf_counter() - start
        failed = sum(
            rewards[pair.domain].take_counts().get(name, 0) for name in ("timeouts", "crashes", "memory_limits")
        )
        return bool(score is not None and score.correct), seconds, "failed" if failed else ""

    return ask, lambda: [reward.close() for reward in rewards.values()].clear()


def comparable(domain: str) -> list[tuple[Pair, Case]]:
    """The cases that are a bare answer and right or wrong, without columns of their own."""
    try:
        cases = builtin_cases(domain)
    except Exception as error:
        print(f"{domain} is left out: {error}")
        return []
    return [
        (Pair(case.response, case.answer, case.correct, domain), case)
        for case in cases
        if case.correct is not None and not case.columns and not holds_format_markers(case.response) and case.valid
    ]


def sets() -> Iterable[tuple[str, list[Pair]]]:
    """The sets of pairs by name."""
    from rewards_math import mix

    yield "generated mix", [Pair(*pair, "math") for pair in mix(400)]
    cases = comparable("math")
    yield "math, ordinary cases", [pair for pair, case in cases if "hostile" not in case.note]
    yield "math, hostile cases", [pair for pair, case in cases if "hostile" in case.note]
    for domain in OTHER_DOMAINS:
        pairs = [pair for pair, _ in comparable(domain)]
        if pairs:
            yield f"{domain} cases", pairs


def unpack(source: str, folder: Path) -> Path:
    """The folder that holds `verl/`, unpacked if `source` is a wheel."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith("verl/utils/")])
    return folder


def works(pool: KillablePool, scorer: str) -> bool:
    """Whether a scorer can be imported and finds that 1 is 1."""
    (result,) = pool.run([[scorer, "1", "1"]])
    if result.outcome is WorkerOutcome.OK and result.value[0]:
        return True
    print(f"{scorer} is left out: {result.detail or 'it does not accept 1 for 1'}", file=sys.stderr)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verl", help="wheel or site-packages folder")
    parser.add_argument("--list", action="store_true", help="print each wrong verdict")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    with tempfile.TemporaryDirectory() as folder:
        if arguments.verl:
            os.environ[VERL_ENVIRONMENT] = str(unpack(arguments.verl, Path(folder)).resolve())
        pools = {
            name: KillablePool("rewards_side_by_side:score_one", timeout_s=TIMEOUT_S, memory_mb=2048)
            for name in (*THEIRS, *(OF_VERL if arguments.verl else ()))
        }
        pools = {name: pool for name, pool in pools.items() if works(pool, name)}
        ours, close = ask_ours()
        figures: dict[str, list[dict[str, Any]]] = {}
        for title, pairs in sets():
            print(f"\n**{title}**: {len(pairs)} pairs, {sum(pair.right for pair in pairs)} right\n")
            print("| scorer | asked | false accepts | false rejects | out of time or died | median ms | p99 ms |")
            print("|---|---|---|---|---|---|---|", flush=True)
            results = [compare("RLCS", pairs, ours, arguments.list)]
            print(results[0].row(), flush=True)
            for name, pool in pools.items():
                results.append(compare(name, pairs, ask_pool(pool, name), arguments.list))
                print(results[-1].row(), flush=True)
            figures[title] = [
                {name: getattr(r, name) for name in Result.__slots__ if name != "seconds"} for r in results
            ]
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
        close()
        for pool in pools.values():
            pool.close()


if __name__ == "__main__":
    main()
