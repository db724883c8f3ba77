"""`rlcs score`: what a reward gives the responses of a file.

Rows are read, scored and printed in batches, so that memory stays flat whatever the file's length, and what is printed
before an error or a Ctrl-C stands.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rlcs.errors import DataError
from rlcs.reward_commands.choice import RewardChoice
from rlcs.reward_commands.rows import Sample, read_samples
from rlcs.rewards.loading import LoadedReward
from rlcs.terminal_text import printable
from rlcs.types import Score

_BATCH_ROWS = 64
_MAX_DETAIL = 400
_MAX_ID = 24


@dataclass(slots=True)
class Summary:
    """What was counted."""

    num_scored: int = 0
    num_applicable: int = 0
    """Those that have a value."""
    num_marked: int = 0
    """Those that are right or wrong."""
    num_correct: int = 0
    num_skipped: int = 0
    """Bad rows."""
    total: float = 0.0
    """Sum of the values."""
    events: Counter[str] = field(default_factory=Counter)

    def add(self, score: Score | None) -> None:
        """Count one score."""
        self.num_scored += 1
        if score is None:
            return
        self.num_applicable += 1
        self.total += score.value
        if score.correct is not None:
            self.num_marked += 1
            self.num_correct += score.correct

    def text(self, reward: str, seconds: float) -> str:
        """The counts in one line."""
        parts = [f"{self.num_scored} rows scored by {reward}"]
        if self.num_applicable:
            parts.append(f"mean {self.total / self.num_applicable:.4f}")
        if self.num_marked:
            parts.append(f"{self.num_correct} of {self.num_marked} right ({self.num_correct / self.num_marked:.1%})")
        if self.num_applicable < self.num_scored:
            parts.append(f"{self.num_scored - self.num_applicable} not applicable")
        if self.num_skipped:
            parts.append(f"{self.num_skipped} bad rows skipped")
        parts += [f"{name} {count}" for name, count in sorted(self.events.items())]
        return ", ".join(parts) + f"; {seconds:.1f} s"


class Output(Protocol):
    """Prints scores."""

    def rows(self, samples: list[Sample], scores: list[Score | None]) -> None:
        """Print a batch."""
        ...


def score_file(choice: RewardChoice, data: str, *, as_json: bool, skip_bad_rows: bool) -> None:
    """Score each row of `data` and print the scores.

    Raises:
        RewardError: the reward cannot be loaded, or fails on a row.
        DataError: the file cannot be read; a row cannot be used and `skip_bad_rows` is not set; all are skipped.
    """
    output: Output = JSONLines() if as_json else ScoreTable()
    summary, started = Summary(), time.monotonic()
    stderr = Console(stderr=True, highlight=False)
    # Lines that scroll by are progress enough.
    progress = _Progress(stderr, enabled=stderr.is_terminal and not sys.stdout.isatty())
    with choice.load() as reward, progress:
        try:
            for batch in _batches(reward, data, skip_bad_rows, summary):
                scores = reward.score_batch([sample.prompt for sample in batch], [sample.response for sample in batch])
                for score in scores:
                    summary.add(score)
                summary.events.update(reward.take_counts())
                output.rows(batch, scores)
                progress.show(summary)
        except KeyboardInterrupt:
            progress.close()
            print(f"rlcs: stopped; {summary.text(reward.name, time.monotonic() - started)}", file=sys.stderr)
            raise
        text = summary.text(reward.name, time.monotonic() - started)
    if not summary.num_scored:
        raise DataError(f"{data}: none of its {summary.num_skipped} rows can be used")
    if not as_json:
        print(f"\n{text}")
    elif stderr.is_terminal:
        print(text, file=sys.stderr)


def _batches(reward: LoadedReward, data: str, skip_bad_rows: bool, summary: Summary) -> Iterator[list[Sample]]:
    """Usable rows in batches. The rows before a bad one are handed out before its error is raised."""
    batch: list[Sample] = []
    for item in read_samples(data):
        problem = item if isinstance(item, DataError) else _unusable(reward, item)
        if problem is None:
            assert isinstance(item, Sample)
            batch.append(item)
            if len(batch) == _BATCH_ROWS:
                yield batch
                batch = []
            continue
        if not skip_bad_rows:
            if batch:
                yield batch
            raise problem
        summary.num_skipped += 1
        print(f"rlcs: skipped {printable(str(problem))}", file=sys.stderr)
    if batch:
        yield batch


def _unusable(reward: LoadedReward, sample: Sample) -> DataError | None:
    """Why the reward cannot use the row's reference."""
    reason = reward.validate(sample.prompt)
    if reason is None:
        return None
    if not sample.has_answer:
        reason = f"answer is missing, and the reward {reward.name} needs it ({reason})"
    return DataError(f"{sample.where}: {reason}")


class JSONLines:
    """A JSON object a row on standard output."""

    def rows(self, samples: list[Sample], scores: list[Score | None]) -> None:
        """See `Output`."""
        for sample, score in zip(samples, scores, strict=True):
            value, correct, detail = (None, None, "") if score is None else (score.value, score.correct, score.detail)
            # ASCII, so that neither the locale nor half of a surrogate pair can stop it.
            line = json.dumps({"id": sample.id, "value": value, "correct": correct, "detail": detail}, default=str)
            sys.stdout.write(line + "\n")
        sys.stdout.flush()


class ScoreTable:
    """A table on standard output, printed batch by batch."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 120  # a file or a pipe has no width of its own
        self._id_width: int | None = None

    def rows(self, samples: list[Sample], scores: list[Score | None]) -> None:
        """See `Output`."""
        is_first = self._id_width is None
        if self._id_width is None:
            self._id_width = min(_MAX_ID, max(3, *(len(printable(str(sample.id))) for sample in samples)))
        table = Table(box=box.SIMPLE_HEAD if is_first else None, show_header=is_first, show_edge=False, pad_edge=False)
        table.add_column("id", width=self._id_width, no_wrap=True)
        table.add_column("value", width=6, justify="right")
        table.add_column("right", width=5)
        table.add_column("reason", overflow="fold", ratio=1)
        for sample, score in zip(samples, scores, strict=True):
            name = Text(printable(str(sample.id)))
            if score is None:
                table.add_row(name, "-", "-", Text("does not apply", style="dim"))
                continue
            mark = Text("-") if score.correct is None else _MARKS[score.correct]
            table.add_row(name, f"{score.value:.4f}", mark, Text(printable(score.detail[:_MAX_DETAIL])))
        self._console.print(table)
        sys.stdout.flush()


_MARKS = {True: Text("yes", style="green"), False: Text("no", style="red")}


class _Progress:
    """How many rows are done, on standard error."""

    def __init__(self, console: Console, *, enabled: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True) if enabled else None
        self._task: TaskID | None = None

    def __enter__(self) -> _Progress:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task("reading", total=None)
        return self

    def show(self, summary: Summary) -> None:
        """Show the counts so far."""
        if self._progress is not None and self._task is not None:
            mean = f", mean {summary.total / summary.num_applicable:.3f}" if summary.num_applicable else ""
            self._progress.update(self._task, description=f"{summary.num_scored} rows{mean}")

    def close(self) -> None:
        """Take the line away."""
        if self._progress is not None:
            self._progress.stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
