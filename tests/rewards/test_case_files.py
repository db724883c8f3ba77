"""Reading files of cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlcs.errors import DataError
from rlcs.response_format import render_response
from rlcs.rewards.case_files import builtin_cases, load_cases
from rlcs.types import Score


def test_a_bare_answer_is_boxed_and_a_response_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    whole = "<think>x</think>nothing"
    file.write_text(
        '{"response": "7", "answer": "7", "correct": true, "unit": "m"}\n\n'
        f'{{"response": "{whole}", "answer": "7", "value": 0.5}}\n'
    )
    bare, full = load_cases(file)
    assert (bare.completion, bare.columns, bare.line) == (render_response("", "7"), {"unit": "m"}, 1)
    assert (full.completion, full.line) == (whole, 3)
    assert bare.is_met_by(Score(1.0)) and not bare.is_met_by(Score(0.5)) and not bare.is_met_by(None)
    assert full.is_met_by(Score(0.5)) and not full.is_met_by(Score(1.0))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: no JSON"),
        ("[]", "is a JSON object"),
        ('{"response": "7", "correct": true}', "must be texts"),
        ('{"response": "7", "answer": "7"}', "say what is expected"),
        ('{"response": "7", "answer": "7", "correct": 1}', "true or false"),
        ('{"response": "7", "answer": "7", "value": "1"}', "must be a number"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        load_cases(file)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.jsonl"):
        load_cases(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="no built-in cases for 'nonsense'"):
        builtin_cases("nonsense")
