"""`rlcs curriculum RUN --prompt ID`: why a prompt was drawn, or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rlcs.curriculum_commands.history import History, load_history
from rlcs.runlog import read_prompt_text, shortened
from rlcs.types import TIER_NAMES


@dataclass(frozen=True, slots=True)
class Draw:
    """A group of the prompt."""

    step: int
    pass_rate: float
    useful: bool
    kept: bool
    """Whether it was learned from."""


@dataclass(slots=True)
class PromptReport:
    """What is known of one prompt."""

    prompt_id: str
    text: str | None
    domain: str
    tier: int | None
    draws: list[Draw]
    numbers: dict[str, float]
    """`Curriculum.explain`, with `weight_rank` among the prompts of its domain and tier, 1 for the largest."""
    peers: int
    """Prompts of its domain and tier."""
    draws_of_peers: float
    """Mean number of draws of those."""
    sentences: list[str] = field(default_factory=list)


def explain_prompt(history: History, prefix: str) -> PromptReport:
    """The report of the prompt whose id begins with `prefix`.

    Raises:
        DataError: no id begins so, or several do.
    """
    row = history.find(prefix)
    table = history.table
    own = np.flatnonzero(history.rows == row)
    peers = np.flatnonzero((table.domains == table.domains[row]) & (table.tiers == table.tiers[row]))
    tier = int(table.tiers[row])
    report = PromptReport(
        prompt_id=history.id_of(row),
        text=_text(history, row, own),
        domain=table.domain_names[table.domains[row]],
        tier=tier if tier >= 0 else None,
        draws=[
            Draw(
                int(history.steps[i]),
                float(history.pass_rates[i]),
                not bool(history.degenerate[i]),
                bool(history.kept[i]),
            )
            for i in own
        ],
        numbers={},
        peers=len(peers),
        draws_of_peers=float(np.isin(history.rows, peers).sum() / len(peers)),
    )
    curriculum = history.curriculum
    if curriculum is not None:
        report.numbers = curriculum.explain(row)
        weights = curriculum.weights(peers)
        if weights is not None:
            mine = weights[peers == row][0]
            report.numbers["weight_rank"] = float(1 + (weights > mine * (1 + 1e-9)).sum())
            report.numbers["weight_ties"] = float((np.abs(weights - mine) <= 1e-9 * mine).sum())
    report.sentences = [_drawn(history, report)]
    if curriculum is not None:
        report.sentences += [*_as_of(history, report), *_chance(report), *curriculum.reasons(row)]
    return report


def why_drawn(run_dir: Path, prompt_id: str) -> list[str]:
    """The sentences of the report, for the dashboard. Raises as `load_history` and `explain_prompt` do."""
    history = load_history(run_dir)
    return [*history.notes, *explain_prompt(history, prompt_id).sentences]


def _text(history: History, row: int, own: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str | None:
    """The prompt's text, from the list of prompts or from its last rollout."""
    kept: str | None = history.texts[row].as_py()
    if kept is not None or len(own) == 0:
        return kept
    text = read_prompt_text(history.run_dir, history.id_of(row), int(history.steps[own[-1]]))
    return None if text is None else shortened(text)


def _drawn(history: History, report: PromptReport) -> str:
    """How often it was drawn, compared with its like."""
    tier = "ungraded" if report.tier is None else TIER_NAMES[report.tier]
    like = (
        f"the {report.peers:,} {tier!r} prompts of {report.domain!r} were drawn {report.draws_of_peers:.2f} times each"
    )
    total = history.iterations
    if not report.draws:
        return f"It was never drawn in {total:,} recorded iterations; {like} on average."
    draws = report.draws
    useful = sum(draw.useful for draw in draws)
    rates = f"its pass rate went from {draws[0].pass_rate:.0%} to {draws[-1].pass_rate:.0%}"
    if len(draws) == 1:
        rates = f"its pass rate was {draws[0].pass_rate:.0%}"
    return (
        f"It was drawn {_times(len(draws))} in {total:,} recorded iterations, last in iteration {draws[-1].step}; {like} "
        f"on average. {useful} of its groups had a signal, {sum(draw.kept for draw in draws)} were learned from; {rates}."
    )


def _as_of(history: History, report: PromptReport) -> list[str]:
    """A warning where the checkpoint is older than the last draw."""
    later = sum(draw.step > (history.checkpoint_step or 0) for draw in report.draws)
    if not later:
        return []
    draws = "the last draw" if later == 1 else f"the last {later} draws"
    return [f"What follows is of the newest checkpoint, iteration {history.checkpoint_step}: it knows not of {draws}."]


def _chance(report: PromptReport) -> list[str]:
    """How likely it is to be drawn next."""
    numbers = report.numbers
    if "weight" not in numbers:
        return []
    weight = numbers["weight"]
    sentence = f"It is drawn {weight:.2f} times as often as a prompt on average"
    if "weight_rank" in numbers:
        rank, ties = int(numbers["weight_rank"]), int(numbers["weight_ties"])
        sentence += f", rank {rank:,} of {report.peers:,} of its domain and tier"
        if ties > 1:
            sentence += f" (shared by {ties:,})"
    retired = "It is retired" if numbers.get("retired") else "It is not retired"
    return [f"{sentence}. {retired}{'' if 'retired' in numbers else ': this curriculum retires no prompt'}."]


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
