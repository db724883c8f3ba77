"""What a person sees while a run goes on: a live display in a terminal, a line an iteration elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from rlcs.evaluation import BudgetRow
from rlcs.runlog import EvaluationRow, mean_over_prompts
from rlcs.terminal_text import printable
from rlcs.types import TIER_NAMES

_SHOWN = (
    ("reward/mean", "reward {:.3f}"),
    ("rollout/useful", "useful {:.0%}"),
    ("curriculum/expansion", "drawn x{:.2f}"),
    ("rollout/tokens_per_s", "{:,.0f} tok/s"),
    ("learner/entropy", "entropy {:.2f}"),
)


class Display:
    """Prints stages, progress and tables. Progress bars are drawn only on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = 120  # a file or a pipe has no width of its own
        self._live = self.console.is_terminal
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._started = time.monotonic()
        self._last_line = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_bar()

    def stage(self, text: str) -> None:
        """Say what begins now."""
        self._end_bar()
        self._say(Text.assemble((f"{time.monotonic() - self._started:6.0f} s", "bold cyan"), f"  {printable(text)}"))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something that is no stage."""
        self._say(Text(f"          {printable(text)}"))

    def _say(self, line: Text) -> None:
        # As Text, so that brackets in it are no markup; not wrapped, so that a command in it can be copied.
        self.console.print(line, soft_wrap=True)

    def cold_start(self, step: int, total: int, loss: float) -> None:
        """Show a step of the cold start."""
        self._advance("cold start", step, total, f"loss {loss:.3f}", every_s=20)

    def iteration(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show an iteration that has ended."""
        shown = "  ".join(form.format(metrics[name]) for name, form in _SHOWN if name in metrics)
        self._advance("training", step, total, shown, every_s=0)

    def evaluation(self, before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None = None) -> None:
        """Print held-out accuracy by domain and tier, with the change where there are two evaluations."""
        self._end_bar()
        self.console.print(evaluation_table(before, after))

    def thinking_curve(self, rows: Sequence[BudgetRow]) -> None:
        """Print held-out accuracy by thinking budget."""
        self._end_bar()
        table = Table(title="Held-out accuracy by thinking budget", title_justify="left")
        for name in ("budget", "pass@1", "tokens", "made to answer"):
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(
                str(row.thinking_budget),
                f"{100 * row.pass_at_1:.1f} %",
                f"{row.mean_tokens:.1f}",
                f"{100 * row.forced:.1f} %",
            )
        self.console.print(table)

    def _advance(self, title: str, step: int, total: int, text: str, *, every_s: float) -> None:
        if not self._live:
            if time.monotonic() - self._last_line >= every_s or step == total:
                self._last_line = time.monotonic()
                self._say(Text(f"          {printable(title)} {step}/{total}  {text}"))
                sys.stdout.flush()
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("         [bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._progress.start()
            self._task = self._progress.add_task(escape(printable(title)), total=total, completed=step - 1, text="")
        assert self._task is not None
        self._progress.update(self._task, completed=step, text=text)

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None


def evaluation_table(before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None) -> Table:
    """Held-out results by domain and tier: pass@1 and pass@k, before and after where there are two."""
    k = max((row.k for row in before), default=1)
    table = Table(
        title="Held-out accuracy (pass@1)" if after is not None else "Held-out accuracy", title_justify="left"
    )
    table.add_column("domain", no_wrap=True)
    table.add_column("tier", no_wrap=True)
    table.add_column("prompts", justify="right")
    names = (
        ("before", "after", "change", f"pass@{k} before", f"pass@{k} after")
        if after is not None
        else ("pass@1", f"pass@{k}")
    )
    for name in names:
        table.add_column(name, justify="right")
    later = {(row.domain, row.tier): row for row in after or []}
    domains = dict.fromkeys(row.domain for row in before)
    for domain in domains:
        rows = [row for row in before if row.domain == domain]
        for row in rows:
            tier = "-" if row.tier is None else TIER_NAMES[row.tier]
            table.add_row(Text(printable(domain)), tier, *_cells([row], after, later), end_section=False)
        if len(rows) > 1:
            table.add_row(Text(printable(domain)), "all", *_cells(rows, after, later), style="bold", end_section=True)
    if len(domains) > 1:
        table.add_row("all", "all", *_cells(list(before), after, later), style="bold green")
    return table


def _cells(
    rows: Sequence[EvaluationRow],
    after: Sequence[EvaluationRow] | None,
    later: Mapping[tuple[str, int | None], EvaluationRow],
) -> list[str]:
    prompts = sum(row.num_prompts for row in rows)
    if after is None:
        return [
            str(prompts),
            _percent(mean_over_prompts(rows, "pass_at_1")),
            _percent(mean_over_prompts(rows, "pass_at_k")),
        ]
    afters = [later[(row.domain, row.tier)] for row in rows if (row.domain, row.tier) in later]
    one, two = mean_over_prompts(rows, "pass_at_1"), mean_over_prompts(afters, "pass_at_1")
    return [
        str(prompts),
        _percent(one),
        _percent(two),
        f"{100 * (two - one):+.1f}",
        _percent(mean_over_prompts(rows, "pass_at_k")),
        _percent(mean_over_prompts(afters, "pass_at_k")),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
