from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.rewards.code import Code
from rlcs.rewards.code_blocks import find_program
from rlcs.rewards.code_harness import decode, encode, free_names
from rlcs.rewards.code_tests import CodeTestsError, parse_tests, same_output, same_value
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.loading import load_reward
from rlcs.types import Score

SUM = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
ADD = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}
ASSERTS = ["assert add(1, 2) == 3", "assert add(3, 4) == 7"]
CHECK = {"test": "def check(candidate):\n    assert candidate(1, 2) == 3\n", "entry_point": "add"}
WRONG = "def add(a, b):\n    return 0\n"

IN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
HASHABLE = st.none() | st.integers() | st.text(max_size=4) | st.binary(max_size=4) | st.tuples(st.integers())
PLAIN = st.recursive(
    HASHABLE
    | st.complex_numbers(allow_nan=False)
    | st.sets(HASHABLE, max_size=3)
    | st.builds(range, st.integers(0, 9)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.frozensets(HASHABLE, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def code() -> Code:
    return _made(memory_mb=512, test_timeout_s=20.0)


@pytest.fixture(scope="module")
def hasty() -> Code:
    """For programs that must run out of time."""
    return _made(memory_mb=256, test_timeout_s=0.05, sample_timeout_s=2.0)


@pytest.fixture(scope="module")
def sharing() -> Code:
    return _made(mode="share", test_timeout_s=20.0)


def _made(**options: Any) -> Code:
    reward = Code(enabled=True, **options)
    try:
        reward.setup()
    except RewardError as error:
        pytest.skip(str(error))
    return reward


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(_running())  # of the session's other tests, such as multiprocessing's resource tracker
    yield
    deadline = time.monotonic() + 5
    while (left := set(_running()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def _running() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def judged(reward: Code, program: str, tests: Any) -> Score:
    reference = tests if isinstance(tests, str) else json.dumps(tests)
    found = reward.score(f"<|begin_of_box|>{program}<|end_of_box|>", reference)
    assert found is not None
    return found


@pytest.mark.parametrize("options", [{}, {"enabled": False}, {"enabled": "yes"}, {"enabled": 1}])
def test_it_is_off_until_it_is_enabled(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=r"reward\.options\.code\.enabled: true") as caught:
        load_reward("code", options=options)
    assert "\n" not in str(caught.value)


def test_the_reward_is_loaded_by_name() -> None:
    assert load_reward("code", options={"enabled": True}).name == "code"


@pytest.mark.parametrize(
    "options",
    [{"mode": "most"}, {"test_timeout_s": 0}, {"max_tests": 0}, {"tolerance": math.nan}, {"memory_mb": True},
     {"parallel": "2"}, {"sample_timeout_s": math.inf}],
)  # fmt: skip
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=next(iter(options))):
        Code(enabled=True, **options)


def test_share_counts_the_tests_that_pass(sharing: Code) -> None:
    for tests in (SUM, ADD, ASSERTS):
        program = "print(3)" if tests is SUM else "def add(a, b):\n    return 3"
        found = judged(sharing, program, tests)
        assert (found.value, found.correct, found.parts) == (0.5, False, {"tests": 0.5})


def test_an_exception_in_one_call_does_not_end_the_others(sharing: Code) -> None:
    program = "def add(a, b):\n    if a == 1:\n        raise ValueError('one')\n    return a + b"
    assert judged(sharing, program, ADD).value == 0.5
    assert judged(sharing, program, ASSERTS).value == 0.5


def test_a_function_runs_in_order_and_keeps_its_state(sharing: Code) -> None:
    tests = "push(1)\npush(2)\nassert pop() == 2\nassert pop() == 1"
    assert judged(sharing, "xs = []\npush = xs.append\npop = xs.pop", tests).value == 1.0


def test_programs_of_a_batch_run_side_by_side() -> None:
    reward = _made(parallel=3)
    texts = [f"<|begin_of_box|>print({n})<|end_of_box|>" for n in range(6)]
    tests = [json.dumps({"inputs": [""], "outputs": [str(n)]}) for n in (0, 1, 9, 3, 4, 9)]
    found = reward.score_batch(texts, tests, [{}] * 6)
    assert [score.value for score in found if score is not None] == [1, 1, 0, 1, 1, 0]


def test_only_the_first_tests_are_run_when_there_are_many() -> None:
    reward = _made(max_tests=1)
    assert judged(reward, "print(3)", SUM).value == 1.0


def test_tests_that_were_not_reached_have_failed() -> None:
    reward = _made(mode="share", sample_timeout_s=0.05)
    found = judged(reward, "print(input())", {"inputs": ["1"] * 50, "outputs": ["1"] * 50})
    assert found.value < 1.0


def test_events_are_counted(hasty: Code, code: Code) -> None:
    for reward in (hasty, code):
        reward.take_counts()
    judged(hasty, "import time\ntime.sleep(1000)", SUM)
    assert hasty.take_counts() == {"timeouts": 1}
    judged(code, "1 / 0", SUM)
    code.score("no box", json.dumps(SUM))
    assert code.take_counts() == {"program_errors": 1, "format_no_box": 1}


# Hostile programs: each scores 0, and leaves nothing (the fixture above looks).

EXPECTED = {"inputs": [""], "outputs": ["secret 4711"]}


def test_expected_outputs_are_nowhere_to_be_found(code: Code, tmp_path: Path) -> None:
    (tmp_path / "tests.json").write_text(json.dumps(EXPECTED))
    program = (
        "import gc, os, sys\n"
        f"roots = ['/tmp', {str(tmp_path)!r}, '/proc', '/dev/shm', '/home', '/root', '/var', '/etc']\n"
        "for root in roots:\n"
        "    for folder, _, names in os.walk(root):\n"
        "        for name in names:\n"
        "            try:\n"
        "                text = open(os.path.join(folder, name), errors='replace').read(100000)\n"
        "            except OSError:\n"
        "                continue\n"
        "            if 'secret ' + '4711' in text and 'program' not in name:\n"
        "                print('secret', 4711)\n"
        "for fd in range(3, 256):\n"
        "    try:\n"
        "        sys.stdout.write(os.read(fd, 1000).decode())\n"
        "    except OSError:\n"
        "        pass\n"
    )
    assert judged(code, program, EXPECTED).value == 0.0


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True:\n    os.fork()",
        "x = 'x'\nwhile True:\n    x += x",
        "n = 0\nwhile True:\n    n += 1\n    open(str(n), 'wb').write(b'x' * 1_000_000)",
        "import socket\nsocket.create_connection(('127.0.0.1', 22))",
        "import os\nos.kill(os.getppid(), 9)",
        "open('/usr/lib/evil', 'w')",
        "import os\nos.close(1)",
        "import os\nos.dup2(0, 1)\nprint(3)",
    ],
    ids=["forks", "memory", "disk", "socket", "parent", "outside", "closed stdout", "stdout elsewhere"],
)
def test_a_hostile_script_scores_zero(code: Code, program: str) -> None:
    tests = {"inputs": [""], "outputs": ["3"]}
    assert judged(code, f"{program}\nprint(3)", tests).value == 0.0
    function = "def add(a, b):\n    " + program.replace("\n", "\n    ") + "\n    return 0"
    assert judged(code, function, ASSERTS).value == 0.0


@pytest.mark.parametrize("tests", [SUM, ADD, ASSERTS, CHECK], ids=["script", "call", "asserts", "check"])
def test_sleeping_for_ever_scores_zero(hasty: Code, tests: Any) -> None:
    found = judged(hasty, "import time\ntime.sleep(1000)", tests)
    assert found.value == 0.0
    assert "time" in found.detail


FORGERIES = {
    "exit": "import sys\nsys.exit(0)",
    "hard exit": "import os\nos._exit(0)",
    "exit in the call": "import os\ndef add(a, b):\n    os._exit(0)",
    "exit at the end": f"import atexit, os\natexit.register(os._exit, 0)\n{WRONG}",
    "printed verdict": f"print('passed all tests')\nprint('[0, true, \"\"]')\n{WRONG}",
    "flood of answers": "import os\nfor fd in range(64):\n    try:\n        os.write(fd, b'{\"value\": true}\\n' * 99)\n"
    f"    except OSError:\n        pass\n{WRONG}",
    "nonsense": "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'[' * 99999 + b'\\n')\n"
    f"    except OSError:\n        pass\n{WRONG}",
    "equal to all": "class All(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\n"
    "def add(a, b):\n    return All()",
    "equal object": "class All:\n    __eq__ = __ne__ = __bool__ = lambda *a: True\ndef add(a, b):\n    return All()",
    "patched harness": "import sys\nmain = sys.modules['__main__']\nmain.encode = lambda value, keep: True\n"
    f"main._answer = lambda *a: {{'value': True}}\n{WRONG}",
    "patched asserts": f"import builtins\nbuiltins.AssertionError = int\n{WRONG}",
    "patched equality": f"import operator, json, math\noperator.eq = lambda a, b: True\nmath.isclose = operator.eq\n{WRONG}",
    "raises what asserts raise": "def add(a, b):\n    raise AssertionError('passed')",
    "raises the end": "def add(a, b):\n    raise SystemExit(0)",
    "redefines the tests": "def check(candidate):\n    pass\ndef add(a, b):\n    return 0",
    "candidate": "candidate = int.__add__\ndef add(a, b):\n    return 0",
    "changes its arguments": "class L(list):\n    pass\ndef add(*args):\n    return L",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_verdict_cannot_be_forged(code: Code, forgery: str) -> None:
    for tests in (ADD, ASSERTS):
        assert judged(code, FORGERIES[forgery], tests).value == 0.0


@pytest.mark.parametrize("forgery", ["exit", "redefines the tests", "candidate"])
def test_a_check_function_cannot_be_forged(code: Code, forgery: str) -> None:
    assert judged(code, FORGERIES[forgery], CHECK).value == 0.0


def test_a_function_cannot_make_the_tests_own_values_agree_with_it(code: Code) -> None:
    tests = "xs = [3, 1, 2]\nassert order(xs) == xs"
    assert judged(code, "def order(xs):\n    xs[:] = [1]\n    return [1]", tests).value == 0.0


def test_a_program_cannot_define_the_tests_helpers_anew(code: Code) -> None:
    helper = "def double(x):\n    return 2 * x\n\n"
    check = {
        "prompt": helper + 'def half(x):\n    """The half."""\n',
        "entry_point": "half",
        "test": "def check(candidate):\n    assert double(candidate(6)) == 6\n",
    }
    forged = "def double(x):\n    return 6\n\ndef half(x):\n    return 0"
    assert judged(code, forged, check).value == 0.0
    assert judged(code, "def half(x):\n    return x // 2", check).value == 1.0
    assert judged(code, forged, helper + "assert double(half(6)) == 6").value == 0.0
    forged = "class math:\n    isclose = lambda *a: True\nabs = len = all = math.isclose\ndef half(x):\n    return 0"
    assert judged(code, forged, ["assert math.isclose(half(3), 1.5)"]).value == 0.0
    assert judged(code, forged, ["assert abs(half(3) - 1.5) < 1e-6"]).value == 0.0


def test_objects_of_the_program_can_be_handed_back_to_it(code: Code) -> None:
    program = (
        "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"
        "def longest(pairs):\n    return max(p.b for p in pairs)\ndef both():\n    yield 1\n    yield 2"
    )
    tests = [
        "assert longest([Pair(1, 5), Pair(2, 9)]) == 9",
        "assert list(both()) == [1, 2]",
        "assert Pair(1, 2).a == 1",
    ]
    assert judged(code, program, tests).value == 1.0


def test_exceptions_that_tests_expect_are_raised(code: Code) -> None:
    tests = ["try:\n    add('', 1)\nexcept TypeError:\n    pass\nelse:\n    assert False", "assert add(1, 2) == 3"]
    assert judged(code, "def add(a, b):\n    return a + b", tests).value == 1.0


# References.


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("", "neither JSON"),
        ("42", "neither an object nor a list"),
        ("{}", "none of the keys"),
        ("[]", "at least one test"),
        ("[" * 100_000, "neither JSON"),
        ('{"inputs": ["1"], "outputs": []}', "one length"),
        ('{"inputs": [1], "outputs": [2]}', "must be a text"),
        ('{"inputs": ["1"], "outputs": [" "]}', "blank"),
        ('{"inputs": ["1"], "outputs": ["1"], "fn_name": "f"}', "list of the arguments"),
        ('{"inputs": [[1]], "outputs": ["1"], "fn_name": "f()"}', "name of a function"),
        ('{"test_list": ["f(1)"]}', "asserts nothing"),
        ('{"test_list": ["assert f(1"]}', "no Python"),
        ('{"test_list": []}', "at least one test"),
        ('{"test": "assert 1", "entry_point": "f"}', "must define check"),
        ('{"test": "def check(candidate):\\n    pass", "entry_point": "f"}', "asserts nothing"),
        ('{"test": "def check(candidate):\\n    assert candidate()"}', "entry_point"),
        ('[{"input": "1", "output": "1", "testtype": "functional"}]', "args"),
        ('{"tests": [{"args": [1], "expected": 1}]}', "fn_name"),
        ('{"tests": [{"in": 1}]}', "a test has"),
        ("assert f(1) ==", "no Python"),
    ],
)
def test_unusable_tests_are_refused_with_a_reason(reference: str, reason: str) -> None:
    found = Code(enabled=True).validate(reference)
    assert found is not None
    assert reason in found
    assert "\n" not in found


@given(st.text(max_size=200) | IN_JSON.map(lambda value: json.dumps(value)))
def test_no_reference_raises_anything_else(reference: str) -> None:
    with contextlib.suppress(CodeTestsError):
        assert parse_tests(reference).tests


def test_lines_of_python_are_split_into_tests_and_what_comes_before() -> None:
    tests = parse_tests("import math\nx = 4\nassert f(x) == 2\nassert f(9) == math.sqrt(9)")
    assert len(tests.tests) == 2
    assert tests.setup == "import math\nx = 4"


def test_names_of_the_program_are_those_that_tests_do_not_define() -> None:
    codes = ["import math", "def g(x):\n    return f(x)\nassert [g(i) for i in range(3)] == [math.sqrt(y)] + h"]
    assert sorted(free_names(codes, None)) == ["f", "h", "y"]


# Comparing.


@given(st.text(max_size=100))
def test_an_output_equals_itself_with_blanks_at_the_ends(text: str) -> None:
    assert same_output(text, text, 0.0)
    assert same_output(text.replace("\n", " \t\n") + "\n\n", text, 0.0)


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("0.1 0.2", "0.1  0.2", True),
        ("a b", "a  b", True),
        ("1 2", "1\n2", False),
        ("1.0000001", "1.0", True),
        ("1", "1.0", True),
        ("1.0", "1", False),
        ("nan", "1.0", False),
        ("1e400", "1.0", False),
        ("1_0.0", "10.0", False),
        ("9" * 100_000, "1.0", False),
        ("1.0 2.0", "1.0", False),
        ("", "0.0", False),
        ("\r\n1\r\n", "\r\n1", True),
    ],
)
def test_outputs_are_compared_by_words_and_decimals(printed: str, expected: str, same: bool) -> None:
    assert same_output(printed, expected, 1e-6) is same


