"""`rlcs score`, `rlcs reward-test` and `rlcs reward-new`: what they print, what they refuse, and what they never do."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rlcs.errors import ConfigError, DataError, RLCSError
from rlcs.response_format import render_response
from rlcs.reward_commands.choice import RewardChoice, parse_options
from rlcs.reward_commands.score import score_file
from rlcs.reward_commands.skeleton import class_name, write_skeleton
from rlcs.rewards.case_files import builtin_cases, load_cases
from rlcs.rewards.loading import BUILTIN_REWARDS

ROOT = Path(__file__).resolve().parent.parent
RunCLI = Callable[..., Any]

# A reward that shows what it was given.
PROBE = """
import json
from rlcs.rewards import Reward
from rlcs.types import Score

class Probe(Reward):
    def __init__(self, bonus=0.0, timeout_s=9.0):
        self.bonus, self.timeout_s = bonus, timeout_s

    def validate(self, answer, **columns):
        return "the reference is bad" if answer == "bad" else None

    def score(self, completion, answer, **columns):
        if completion == "skip":
            return None
        if completion == "raise":
            raise KeyError("gold")
        columns.update(answer=answer, timeout_s=self.timeout_s)
        return Score(min(1.0, 0.5 + self.bonus), correct=completion == answer, detail=json.dumps(columns))

class NeedsAnswer(Probe):
    def validate(self, answer, **columns):
        return None if answer else "the reference answer is empty"

def length(prompts, completions, **columns):
    return [min(1.0, len(c[0]["content"]) / 10) for c in completions]
"""


@pytest.fixture
def probe(tmp_path: Path) -> str:
    """The path of a file with rewards to try."""
    path = tmp_path / "probe.py"
    path.write_text(PROBE)
    return str(path)


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def score(
    probe: str, data: Path | str, capsys: pytest.CaptureFixture[str], *, skip: bool = False, name: str = "Probe"
) -> list[dict[str, Any]]:
    """The lines that `rlcs score --json` prints."""
    score_file(RewardChoice(f"{probe}:{name}"), str(data), as_json=True, skip_bad_rows=skip)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(result: Any, *words: str) -> None:
    """Exit code 2 and exactly one line of error that holds the words."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("rlcs: error:")]
    assert result.code == 2 and len(errors) == 1 and "Traceback" not in result.stderr, result.stderr
    for word in words:
        assert word in errors[0], errors[0]


# score


