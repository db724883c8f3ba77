"""Hostile answers cost little, run nothing and leave the rest of the batch alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlcs.response_format import render_response
from rlcs.rewards.math import Math, MathMatcher, Undecided, Verdict, match_without_sympy

_HOSTILE = [
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "100000000000!",
    "((((10!)!)!)!)",
    "e^{e^{e^{e^{e^{e}}}}}",
    "1e999999999",
    "1/7^{999}" + "+1/11^{999}" * 100,
    "(x+y+z+w)^{999}",
    "(" * 10_000 + "1" + ")" * 10_000,
    "\\sqrt{" * 300 + "2" + "}" * 300,
    "9" * 100_000,
    "x^" * 900 + "x",
    "\\frac" * 600,
    "\\binom{1000}{500}^{999}",
]


@pytest.mark.parametrize("answer", _HOSTILE, ids=lambda answer: answer[:20])
def test_hostile_answers_are_refused_without_sympy(answer: str) -> None:
    verdict = match_without_sympy(answer, "5")
    assert isinstance(verdict, Verdict) and not verdict.correct


@pytest.mark.parametrize(
    "template",
    [
        "__import__('os').system('touch {path}')",
        "exec(\"open('{path}','w')\")",
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "open('{path}','w')",
        "\\text{{$(touch {path})}}",
    ],
)
def test_nothing_is_executed(template: str, tmp_path: Path, math_reward: Math) -> None:
    marker = tmp_path / "executed"
    score = math_reward.score(render_response("", template.format(path=marker)), "5")
    assert score is not None and score.value == 0.0
    assert not marker.exists()


def test_a_comparison_that_is_late_costs_only_its_own_sample() -> None:
    slow, quick = r"\sqrt{3+2\sqrt{2}}", "7"
    assert isinstance(match_without_sympy(slow, r"1+\sqrt{2}"), Undecided)
    matcher = MathMatcher(timeout_s=1e-4)
    try:
        verdicts = matcher.match([(quick, "7"), (slow, r"1+\sqrt{2}"), (quick, "8")])
        assert [verdict.correct for verdict in verdicts] == [True, False, False]
        assert "timed out" in verdicts[1].detail
    finally:
        matcher.close()


def test_timeouts_are_counted() -> None:
    reward = Math(timeout_s=1e-4)
    try:
        reward.score(render_response("", r"\sqrt{3+2\sqrt{2}}"), r"1+\sqrt{2}")
        assert reward.take_counts() == {"timeouts": 1}
        assert reward.take_counts() == {}
    finally:
        reward.close()


def test_the_reward_does_not_import_sympy_where_it_is_called() -> None:
    code = (
        "import sys; from rlcs.rewards.loading import load_reward; reward = load_reward('math');"
        "from rlcs.types import Prompt; p = Prompt('1', [], '1+\\\\sqrt{2}');"
        "s = reward.score_batch([p], ['<|begin_of_box|>\\\\sqrt{3+2\\\\sqrt{2}}<|end_of_box|>']); reward.close();"
        "assert s[0].correct, s; bad = {'sympy', 'torch', 'ray', 'vllm'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)
