"""What a person sees of a grading: progress by model, the tiers by domain, and how to go on after a stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from rlcs.progress import Display
from rlcs.terminal_text import printable
from rlcs.types import NUM_TIERS, TIER_NAMES


class GradeDisplay(Display):
    """The display of `rlcs grade`."""

    def grading(self, model: str, done: int, total: int, pass_rate: float) -> None:
        """Show how far a model has come; `pass_rate` is its mean up to now."""
        self._advance(f"grading {model}", done, total, f"pass rate {pass_rate:.3f}", every_s=10)

    def command(self, text: str, command: str) -> None:
        """Say something that ends with a command to copy: never wrapped, never taken for markup."""
        self._end_bar()
        self.note(f"{text}  {command}")

    def tiers(
        self, domains: Sequence[str], tiers: NDArray[np.int8], measures: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Print the tiers [N] of prompts by their domains [N], and the mean of each measure [N]."""
        self._end_bar()
        self.console.print(tier_table(domains, tiers, measures))


def tier_table(domains: Sequence[str], tiers: NDArray[np.int8], measures: Mapping[str, NDArray[np.float64]]) -> Table:
    """A row a domain: prompts of each tier, and the mean of each measure; at last all domains together."""
    table = Table(title="Prompts by tier", title_justify="left")
    table.add_column("domain", no_wrap=True)
    for name in ("prompts", *TIER_NAMES, *measures):
        table.add_column(name, justify="right")
    names = np.asarray(domains, dtype=object)
    known = sorted(set(domains))
    for name in known:
        table.add_row(Text(printable(name)), *_cells(names == name, tiers, measures))
    if len(known) > 1:
        table.add_section()
        table.add_row("all", *_cells(np.ones(len(names), dtype=bool), tiers, measures), style="bold")
    return table


def _cells(
    members: NDArray[np.bool_], tiers: NDArray[np.int8], measures: Mapping[str, NDArray[np.float64]]
) -> list[str]:
    counts = np.bincount(tiers[members], minlength=NUM_TIERS)
    means = [f"{100 * values[members].mean():.1f} %" for values in measures.values()]
    return [f"{members.sum():,}", *(f"{count:,}" for count in counts), *means]