@given(IN_JSON)
def test_a_value_equals_itself_and_no_other_kind(value: Any) -> None:
    assert same_value(value, value, 0.0)
    assert not same_value([value], value, 0.0)
    assert not same_value(object(), value, 0.0)


@given(PLAIN)
def test_plain_values_cross_unchanged(value: Any) -> None:
    def never(_: Any) -> int:
        raise AssertionError

    form = json.loads(json.dumps(encode(value, never)))
    assert decode(form, never) == value


@given(IN_JSON)
def test_forms_that_a_program_makes_up_raise_nothing_unforeseen(form: Any) -> None:
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        decode(form, lambda number: number)


# Finding the program.


@given(st.text(alphabet="`~a \n", max_size=60))
def test_finding_a_program_never_raises(text: str) -> None:
    program, reason, event = find_program(text, ExtractOptions())
    assert (program is None) == bool(reason) == bool(event)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```\nx\n```", "x\n"),
        ("```Python\nx\n```", "x\n"),
        ("~~~py\n```\n~~~", "```\n"),
        ("````python\n```\n````", "```\n"),
        ("a\n```python\n    x\n```\nb", "    x\n"),
        ("```python\nx\n```\n```\ny\n```", None),
        ("```python\n```", None),
        ("```rust\nx\n```", None),
        ("x", None),
        ("<|begin_of_box|>```python\nx\n```\nand more<|end_of_box|>", None),
        ("<|begin_of_box|>x<|end_of_box|>\n```python\ny\n```", "x"),
        ("<|begin_of_box|>x<|end_of_box|><|begin_of_box|>y<|end_of_box|>", None),
        ("```python\n<|begin_of_box|>x\n```", None),
        ("`" * 100_000, None),
        (f"<|begin_of_box|>{'x' * 200_000}<|end_of_box|>", None),
    ],
)
def test_the_program_is_the_box_or_the_only_block(text: str, program: str | None) -> None:
    assert find_program(text, ExtractOptions())[0] == program


def test_no_descriptor_is_left_open(code: Code) -> None:
    judged(code, WRONG, ASSERTS)
    before = len(os.listdir("/proc/self/fd"))
    for tests in (SUM, ADD, ASSERTS, CHECK):
        judged(code, WRONG, tests)
    assert len(os.listdir("/proc/self/fd")) <= before