def test_a_json_line_a_row_and_nothing_else_on_standard_output(run_cli: RunCLI, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "2+2?", "response": render_response("hm", "4"), "answer": "4"},
        {"id": 7, "prompt": "2+2?", "response": render_response("hm", "5"), "answer": 4},
        {"prompt": [{"role": "user", "content": "2+2?"}], "response": "4", "answer": "4"},
    ]
    result = run_cli("score", "--reward", "math", "--data", write_rows(tmp_path / "rows.jsonl", rows), "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.code == 0
    assert [set(line) for line in lines] == [{"id", "value", "correct", "detail"}] * 3
    assert [line["id"] for line in lines] == ["a", 7, 2]
    assert [line["value"] for line in lines] == [1.0, 0.0, 0.0]
    assert [line["correct"] for line in lines] == [True, False, False]
    assert "no box" in lines[2]["detail"]


def test_the_table_shows_scores_reasons_and_a_summary(run_cli: RunCLI, tmp_path: Path) -> None:
    rows = [
        {"id": "first", "prompt": "2+2?", "response": render_response("", "4"), "answer": "4"},
        {"id": "second", "prompt": "2+2?", "response": "[bold]4[/]", "answer": "4"},
    ]
    result = run_cli("score", "--reward", "math", "--data", write_rows(tmp_path / "rows.jsonl", rows))
    assert result.code == 0
    for words in (
        "first",
        "1.0000",
        "yes",
        "second",
        "0.0000",
        "no box",
        "2 rows scored by math, mean 0.5000",
        "1 of 2",
    ):
        assert words in result.stdout


def test_fallbacks_are_read_if_asked_for(run_cli: RunCLI, tmp_path: Path) -> None:
    rows = [{"prompt": "2+2?", "response": r"So \boxed{4}", "answer": "4"}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    for more, value in ((), 0.0), (("--fallback", "boxed"), 1.0):
        result = run_cli("score", "--reward", "counting", "--data", data, "--json", *more)
        assert json.loads(result.stdout)["value"] == value


def test_all_columns_reach_the_reward(probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "id": 1, "prompt": "?", "response": "r", "answer": [[1, 2, 3, 4]], "width": 640, "images": ["a.png"],
        "solution": "s", "domain": "grounding", "tier": "hard", "reference": None,
    }  # fmt: skip
    (line,) = score(probe, write_rows(tmp_path / "rows.jsonl", [row]), capsys)
    columns = json.loads(line["detail"])
    assert columns["answer"] == "[[1, 2, 3, 4]]"
    assert columns["messages"] == [{"role": "user", "content": "?"}]
    assert (columns["width"], columns["images"], columns["solution"]) == (640, ["a.png"], "s")
    assert (columns["domain"], columns["tier"], columns["reference"], columns["id"]) == ("grounding", 3, None, 1)
    assert "response" not in columns


def test_options_and_the_time_limit_reach_the_constructor(run_cli: RunCLI, probe: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"response": "r", "answer": "a"}])
    arguments = ("score", "--reward", f"{probe}:Probe", "--data", data, "--json")
    line = json.loads(run_cli(*arguments, "--option", "bonus=0.25", "--timeout-s", "3").stdout)
    assert line["value"] == 0.75 and json.loads(line["detail"])["timeout_s"] == 3
    refused(run_cli(*arguments, "--option", "bonus"), "key=value")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"options": {"bonsu": 1}}, "no option 'bonsu': did you mean 'bonus'"),
        ({"fallbacks": ["boxed"]}, "no option 'extract'"),
        ({"judge_url": "http://127.0.0.1:9", "judge_model": "m"}, "asks no judge"),
        ({"judge_url": "http://127.0.0.1:9"}, "--judge-model"),
        ({"judge_model": "m"}, "--judge-url"),
    ],
)
def test_what_a_reward_cannot_take_is_refused(probe: str, settings: dict[str, Any], words: str) -> None:
    choice = RewardChoice(f"{probe}:Probe", **settings)
    with pytest.raises(RLCSError, match=words) as caught, choice.load():
        pass
    assert "\n" not in str(caught.value)


def test_option_values_are_yaml() -> None:
    assert parse_options(["a=1", "b=true", "c=[x, 2]", "d=", "e=x=y", "f={k: 0.5}"]) == {
        "a": 1, "b": True, "c": ["x", 2], "d": None, "e": "x=y", "f": {"k": 0.5},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="--option 'g=\\[': not valid YAML"):
        parse_options(["g=["])


def test_a_score_of_none_has_a_null_value(probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"response": "skip", "answer": "a"}])
    assert score(probe, data, capsys) == [{"id": 0, "value": None, "correct": None, "detail": ""}]


