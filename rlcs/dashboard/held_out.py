"""Held-out results before and after, by domain and tier, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcs.dashboard.render import tier_name
from rlcs.dashboard.store import Run
from rlcs.runlog import EvaluationRow, mean_over_prompts


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """A domain and tier, or the sum of several; shares from 0 to 1."""

    domain: str
    tier: str
    prompts: int
    before: float
    """pass@1 at the first evaluation."""
    after: float
    reward_before: float
    """Mean reward at the first evaluation."""
    reward_after: float
    is_sum: bool = False


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The first and the last evaluation of a run beside each other."""

    first: int
    last: int
    """Iterations trained before them."""
    rows: list[HeldOutRow]


def held_out(run: Run) -> HeldOut | None:
    """The table, or None where a run has fewer than two evaluations. Cells that one of them lacks are left out."""
    steps = sorted({row.step for row in run.evaluations})
    if len(steps) < 2:
        return None
    later = {(row.domain, row.tier): row for row in run.evaluations if row.step == steps[-1]}
    pairs = [
        (row, later[row.domain, row.tier])
        for row in run.evaluations
        if row.step == steps[0] and (row.domain, row.tier) in later
    ]
    if not pairs:
        return None
    rows: list[HeldOutRow] = []
    domains = dict.fromkeys(before.domain for before, _ in pairs)
    for domain in domains:
        members = [pair for pair in pairs if pair[0].domain == domain]
        rows += [_row(domain, tier_name(pair[0].tier), [pair]) for pair in members]
        if len(members) > 1:
            rows.append(_row(domain, "all", members, is_sum=True))
    if len(domains) > 1:
        rows.append(_row("all", "all", pairs, is_sum=True))
    return HeldOut(steps[0], steps[-1], rows)


def _row(
    domain: str, tier: str, pairs: Sequence[tuple[EvaluationRow, EvaluationRow]], *, is_sum: bool = False
) -> HeldOutRow:
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return HeldOutRow(
        domain,
        tier,
        sum(row.num_prompts for row in before),
        mean_over_prompts(before, "pass_at_1"),
        mean_over_prompts(after, "pass_at_1"),
        mean_over_prompts(before, "mean_reward"),
        mean_over_prompts(after, "mean_reward"),
        is_sum,
    )
