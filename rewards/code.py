"""Programs, run against tests in a sandbox. Off unless `enabled`: running what a model writes is for you to allow.

The answer is Python: the code block in the box, or, where the answer has no box, its only code block. The tests
(`rlcs.rewards.code_tests`) never enter the process that runs the program, and neither do expected outputs: a script's
output and a function's results are compared here, and asserts run in a second sandbox that calls the program's
functions from outside (`rlcs.rewards.code_harness`). So a verdict is nothing that a program could print, patch or skip.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from rlcs.errors import RewardError
from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.code_blocks import find_program
from rlcs.rewards.code_harness import CallError, CallTimeout, Client
from rlcs.rewards.code_tests import (
    AssertTest,
    CallTest,
    CodeTests,
    CodeTestsError,
    ScriptTest,
    parse_tests,
    same_output,
    same_value,
)
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.sandbox import Limits, Program, Sandbox
from rlcs.rewards.sandbox import Outcome as RunOutcome
from rlcs.types import Score

_START_S = 1.0
"""Allowed for starting a process, on top of the program's time."""

Mode = Literal["all", "share"]


@dataclass(slots=True)
class _Result:
    """What tests found."""

    passed: int = 0
    detail: str = ""
    """The first failure."""
    events: list[str] = field(default_factory=list)

    def fail(self, number: int, why: str) -> None:
        self.detail = self.detail or f"test {number}: {why}"


