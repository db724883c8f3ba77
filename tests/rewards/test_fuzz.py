"""Hostile and random responses: no reward crashes, hangs, runs past its limit or grows, whatever a policy says.

The normal suite tries about a thousand inputs. The full run tries ten thousand, four times, and prints the figures:

    pytest tests/rewards/test_fuzz.py -m slow -s

Its wall-clock limits need a quiet machine; the limits of the normal suite are of this process's own CPU time.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlcs.errors import DataError
from rlcs.response_format import FORMAT_TOKENS, render_response
from rlcs.reward_commands.check import prompt_of
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.loading import BUILTIN_REWARDS, LoadedReward, load_reward
from rlcs.types import Prompt

LIMIT_S = 1.0
"""The time limit that the rewards are given."""
GRACE_S = 0.5
HANG_S = 30.0
"""What no call may take, however busy the machine."""
MAX_GROWTH_MB = 40
"""Of this process, all rewards together, in the last pass."""
MAX_WORKER_MB = 400
"""A worker with sympy takes 70 MiB to begin with; what its own limit allows is far above this."""

NAMES = [name for name in BUILTIN_REWARDS if name not in {"code", "judge", "reward_model"}]
"""All that compare texts: `code` runs programs, the other two need a model."""

NORMAL_INPUTS = 30
FULL_INPUTS = 10_000
PASSES = 4
"""So many times ten thousand: memory must be flat in the last."""


# Hostile answers


BRACKETS = ("()", "[]", "{}", "⟨⟩", "（）", "【】")
HUGE = 100_000

WORDS = (
    "nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999", "1e-999", "1e999999999", "0x7fffffff", "1_000", "--1",
    "0/0", "1/0", r"\frac{1}{0}", "1e400/1e400", "∞", "½", "９９９", "٣", "一百", "−1", "1\u00a0000", "\u202e12", "\u200b5",
    "\x00", "\x1b[2J", "\ud800", "\udfff5", "\ufffe", "True", "None", "null", "undefined", "...", "()", "[]", "{}", '""', "''",
    "__import__('os').system('true')", "().__class__.__bases__[0].__subclasses__()", "eval('1')", "exec('x=1')",
    "lambda: 0", "open('/etc/hostname').read()", "{0.__class__}", "%s%s%s%n", "${1+1}", "{{7*7}}", "$(true)", "`true`",
    "'; DROP TABLE answers; --", "../../etc/passwd", "<script>alert(1)</script>", "100000000000!", "9999999!!",
    r"\sum_{n=1}^{10^{12}} n", r"\int_0^{10^9} e^{x^x} dx", r"\prod_{k=1}^{9999999} k", r"\binom{10^9}{10^8}",
    r"\lim_{x\to 0} \frac{1}{x}", r"\begin{pmatrix}1&2\\3\end{pmatrix}", r"\def\a{\a\a}\a", r"\write18{true}",
    '{"action_type": "click", "box_2d": [[NaN, 0, 1e999, -0]]}', '{"action_type": {"a": []}}', "click(point=(1,2)",
    "type(content='\\", "[[1,2,3,4],[1e308,1e308,-1e308,-1e308]]", "[[0,0,0,0]]", "[[5,5,1,1]]", "12:99:99", "-1:00",
    "99999:00:00", "00:01 - ", "91, 181", "1e9, 1e9", "N 90° 60' 61\"",
    "H2O -> ", "-> H2O", "H^{999999999999}", "(((H2O)9)9)99999999",
    "Xx2", "5 m^{99999999}", "10^{400} kg", "5 kg*", "J/(kg*(K", "°C°F", "A or B", "A and not A", "ABCDEFGHIJ", "p ∧ (q ∨",
)  # fmt: skip


def tower(rng: random.Random) -> str:
    """A tower of powers or factorials."""
    base, depth = rng.choice(["10", "2", "9", "x", "-1", "0.5"]), rng.randint(2, 60)
    return rng.choice(
        [
            (base + "^{") * depth + base + "}" * depth,
            (base + "^(") * depth + base + ")" * depth,
            "**".join([base] * depth),
            "(" * depth + "5" + "!)" * depth,
            "5" + "!" * depth,
            base + "e" + "9" * rng.randint(3, 30),
        ]
    )


def nested(rng: random.Random) -> str:
    """Ten thousand brackets, closed or not."""
    count = rng.choice([50, 1_000, 10_000])
    opening, closing = rng.choice(
        [
            *BRACKETS,
            (r"\sqrt{", "}"),
            (r"\frac{1}{", "}"),
            ('{"a":', "}"),
            (r"\left(", r"\right)"),
            ("x^{", "}"),
            ("-(", ")"),
        ]
    )
    return opening * count + rng.choice(["", "1", "a"]) + closing * rng.choice([count, count - 1, count + 1, 0])


def long(rng: random.Random) -> str:
    """A hundred thousand characters."""
    unit = rng.choice(
        ["a", "9", " ", "\n", "的", "-", "+1", "1,", "0.", '"', "\\", r"\frac", "[1,", "((", "A ", "a@", "10:00 ", "H2", "kg ",
         "x=1;", "1 2 ", "[[1,2,3,4],", "'", "<", "#", "a b c d e ", "é", "１", "\u0301", "🙂", ". ", "=", "∧", "~"]
    )  # fmt: skip
    # Distinct, so that a cache that keeps whole texts is found out.
    return (unit * HUGE)[: HUGE - 12] + f"{rng.randrange(10**12):012}"


def mutated(rng: random.Random, reference: str) -> str:
    """The reference, damaged, repeated, or with a hedge."""
    text = list(reference[:2000] or "x")
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(text) + 1)
        kind = rng.random()
        if kind < 0.3:
            text.insert(place, rng.choice(list("0123456789.,-+^!()[]{}\\/%$&;:'\" \n\u3000×πe|~") + list(WORDS)))
        elif kind < 0.5 and len(text) > 1:
            del text[min(place, len(text) - 1)]
        elif kind < 0.6:
            text = text[:place] + text[: rng.randint(1, 20)] + text[place:]
        elif kind < 0.7:
            text.reverse()
        elif kind < 0.8:
            text = text * rng.choice([2, 50, 1_000])
        else:
            text = [*text, *rng.choice([" or ", ", ", " ", "\n", " and "]), *rng.choice(WORDS)]
        text = text[:HUGE] or ["x"]
    return "".join(text)


def spliced(rng: random.Random, answer: str) -> str:
    """A whole response with markers where they do not belong."""
    parts = [
        rng.choice([*FORMAT_TOKENS, answer, " ", "text", r"\boxed{", "}", "Answer: "])
        for _ in range(rng.randint(1, 12))
    ]
    return "".join(parts)


def hostile_response(rng: random.Random, reference: str) -> str:
    """A response of one of these kinds; most have one box, so that the verifier itself is reached."""
    kind = rng.random()
    if kind < 0.2:
        answer = rng.choice(WORDS) * rng.choice([1, 1, 1, 2, 30])
    elif kind < 0.35:
        answer = tower(rng)
    elif kind < 0.5:
        answer = nested(rng)
    elif kind < 0.6:
        answer = long(rng)
    elif kind < 0.95:
        answer = mutated(rng, reference)
    else:
        answer = "".join(
            chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x110000)])) for _ in range(rng.randint(1, 200))
        )
    kind = rng.random()
    if kind < 0.85:
        return render_response("hm", answer)
    if kind < 0.93:
        return f"<think>hm</think><answer>{answer}</answer>"  # open answers, code blocks
    return spliced(rng, answer)


# The rewards and what they are asked about


@cache
def questions(name: str) -> list[Prompt]:
    """Prompts with references that the reward can use."""
    if name == "reasoning_gym":
        entry = {"question": "What is 2 + 2?", "answer": "4", "metadata": {"difficulty": {}, "expression": "2 + 2"}}
        columns = {"task": "chain_sum", "entry": entry}
        return [Prompt("chain_sum", [], "4", metadata=columns)]
    try:
        cases = [case for case in builtin_cases(name) if case.valid]
    except DataError:
        cases = [Case("", "1")]
    return [prompt_of(case) for case in cases]


@cache
def reward_of(name: str) -> LoadedReward:
    reward = load_reward(name, timeout_s=LIMIT_S)
    reward.setup()
    prompt = questions(name)[0]
    reward.score_batch([prompt], [render_response("", "1/3+sqrt(2)")])  # imports, worker processes
    reward.take_counts()
    return reward


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    yield
    for name in NAMES:
        reward_of(name).close()
    reward_of.cache_clear()


@dataclass
class Figures:
    """What was measured of a reward."""

    inputs: int = 0
    slowest_s: float = 0.0
    """Wall clock."""
    slowest_cpu_s: float = 0.0
    """Of this process alone."""
    over_50_ms: int = 0
    slowest_input: str = ""
    events: Counter[str] = field(default_factory=Counter)


def check(name: str, response: str, prompt: Prompt, figures: Figures | None = None) -> None:
    """Score one response and hold the outcome against the promises."""
    reward = reward_of(name)
    wall, cpu = time.perf_counter(), time.process_time()
    (score,) = reward.score_batch([prompt], [response])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    shown = f"{name}: {response[:150]!r} ({len(response)} characters) for {prompt.answer[:80]!r}"
    counts = reward.take_counts()
    assert "verifier_errors" not in counts, f"crashed on {shown}: {score}"
    assert cpu <= LIMIT_S + GRACE_S, f"{cpu:.2f} s on {shown}"
    assert wall <= HANG_S, f"{wall:.2f} s on {shown}"
    if score is not None:
        assert isinstance(score.value, float) and math.isfinite(score.value) and 0.0 <= score.value <= 1.0, shown
        assert all(math.isfinite(part) for part in score.parts.values()), shown
        assert len(score.detail) <= 5_000, f"a reason of {len(score.detail)} characters on {shown}"
    if figures is not None:
        figures.inputs += 1
        figures.events.update(counts)
        figures.over_50_ms += cpu > 0.05
        figures.slowest_cpu_s = max(figures.slowest_cpu_s, cpu)
        if wall > figures.slowest_s:
            figures.slowest_s, figures.slowest_input = wall, shown


def attack(name: str, count: int, seed: int, figures: Figures | None = None) -> None:
    """Score `count` hostile responses."""
    rng = random.Random(f"{name} {seed}")
    prompts = questions(name)
    for _ in range(count):
        prompt = rng.choice(prompts)
        check(name, hostile_response(rng, prompt.answer), prompt, figures)


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process, and the largest of a worker of it (forks share most of theirs)."""
    process = psutil.Process(os.getpid())
    workers = [0.0]
    for child in process.children(recursive=True):
        try:
            workers.append(child.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            continue
    return process.memory_info().rss / 2**20, max(workers)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_responses_do_no_harm(name: str) -> None:
    attack(name, NORMAL_INPUTS, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_each_named_horror_does_no_harm(name: str) -> None:
    rng = random.Random(1)
    prompt = questions(name)[0]
    horrors = [
        "10^{10^{10^{10}}}", "9^9^9^9^9^9", "100000000000!", "((((9!)!)!)!)!", "(" * 10_000 + "1" + ")" * 10_000, "[" * 10_000,
        "nan", "inf", "-inf", "__import__('os').system('true')", long(rng),
    ]  # fmt: skip
    for horror in horrors:
        check(name, render_response("", horror), prompt)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=NORMAL_INPUTS, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_any_text_is_scored(name: str, data: st.DataObject) -> None:
    prompt = data.draw(st.sampled_from(questions(name)[:40]))
    alphabet = st.sampled_from([*prompt.answer[:50], *"0123456789.,()[]{}^\\/-+ ", "\n"])
    answer = data.draw(st.one_of(st.text(max_size=200), st.text(alphabet, max_size=60)))
    check(name, data.draw(st.sampled_from([answer, render_response("", answer)])), prompt)


@pytest.mark.parametrize("name", NAMES)
def test_long_answers_are_not_kept(name: str) -> None:
    """A cache that keeps them whole would grow by at least a hundred kilobytes with each: they all differ."""
    rng = random.Random(3)
    prompt = questions(name)[0]
    responses = [render_response("", "9" * HUGE + str(rng.random())) for _ in range(80)]
    check(name, responses[0], prompt)
    before, _ = memory_mb()
    for response in responses[1:]:
        check(name, response, prompt)
    growth = memory_mb()[0] - before
    assert growth < 5, f"{growth:.1f} MiB after {len(responses)} answers of {HUGE} characters"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tens_of_thousands_of_hostile_responses_in_flat_memory(capsys: pytest.CaptureFixture[str]) -> None:
    each = -(-FULL_INPUTS // len(NAMES))
    rows, grown, started = [], 0.0, time.monotonic()
    for name in NAMES:
        figures = Figures()
        for seed in range(PASSES - 1):
            attack(name, each, 10 + seed, figures)
        before, _ = memory_mb()  # caches and arenas have found their size by now
        attack(name, each, 99, figures)
        after, worker = memory_mb()
        growth = after - before
        grown += growth
        counts = ", ".join(f"{key} {value}" for key, value in sorted(figures.events.items()) if "format" not in key)
        rows.append(
            f"| {name} | {figures.inputs} | {1e3 * figures.slowest_s:.0f} | {1e3 * figures.slowest_cpu_s:.0f} "
            f"| {figures.over_50_ms} | {growth:+.1f} | {worker:.0f} | {counts} |"
        )
        assert worker < MAX_WORKER_MB, name
        with capsys.disabled():
            if name == NAMES[0]:
                print(
                    "\n| reward | inputs | slowest ms | slowest ms, own CPU | over 50 ms CPU "
                    "| growth in the last pass, MiB | largest worker, MiB | events |"
                )
                print("|---|---|---|---|---|---|---|---|")
            print(rows[-1], flush=True)
            if figures.slowest_s > 0.05:
                print(f"<!-- slowest: {figures.slowest_input} -->", flush=True)
        assert figures.slowest_s <= LIMIT_S + GRACE_S, figures.slowest_input
    seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\n{PASSES * each * len(NAMES)} inputs in {seconds:.0f} s, {grown:+.1f} MiB in the last pass")
    assert grown < MAX_GROWTH_MB
