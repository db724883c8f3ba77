"""What a model, a dataset or an error says is shown by a terminal as it is, and never obeyed."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from rlcs.dashboard.terminal import show_status
from rlcs.grading.display import tier_table
from rlcs.progress import Display, evaluation_table
from rlcs.runlog import EvaluationRow, append_lines
from rlcs.terminal_text import PrintableFormatter, printable, printable_lines

HOSTILE = "a\x1b]0;title\x07\x1b[2J[/bold] [link=x]b\ud800\r"


def shown(show: Callable[[Console], object], *, is_terminal: bool) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    show(Console(file=stream, force_terminal=is_terminal, width=80, no_color=True, highlight=False))
    stream.seek(0)
    return stream.read()


@given(st.text())
def test_text_becomes_one_printable_line_and_plain_text_stays(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()
    assert printable(printable(text)) == printable(text)
    assert printable_lines(f"{text}\n{text}").split("\n").count(printable(text)) >= 2 or "\n" in text
    if text.isprintable():
        assert printable(text) == text


def test_escapes_are_written_out() -> None:
    assert printable("a\x1b\n\ud800é") == "a\\x1b\\n\\ud800é"
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_display_shows_brackets_and_control_characters_as_they_are(is_terminal: bool) -> None:
    def show(console: Console) -> None:
        display = Display(console)
        display.stage(HOSTILE)
        display.note(HOSTILE)
        rows = [EvaluationRow(0, HOSTILE, tier, 1, 1, 1, 0.5, 0.5, 0.5, 1.0) for tier in (0, 1)]
        display.evaluation(rows)

    text = shown(show, is_terminal=is_terminal)
    assert text.count("\\x1b]0;title\\x07\\x1b[2J[/bold] [link=x]b\\ud800\\r") >= 2
    assert "\x1b]" not in text and "\x07" not in text and "\x1b[2J" not in text


def test_a_line_with_a_command_is_not_broken() -> None:
    command = f"rlcs train --resume {'runs/' * 40}mine"
    for is_terminal in (True, False):
        assert command in shown(lambda console: Display(console).stage(command), is_terminal=is_terminal)


def test_tables_take_no_domain_for_markup() -> None:
    grades = tier_table([HOSTILE, "b"], np.zeros(2, dtype=np.int8), {"pass": np.zeros(2)})
    rows = [EvaluationRow(0, HOSTILE, None, 1, 1, 1, 0.5, 0.5, 0.5, 1.0)]
    for table in (grades, evaluation_table(rows, None)):
        assert isinstance(table, Table)
        text = shown(lambda console, table=table: console.print(table), is_terminal=True)  # type: ignore[misc]
        assert "[/bold]" in text and "\x1b]" not in text and "\x1b[2J" not in text


def test_the_status_of_a_run_shows_a_fault_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    append_lines(tmp_path / "faults.jsonl", [{"step": 1, "who": "engine-0", "reason": "a\x1b[2J[/bold]"}])
    text = shown(lambda console: show_status(tmp_path, watch=False, console=console), is_terminal=True)
    assert "a\\x1b[2J[/bold]" in text and "\x1b[2J" not in text


def test_a_record_of_the_log_is_printable() -> None:
    record = logging.LogRecord("rlcs", logging.WARNING, "x", 1, "bad %s", ("\x1b[2J",), None)
    assert PrintableFormatter("%(message)s").format(record) == "bad \\x1b[2J"