def test_a_plain_function_is_a_reward_too(probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": "?", "response": "abcde"}])
    (line,) = score(probe, data, capsys, name="length")
    assert (line["value"], line["correct"]) == (0.5, None)


@pytest.mark.parametrize("kind", ["json", "csv", "parquet", "jsonl"])
def test_other_kinds_of_files(probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    rows = [{"id": f"r{i}", "prompt": "?", "response": f"{i}", "answer": "1", "extra": "x"} for i in range(3)]
    path = tmp_path / f"rows.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        write_rows(path, rows)
    lines = score(probe, path, capsys)
    assert [(line["id"], line["correct"]) for line in lines] == [("r0", False), ("r1", True), ("r2", False)]
    assert json.loads(lines[0]["detail"])["extra"] == "x"


BAD_ROWS = [
    ("{broken", "not JSON"),
    ("[1]", "not a JSON object"),
    ({"prompt": "?", "answer": "1"}, "response is missing"),
    ({"response": 5, "answer": "1"}, "response must be text"),
    ({"response": "x", "answer": "bad"}, "the reference is bad"),
    ({"response": "x", "answer": "1", "tier": 9}, "tier"),
    ({"prompt": [{"role": "robot", "content": ""}], "response": "x", "answer": "1"}, "role"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS, ids=[reason for _, reason in BAD_ROWS])
def test_a_bad_row_is_named_and_those_before_it_are_scored(
    probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, reason: str
) -> None:
    good = {"response": "x", "answer": "1"}
    data = write_rows(tmp_path / "rows.jsonl", [good, "", row, good])
    with pytest.raises(DataError) as caught:
        score(probe, data, capsys)
    message = str(caught.value)
    assert "rows.jsonl, line 3" in message and reason in message and "\n" not in message
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [0]
    # Or it is skipped, and the others keep their numbers.
    score_file(RewardChoice(f"{probe}:Probe"), str(data), as_json=True, skip_bad_rows=True)
    out, err = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == [0, 2]
    assert err.count("\n") == 1 and "line 3" in err


def test_a_bad_row_ends_the_command_with_one_line_and_exit_code_2(run_cli: RunCLI, probe: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"response": "x", "answer": "1"}, {"response": "x"}])
    arguments = ("score", "--reward", f"{probe}:NeedsAnswer", "--data", data, "--json")
    result = run_cli(*arguments)
    refused(result, "line 2", "answer is missing")
    assert json.loads(result.stdout)["id"] == 0
    assert run_cli(*arguments, "--skip-bad-rows").code == 0


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("none.jsonl", None, "there is no file"),
        ("empty.jsonl", "", "has no rows"),
        ("rows.txt", "x", "must end in .jsonl"),
        ("rows.json", "{}", "must hold a JSON array"),
        ("rows.json", "[1", "is not JSON"),
        ("bad.jsonl", "x\ny\n", "none of its 2 rows can be used"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, reason: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        score(probe, tmp_path / name, capsys, skip=True)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_reward_that_raises_is_named_with_the_row(run_cli: RunCLI, probe: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"response": "x"}, {"response": "raise"}])
    refused(run_cli("score", "--reward", f"{probe}:Probe", "--data", data), "probe", "gold", "line 2")


def test_half_a_surrogate_pair_and_control_characters_do_no_harm(run_cli: RunCLI, tmp_path: Path) -> None:
    row = '{"id": "\\u001b[31m", "response": "<|begin_of_box|>\\ud800\\u001b[2J<|end_of_box|>", "answer": "1"}'
    data = write_rows(tmp_path / "rows.jsonl", [row])
    for more in ((), ("--json",)):
        result = run_cli("score", "--reward", "counting", "--data", data, *more, env={"LC_ALL": "C"})
        assert result.code == 0 and "\x1b" not in result.stdout


def start(probe: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlcs.cli", "score", "--reward", f"{probe}:Probe", "--data", "-", "--json", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_interrupt_leaves_whole_lines_and_no_traceback(probe: str) -> None:
    process = start(probe)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(b'{"response": "x", "answer": "x"}\n' * 64)  # a batch
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(64)]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130  # while standard input is still open
    rest, stderr = process.communicate()
    assert not rest and [json.loads(line)["id"] for line in lines] == list(range(64))
    assert b"Traceback" not in stderr and b"64 rows" in stderr


def test_a_reader_that_goes_away_is_no_traceback(probe: str) -> None:
    process = start(probe)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    _, stderr = process.communicate(b'{"response": "x", "answer": "x"}\n' * 500, timeout=30)
    assert b"Traceback" not in stderr


