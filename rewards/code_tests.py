"""Tests of programs, as datasets write them, and when an output is the expected one.

The reference is JSON, in one of these forms:

| form | datasets | how the program is run |
|---|---|---|
| `{"inputs": [...], "outputs": [...]}` | APPS, TACO | as a script: a text on standard input, a text on standard output |
| the same with `"fn_name"` | APPS, TACO | the function is called: each input is a list of arguments |
| `[{"input": "...", "output": "..."}]`, or this under `"tests"` | many | as a script |
| `{"fn_name": "f", "tests": [{"args": [...], "expected": ...}]}` | our own | the function is called |
| `["assert ...", ...]` or `{"test_list": [...], "test_imports": [...], "test_setup_code": "..."}` | MBPP | asserts |
| `{"test": "def check(candidate): ...", "entry_point": "f", "prompt": "..."}` | HumanEval | asserts |
| text that is no JSON: lines of Python with `assert` | | asserts |
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

MAX_REFERENCE = 8 * 1024 * 1024
"""Longest reference, in characters."""
_MAX_ASSERT_CODE = 200_000


class CodeTestsError(ValueError):
    """A reference holds no tests that can be run."""


@dataclass(frozen=True, slots=True)
class ScriptTest:
    """What a program must print for an input."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class CallTest:
    """What a function must return for arguments."""

    args: list[Any]
    expected: Any
    may_unwrap: bool = False
    """`expected` may be a list around the value: APPS and TACO write `[3]` for 3 as well as for [3]."""


@dataclass(frozen=True, slots=True)
class AssertTest:
    """Statements that must not raise."""

    code: str


Test = ScriptTest | CallTest | AssertTest


@dataclass(frozen=True, slots=True)
class CodeTests:
    """The tests of a prompt; all are of one kind."""

    tests: Sequence[Test]
    entry_point: str | None = None
    """The function that is called, or that asserts know as `candidate`."""
    setup: str = ""
    """Run before the asserts, beside them."""
    prelude: str = ""
    """Run before the program and before the tests: HumanEval's prompt, whose imports and helpers answers leave out."""


def parse_tests(reference: str) -> CodeTests:
    """The tests of a reference.

    Raises:
        CodeTestsError: it is in none of the forms, or its tests prove nothing.
    """
    if len(reference) > MAX_REFERENCE:
        raise CodeTestsError(f"it is longer than {MAX_REFERENCE} characters")
    try:
        form = json.loads(reference)
    except (ValueError, RecursionError):
        if "assert" not in reference:
            raise CodeTestsError("it is neither JSON nor lines of Python with assert") from None
        return _assert_tests(_statements(reference))
    if isinstance(form, list):
        if form and all(isinstance(test, str) for test in form):
            return _assert_tests({"test_list": form})
        form = {"tests": form}
    if not isinstance(form, dict):
        raise CodeTestsError("it is neither an object nor a list of tests")
    if "inputs" in form or "outputs" in form:
        return _pairs(form)
    if "test_list" in form:
        return _assert_tests(form)
    if "test" in form:
        return _check_function(form)
    if "tests" in form:
        return _listed(form)
    raise CodeTestsError("it has none of the keys `inputs` and `outputs`, `tests`, `test_list`, `test`")


def same_output(printed: str, expected: str, tolerance: float) -> bool:
    """Whether an output is the expected one: line by line, blanks at the end of lines and of the text aside.

    With a `tolerance`, words that are decimal numbers in the expected line may differ by it, relatively or absolutely.
    """
    lines = zip_longest(_lines(printed), _lines(expected))
    return all(
        ours is not None and theirs is not None and (ours == theirs or _same_words(ours, theirs, tolerance))
        for ours, theirs in lines
    )


def same_value(value: Any, expected: Any, tolerance: float) -> bool:
    """Whether what a function returned is the expected JSON value: tuples are lists, sets lists in any order."""
    if isinstance(expected, bool) or isinstance(value, bool) or expected is None or value is None:
        return value is expected
    if isinstance(expected, int | float) and isinstance(value, int | float):
        if isinstance(expected, int) and isinstance(value, int):
            return value == expected
        return _close(value, expected, tolerance)
    if isinstance(expected, str) and isinstance(value, str):
        return value == expected
    if isinstance(expected, list) and isinstance(value, set | frozenset):
        value, expected = sorted(value, key=repr), sorted(expected, key=repr)
    if isinstance(expected, list) and isinstance(value, list | tuple | range):
        return len(value) == len(expected) and all(
            same_value(ours, theirs, tolerance) for ours, theirs in zip(value, expected, strict=True)
        )
    if isinstance(expected, dict) and isinstance(value, dict):
        named = {str(key): item for key, item in value.items()}  # JSON's keys are texts
        return (
            len(named) == len(value)
            and named.keys() == expected.keys()
            and all(same_value(named[key], item, tolerance) for key, item in expected.items())
        )
    return False