class Code(Reward):
    """1 if a program passes every test, else 0 with the first failure as the reason.

    Args:
        extract: how the answer is found in a response.
        enabled: must be true: programs that a model wrote are run on this machine.
        mode: `all`: 1 or 0; `share`: the share of tests passed. With `all` the first failure ends the tests.
        test_timeout_s: deadline of one test.
        sample_timeout_s: deadline of all tests of one program; those that were not reached have failed.
        max_tests: the first so many tests of a prompt are run.
        tolerance: by how much decimal numbers may differ, relatively or absolutely; 0 compares texts.
        memory_mb: address space of a program.
        parallel: programs that run at once.
        allow_network: accept a machine where no namespaces can be made. Programs are then held by limits and the
            system call filter only, and see the files of this user.

    Raises:
        RewardError: it is not enabled, an option is out of range, or (in `setup`) no sandbox can be made.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        enabled: bool = False,
        mode: Mode = "all",
        test_timeout_s: float = 4.0,
        sample_timeout_s: float = 30.0,
        max_tests: int = 100,
        tolerance: float = 1e-6,
        memory_mb: int = 1024,
        parallel: int = 1,
        allow_network: bool = False,
    ) -> None:
        if enabled is not True:
            raise RewardError(
                "reward 'code' runs programs that the model wrote, so it is off: allow it with "
                "`reward.options.code.enabled: true`"
            )
        if mode not in get_args(Mode):
            raise RewardError(f"reward 'code': mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        for name, number, low in (
            ("test_timeout_s", test_timeout_s, 0.05),
            ("sample_timeout_s", sample_timeout_s, 0.05),
            ("max_tests", max_tests, 1),
            ("tolerance", tolerance, 0),
            ("memory_mb", memory_mb, 64),
            ("parallel", parallel, 1),
        ):
            if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number < math.inf:
                raise RewardError(f"reward 'code': {name} must be a number of at least {low}, not {number!r}")
        self._extract = extract or ExtractOptions()
        self._mode = mode
        self._test_timeout_s = float(test_timeout_s)
        self._sample_timeout_s = self.sample_limit_s = float(sample_timeout_s)
        self._max_tests = int(max_tests)
        self._tolerance = float(tolerance)
        self._limits = Limits(memory_mb=int(memory_mb))
        self._parallel = int(parallel)
        self._allow_network = allow_network
        self._sandbox: Sandbox | None = None

    def setup(self) -> None:
        sandbox = Sandbox(self._limits)
        reason = sandbox.why_unavailable()
        if reason is not None and self._allow_network:
            sandbox = Sandbox(self._limits, isolated=False)
            reason = sandbox.why_unavailable()
        if reason is not None:
            raise RewardError(
                f"reward 'code' cannot shut programs in on this machine ({reason}): allow user namespaces, or accept "
                "the risk with `reward.options.code.allow_network: true`"
            )
        self._sandbox = sandbox

    def validate(self, answer: str, **columns: object) -> str | None:
        try:
            parse_tests(answer)
        except CodeTestsError as error:
            return f"the tests cannot be used: {error}"
        return None

    def score(self, completion: str, answer: str, **columns: object) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        if self._sandbox is None:
            self.setup()
        if self._parallel == 1 or len(completions) == 1:
            outcomes = [self._judge(*pair) for pair in zip(completions, answers, strict=True)]
        else:
            with ThreadPoolExecutor(self._parallel) as pool:
                outcomes = list(pool.map(self._judge, completions, answers))
        for _, events in outcomes:
            for event in events:
                self.count(event)
        return [score for score, _ in outcomes]

    def _judge(self, completion: str, answer: str) -> tuple[Score, list[str]]:
        """The score of one response, and the events to count (here, since threads share the counter)."""
        program, reason, event = find_program(completion, self._extract)
        if program is None:
            return Score(0.0, correct=False, detail=reason), [event]
        try:
            tests = _parsed(answer)
        except CodeTestsError as error:
            return Score(0.0, correct=False, detail=f"the tests cannot be used: {error}"), ["bad_references"]
        wanted = tests.tests[: self._max_tests]
        started = time.monotonic()
        deadline = started + self._sample_timeout_s
        result = _Result()
        if isinstance(wanted[0], ScriptTest):
            self._run_script(program, wanted, deadline, result)
        elif isinstance(wanted[0], CallTest):
            self._call_function(program, tests, wanted, deadline, result)
        else:
            self._run_asserts(program, tests, wanted, deadline, result)
        share = result.passed / len(wanted)
        correct = result.passed == len(wanted)
        value = share if self._mode == "share" else float(correct)
        detail = "passed all tests" if correct else f"passed {result.passed} of {len(wanted)} tests; {result.detail}"
        return Score(value, correct, {"tests": share}, detail, time.monotonic() - started), result.events

    def _run_script(self, program: str, tests: Sequence[object], deadline: float, result: _Result) -> None:
        assert self._sandbox is not None
        for number, test in enumerate(tests):
            assert isinstance(test, ScriptTest)
            left = min(self._test_timeout_s + _START_S, deadline - time.monotonic())
            if left <= 0:
                result.fail(number, "there was no time left")
                return
            stdin = test.stdin.encode(errors="replace")
            run = self._sandbox.run({"program.py": program}, ["program.py"], stdin=stdin, timeout_s=left)
            if run.outcome is not RunOutcome.OK:
                result.events.append(run.outcome)
                result.fail(number, run.detail)
            elif same_output(run.stdout.decode(errors="replace"), test.stdout, self._tolerance):
                result.passed += 1
            else:
                result.fail(number, "the output is not the expected one")
            if result.detail and self._mode == "all":
                return

    def _call_function(
        self, program: str, tests: CodeTests, wanted: Sequence[object], deadline: float, result: _Result
    ) -> None:
        assert self._sandbox is not None and tests.entry_point is not None
        ours, theirs = socket.socketpair()
        with ours, theirs, self._serve(program, tests, theirs):
            theirs.close()
            client = Client(ours, self._test_timeout_s + _START_S)
            for number, test in enumerate(wanted):
                assert isinstance(test, CallTest)
                if time.monotonic() > deadline:
                    result.fail(number, "there was no time left")
                    return
                try:
                    value = client.call(tests.entry_point, *test.args)
                    if self._is_expected(value, test):
                        result.passed += 1
                    else:
                        result.fail(number, "the result is not the expected one")
                except CallError as error:
                    late = isinstance(error, CallTimeout)
                    result.events.append(RunOutcome.TIMEOUT if late else RunOutcome.ERROR)
                    result.fail(number, str(error))
                    return
                except Exception as error:  # the program's
                    result.fail(number, f"{type(error).__name__}: {error}"[:200])
                if result.detail and self._mode == "all":
                    return

    def _is_expected(self, value: object, test: CallTest) -> bool:
        if same_value(value, test.expected, self._tolerance):
            return True
        if not test.may_unwrap or not isinstance(test.expected, list) or len(test.expected) != 1:
            return False
        return same_value(value, test.expected[0], self._tolerance)

    def _run_asserts(
        self, program: str, tests: CodeTests, wanted: Sequence[object], deadline: float, result: _Result
    ) -> None:
        assert self._sandbox is not None
        order = {
            "tests": [test.code for test in wanted if isinstance(test, AssertTest)],
            "prelude": tests.prelude,
            "setup": tests.setup,
            "entry_point": tests.entry_point,
            "timeout_s": self._test_timeout_s + _START_S,
            "stop_at_first": self._mode == "all",
        }
        files = {"harness.py": _harness(), "order.json": json.dumps(order)}
        ours, theirs = socket.socketpair()
        with ours, theirs, self._serve(program, tests, theirs):
            theirs.close()
            run = self._sandbox.run(
                files, ["harness.py", "check"], stdin=ours, timeout_s=max(0.0, deadline - time.monotonic())
            )
        if run.outcome is not RunOutcome.OK:
            result.events.append(run.outcome)
        for line in run.stdout.split(b"\n")[:-1]:  # the last may be cut off
            number, passed, why = json.loads(line)
            if passed:
                result.passed += 1
            else:
                result.fail(number, why)
                if why.startswith(CallTimeout.__name__):
                    result.events.append(RunOutcome.TIMEOUT)
        if result.passed < len(wanted):
            result.fail(result.passed, run.detail)

    def _serve(self, program: str, tests: CodeTests, channel: socket.socket) -> Program:
        """Start a program that answers calls on `channel`."""
        assert self._sandbox is not None
        source = f"{tests.prelude}\n{program}" if tests.prelude else program
        return self._sandbox.start(
            {"harness.py": _harness(), "program.py": source},
            ["harness.py", "serve"],
            stdin=channel.fileno(),
            stdout=channel.fileno(),
            cpu_s=math.ceil(self._sample_timeout_s) + 1,
        )


@lru_cache(maxsize=32)
def _parsed(answer: str) -> CodeTests:
    return parse_tests(answer)


@lru_cache(maxsize=1)
def _harness() -> str:
    return Path(__file__).with_name("code_harness.py").read_text(encoding="utf-8")