MEASURE = """
import sys
from rlcs.cli import main
sys.argv = ["rlcs", *sys.argv[1:]]
try:
    main()
finally:
    # Not ru_maxrss, which begins with what the parent of the process had.
    with open("/proc/self/status") as status:
        print(*[line.split()[1] for line in status if line.startswith("VmHWM")], file=sys.stderr)
"""


@pytest.mark.parametrize("form", ["json", "table"])
def test_memory_is_flat_in_the_number_of_rows(probe: str, form: str) -> None:
    row = json.dumps({"prompt": "p" * 2000, "response": "r" * 2000, "answer": "a"}).encode() + b"\n"
    peaks = []
    for count in (200, 5_000) if form == "json" else (200, 2_000):
        command = [sys.executable, "-c", MEASURE, "score", "--reward", f"{probe}:length", "--data", "-"]
        result = subprocess.run(
            command + ["--json"] * (form == "json"),
            cwd=ROOT,
            input=row * count,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        peaks.append(int(result.stderr.split()[-1]))
    assert peaks[1] - peaks[0] < 8 * 1024, f"peaks in KiB: {peaks}"


HEAVY = ("torch", "vllm", "ray", "transformers", "trl", "datasets", "sympy")

LOADED = f"""
import sys
from rlcs.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def test_score_starts_without_heavy_libraries(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"response": render_response("", "1/2"), "answer": "0.5"}])
    result = subprocess.run(
        [sys.executable, "-c", LOADED, "score", "--reward", "math", "--data", str(data), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr.splitlines()[-1] == "[]"
    assert json.loads(result.stdout)["correct"] is True


def test_no_built_in_reward_imports_heavy_libraries_to_be_loaded() -> None:
    code = (
        "import sys, inspect\n"
        "from rlcs.plugins import load_object\n"
        "from rlcs.errors import RewardError\n"
        "from rlcs.rewards.loading import BUILTIN_REWARDS, load_reward\n"
        "for name in BUILTIN_REWARDS:\n"
        "    load_object(name, group='rlcs.rewards', builtins=BUILTIN_REWARDS, what='reward', error=RewardError)\n"
        f"    print(name, *[m for m in {HEAVY} if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split("\n") == [*BUILTIN_REWARDS, ""]


NEED_OPTIONS = {"code": {"enabled": True}}
WITH_CASES = [name for name in BUILTIN_REWARDS if (ROOT / "rewards" / "cases" / f"{name}.jsonl").is_file()]


@pytest.mark.parametrize("name", WITH_CASES)
def test_every_domain_scores_its_cases_from_a_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case for case in builtin_cases(name) if case.valid][:10]
    rows = [{**case.columns, "response": case.completion, "answer": case.answer} for case in cases]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    score_file(RewardChoice(name, NEED_OPTIONS.get(name, {})), str(data), as_json=True, skip_bad_rows=False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for case, line in zip(cases, lines, strict=True):
        if case.value is not None:
            assert line["value"] == pytest.approx(case.value, abs=1e-6), case
        if case.correct is not None and line["correct"] is not None:
            assert line["correct"] == case.correct, case


# reward-test


def test_misses_are_shown_with_line_note_and_reason(run_cli: RunCLI, probe: str, tmp_path: Path) -> None:
    cases = write_rows(
        tmp_path / "cases.jsonl",
        [
            {"response": "<think>a</think>", "reference": "<think>a</think>", "expected": True},
            {"response": "<think>b</think>", "answer": "c", "correct": True, "note": "a wrong one"},
            "",
            {"response": "<think>b</think>", "answer": "c", "expected": 0.9, "note": "a value"},
            {"response": "<think>b</think>", "answer": "c", "value": 0.5},
        ],
    )
    result = run_cli("reward-test", f"{probe}:Probe", cases)
    assert result.code == 1
    assert "line 2: a wrong one" in result.stdout and "line 4: a value" in result.stdout
    assert "expected right, got wrong, value 0.5" in result.stdout and "expected value 0.9" in result.stdout
    assert result.stdout.splitlines()[-1] == "probe: 2 of 4 cases met, 2 missed"


def test_a_case_that_a_reward_raises_on_is_a_miss(run_cli: RunCLI, probe: str, tmp_path: Path) -> None:
    path = tmp_path / "raises.py"
    path.write_text("def f(prompts, completions, **columns):\n    raise ValueError('no gold')\n")
    cases = write_rows(tmp_path / "cases.jsonl", [{"response": "x", "reference": "x", "expected": True}])
    result = run_cli("reward-test", f"{path}:f", cases)
    assert result.code == 1 and "got an error" in result.stdout and "no gold" in result.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["line 1", "no JSON"]),
        ('{"response": "x", "reference": "x"}', ["line 1", "expected"]),
        ('{"response": "x", "reference": "x", "expected": "yes"}', ["line 1", "`expected` must be"]),
        ("", ["holds no cases"]),
    ],
)
def test_a_bad_cases_file_is_refused(run_cli: RunCLI, probe: str, tmp_path: Path, line: str, words: list[str]) -> None:
    cases = write_rows(tmp_path / "cases.jsonl", [line])
    refused(run_cli("reward-test", f"{probe}:Probe", cases), *words)


def test_a_reward_without_cases_asks_for_them(run_cli: RunCLI, probe: str) -> None:
    refused(run_cli("reward-test", f"{probe}:Probe"), "which cases?")
    refused(run_cli("reward-test", "reasoning_gym"), "no built-in cases for 'reasoning_gym'")


def test_a_built_in_reward_is_tested_on_its_own_cases(run_cli: RunCLI) -> None:
    result, count = run_cli("reward-test", "counting"), len(builtin_cases("counting"))
    assert result.code == 0 and result.stdout == f"counting: {count} of {count} cases met\n"


def test_reference_and_expected_are_columns_beside_our_own_names(tmp_path: Path) -> None:
    rows = [{"response": "x", "answer": "y", "correct": True, "reference": "z", "expected": 3}]
    (case,) = load_cases(write_rows(tmp_path / "cases.jsonl", rows))
    assert (case.answer, case.correct, case.columns) == ("y", True, {"reference": "z", "expected": 3})


# reward-new


def test_the_skeleton_meets_its_cases_and_is_clean(run_cli: RunCLI, tmp_path: Path) -> None:
    result = run_cli("reward-new", "close_enough", "--dir", tmp_path / "new")
    code, cases = tmp_path / "new" / "close_enough.py", tmp_path / "new" / "close_enough_cases.jsonl"
    assert result.code == 0 and str(code) in result.stdout
    tested = run_cli("reward-test", "close_enough.py:CloseEnough", cases.name, cwd=tmp_path / "new")
    assert tested.code == 0, tested.stdout + tested.stderr
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--strict"]):
        config = [] if command[0] == "mypy" else ["--config", str(ROOT / "pyproject.toml")]
        checked = subprocess.run(
            [sys.executable, "-m", *command, *config, str(code)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nothing_is_ever_overwritten(run_cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "mine_cases.jsonl").write_text("mine")
    refused(run_cli("reward-new", "mine", "--dir", tmp_path), "exists already")
    assert not (tmp_path / "mine.py").exists() and (tmp_path / "mine_cases.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "9lives", "a-b", "class", "../x", "a b", "é", "__", "math", "ocr", "random"])
def test_names_that_cannot_be_one_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write_skeleton(name, tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_class_names_are_in_camel_case() -> None:
    assert [class_name(name) for name in ("close_enough", "exact", "MyReward")] == ["CloseEnough", "Exact", "MyReward"]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_skeleton("close_enough", tmp_path / "file")