def _close(value: float, expected: float, tolerance: float) -> bool:
    try:
        value, expected = float(value), float(expected)
    except OverflowError:
        return False
    if math.isnan(expected):
        return math.isnan(value)
    return math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_words(ours: str, theirs: str, tolerance: float) -> bool:
    if tolerance <= 0:
        return False
    pairs = zip_longest(ours.split(), theirs.split(), fillvalue="")
    return all(word == other or _same_decimal(word, other, tolerance) for word, other in pairs)


def _same_decimal(word: str, other: str, tolerance: float) -> bool:
    if len(word) > 400 or not any(mark in other for mark in ".eE"):
        return False
    try:
        value, expected = float(word), float(other)
    except ValueError:
        return False
    return "_" not in word and math.isfinite(expected) and _close(value, expected, tolerance)


def _pairs(form: dict[str, Any]) -> CodeTests:
    inputs, outputs = form.get("inputs"), form.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs) or not inputs:
        raise CodeTestsError("`inputs` and `outputs` must be lists of one length, with at least one test")
    name = form.get("fn_name")
    if name:
        calls = []
        for number, (args, expected) in enumerate(zip(inputs, outputs, strict=True)):
            if not isinstance(args, list):
                raise CodeTestsError(f"inputs[{number}] must be the list of the arguments of {name}")
            calls.append(CallTest(args, expected, may_unwrap=True))
        return CodeTests(calls, _name(name, "fn_name"))
    return _scripts(inputs, outputs)


def _listed(form: dict[str, Any]) -> CodeTests:
    rows = form["tests"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise CodeTestsError("`tests` must be a list of objects, with at least one test")
    name = form.get("fn_name") or form.get("entry_point")
    if all("args" in row and "expected" in row for row in rows):
        if not all(isinstance(row["args"], list) for row in rows):
            raise CodeTestsError("`args` of a test must be a list")
        return CodeTests([CallTest(row["args"], row["expected"]) for row in rows], _name(name, "fn_name"))
    if not all("input" in row and "output" in row for row in rows):
        raise CodeTestsError("a test has `input` and `output`, or `args` and `expected`")
    if name or any(row.get("testtype", "stdin") != "stdin" for row in rows):
        raise CodeTestsError("tests of a function have `args` and `expected`, not `input` and `output`")
    return _scripts([row["input"] for row in rows], [row["output"] for row in rows])


def _scripts(inputs: list[Any], outputs: list[Any]) -> CodeTests:
    tests = [
        ScriptTest(_text(stdin, f"input {number}"), _text(stdout, f"output {number}"))
        for number, (stdin, stdout) in enumerate(zip(inputs, outputs, strict=True))
    ]
    if not any(test.stdout.strip() for test in tests):
        raise CodeTestsError("every expected output is blank, which proves nothing")
    return CodeTests(tests)


def _text(value: Any, what: str) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise CodeTestsError(f"{what} must be a text, not {type(value).__name__}")
    return value


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.isidentifier():
        raise CodeTestsError(f"`{key}` must be the name of a function, not {value!r:.60}")
    return value


def _assert_tests(form: dict[str, Any]) -> CodeTests:
    tests = form["test_list"]
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        raise CodeTestsError("`test_list` must be a list of texts, with at least one test")
    imports = form.get("test_imports") or []
    setup = "\n".join([*imports, form.get("test_setup_code") or ""]) if isinstance(imports, list) else None
    if setup is None:
        raise CodeTestsError("`test_imports` must be a list of texts")
    _parse(setup, "the setup")
    for number, test in enumerate(tests):
        tree = _parse(test, f"test {number}")
        if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
            raise CodeTestsError(f"test {number} asserts nothing")
    return CodeTests([AssertTest(test) for test in tests], None, setup)


def _check_function(form: dict[str, Any]) -> CodeTests:
    test, prompt = form["test"], form.get("prompt") or ""
    name = _name(form.get("entry_point"), "entry_point")
    if not isinstance(test, str) or not isinstance(prompt, str):
        raise CodeTestsError("`test` and `prompt` must be texts")
    tree = _parse(test, "`test`")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body):
        raise CodeTestsError("`test` must define check(candidate)")
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise CodeTestsError("`test` asserts nothing")
    try:
        _parse(prompt, "`prompt`")
    except CodeTestsError:
        prompt = ""  # prose, or the start of a function without a body
    return CodeTests([AssertTest(f"{test}\ncheck(candidate)\n")], name, prelude=prompt)


def _statements(text: str) -> dict[str, Any]:
    """Lines of Python: each assert is a test, what stands before the first is the setup."""
    body = _parse(text, "the reference").body
    first = next((index for index, node in enumerate(body) if isinstance(node, ast.Assert)), len(body))
    if not all(isinstance(node, ast.Assert) for node in body[first:]):
        return {"test_list": [text]}
    return {
        "test_setup_code": "\n".join(ast.unparse(node) for node in body[:first]),
        "test_list": [ast.unparse(node) for node in body[first:]],
    }


def _parse(code: str, what: str) -> ast.Module:
    if len(code) > _MAX_ASSERT_CODE:
        raise CodeTestsError(f"{what} is longer than {_MAX_ASSERT_CODE} characters")
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CodeTestsError(f"{what} is no Python: {error}") from None
