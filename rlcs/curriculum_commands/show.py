"""Tables, sentences and JSON of `rlcs curriculum`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlcs.curriculum_commands.history import History, load_history
from rlcs.curriculum_commands.overview import Cell, Overview, overview
from rlcs.curriculum_commands.prompt import PromptReport, explain_prompt
from rlcs.json_text import finite
from rlcs.terminal_text import printable, printable_lines
from rlcs.types import TIER_NAMES

_MANY_CELLS = 100
_LATEST_DRAWS = 20


def show_curriculum(run_dir: Path, *, as_json: bool, prompt: str | None = None) -> None:
    """Print what a run's curriculum did, or why one prompt was drawn as often as it was.

    Raises:
        CheckpointError: `run_dir` is no run, or no iteration was recorded.
        DataError: no id begins with `prompt`, or several do.
    """
    history = load_history(run_dir)
    console = _console()
    if prompt is not None:
        report = explain_prompt(history, prompt)
        if as_json:
            print(json.dumps(asdict(report) | {"checkpoint": history.checkpoint_step, "notes": history.notes}))
        else:
            _print_prompt(console, history, report)
        return
    table = overview(history)
    if as_json:
        print(json.dumps(_as_dict(history, table)))
    else:
        _print_overview(console, history, table)


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = 120
    return console


def _as_dict(history: History, table: Overview) -> dict[str, Any]:
    head = {
        "run": str(history.run_dir),
        "kind": history.config.curriculum.kind,
        "iterations": history.iterations,
        "checkpoint": history.checkpoint_step,
        "notes": history.notes,
    }
    return head | asdict(table) | {"metrics": _curriculum_metrics(history)}


def _curriculum_metrics(history: History) -> dict[str, float]:
    return {name: value for name, value in history.metrics.items() if name.startswith("curriculum/")}


def _print_overview(console: Console, history: History, table: Overview) -> None:
    step = f", beliefs as of iteration {history.checkpoint_step}" if history.checkpoint_step is not None else ""
    console.print(
        f"{history.run_dir}: curriculum {history.config.curriculum.kind!r}, {history.iterations:,} recorded iterations, "
        f"{table.all.groups:,} groups of {table.all.distinct:,} of {table.all.prompts:,} prompts{step}",
        markup=False,
    )
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("domain", "tier"):
        grid.add_column(name, no_wrap=True)
    for name in ("prompts", "drawn", "available", "pass rate then", "now", "useful", "kept"):
        grid.add_column(name, justify="right")
    if len(table.cells) <= _MANY_CELLS:
        for total in table.domains:
            own = [cell for cell in table.cells if cell.domain == total.domain]
            for cell in own:
                grid.add_row(*_cells(cell, _tier(cell)))
            if len(own) > 1:
                grid.add_row(*_cells(total, "all"), style="bold")
            grid.add_section()
    else:
        for total in table.domains:
            grid.add_row(*_cells(total, "all"))
    if len(table.domains) > 1:
        for cell in table.tiers:
            grid.add_row(*_cells(cell, _tier(cell)))
        grid.add_row(*_cells(table.all, "all"), style="bold")
    console.print(grid)
    now = "what the curriculum predicts for them now" if table.is_predicted else "the last observation of each"
    console.print(
        "drawn, available: shares of all groups and of all training prompts. Pass rate then: first observation of each "
        f"prompt drawn; now: {now}. Useful: groups not all alike; kept: groups learned from.",
        markup=False,
    )
    known = (
        ("curriculum/expansion", "drawn x{:.2f} of what the update needs"),
        ("curriculum/predicted_useful", "{:.0%} of the next groups expected to be useful"),
        ("curriculum/brier", "squared error of the predictions {:.3f}"),
        ("curriculum/calibration_error", "calibration error {:.3f}"),
        ("curriculum/rolled_out", "{:.0%} of the prompts rolled out"),
    )
    found = [(form, finite(history.metrics.get(name))) for name, form in known]
    latest = [form.format(value) for form, value in found if value is not None]
    if latest:
        console.print(f"iteration {history.metrics.get('step')}: {'; '.join(latest)}", markup=False)
    _print_notes(console, history)


def _tier(cell: Cell) -> str:
    return "ungraded" if cell.tier is None else TIER_NAMES[cell.tier]


def _cells(cell: Cell, tier: str) -> tuple[Text | str, ...]:
    shares = (cell.share_drawn, cell.share_available, cell.first_pass_rate, cell.pass_rate, cell.useful, cell.kept)
    return (
        Text(printable(cell.domain)),
        tier,
        f"{cell.prompts:,}",
        *("-" if x is None else f"{100 * x:.1f} %" for x in shares),
    )


def _print_prompt(console: Console, history: History, report: PromptReport) -> None:
    tier = "ungraded" if report.tier is None else f"tier {report.tier} ({TIER_NAMES[report.tier]})"
    console.print(
        f"prompt {printable(report.prompt_id)}, domain {printable(report.domain)}, {tier}", markup=False, style="bold"
    )
    console.print(printable_lines(report.text or "(its text was not kept: it was never rolled out)"), markup=False)
    console.print()
    for sentence in report.sentences:
        console.print(f"- {printable(sentence)}", markup=False)
    if report.draws:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("iteration", "pass rate", "signal", "learned from"):
            grid.add_column(name, justify="right")
        for draw in report.draws[-_LATEST_DRAWS:]:
            marks = ("yes" if mark else "no" for mark in (draw.useful, draw.kept))
            grid.add_row(str(draw.step), f"{draw.pass_rate:.0%}", *marks)
        console.print(grid)
        if len(report.draws) > _LATEST_DRAWS:
            console.print(f"(the last {_LATEST_DRAWS} of {len(report.draws)} draws)")
    if report.numbers:
        step = f"as of iteration {history.checkpoint_step}"
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in report.numbers.items())
        console.print(f"{step}: {numbers}", markup=False)
    _print_notes(console, history)


def _print_notes(console: Console, history: History) -> None:
    for note in history.notes:
        console.print(f"note: {printable(note)}", markup=False)
