"""The table of prompts, and the page of one: which are stuck, and how did each go?

The band of a prompt's pass rate is the 90 % interval of a Beta distribution with one right and one wrong response
added to those of its last three groups: policies change, so that older groups say little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlcs.dashboard.figures.figure import Figure, Series
from rlcs.dashboard.store import Run

SORTS = {
    "draws": "n DESC NULLS LAST",
    "least_draws": "n NULLS LAST",
    "hardest": "mean NULLS LAST",
    "easiest": "mean DESC NULLS LAST",
    "unsure": "b - a DESC NULLS LAST",
    "newest": "last_step DESC NULLS LAST",
    "surprise": "abs(last_rate - predicted) DESC NULLS LAST",
}
"""Orders of the table."""
PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Filter:
    """What of the prompts is shown, and in which order."""

    domain: str = ""
    tier: int | None = None
    state: str = ""
    """mastered, wrong, between, forgotten, never, or all."""
    least: float = 0.0
    most: float = 1.0
    """Limits of the estimated pass rate."""
    text: str = ""
    sort: str = "draws"
    page: int = 0


_STATES = {
    "mastered": "last_rate >= 1",
    "wrong": "last_rate <= 0",
    "between": "last_rate > 0 AND last_rate < 1",
    "forgotten": "best >= 1 AND last_rate < 0.5",
    "never": "n IS NULL",
}


def prompt_rows(run: Run, chosen: Filter) -> tuple[list[dict[str, Any]], int]:
    """A page of the table, and how many prompts the filter leaves."""
    database = run.database
    listed = database.with_prompts()
    database.with_drawn()
    where: list[str] = ["true"]
    parameters: list[Any] = []
    if chosen.domain:
        where.append("domain = ?")
        parameters.append(chosen.domain)
    if chosen.tier is not None:
        where.append("tier = ?" if chosen.tier >= 0 else "tier IS NULL")
        parameters += [chosen.tier] if chosen.tier >= 0 else []
    if chosen.state in _STATES:
        where.append(_STATES[chosen.state])
    if chosen.least > 0 or chosen.most < 1:
        where.append("mean BETWEEN ? AND ?")
        parameters += [chosen.least, chosen.most]
    if chosen.text:
        where.append("starts_with(prompt_id, ?)")
        parameters.append(chosen.text.strip())
    kept = (
        "p.domain AS domain, p.tier AS tier, p.row AS row"
        if listed
        else "d.domain AS domain, d.tier AS tier, NULL AS row"
    )
    source = "prompts p LEFT JOIN drawn d USING (prompt_id)" if listed else "drawn d"
    order = SORTS.get(chosen.sort, SORTS["draws"])
    sql = f"""
        WITH all_rows AS (
            SELECT prompt_id, {kept}, n, last_step, last_rate, predicted, best, mean,
                greatest(0, mean - 1.645 * sqrt(mean * (1 - mean) / (m + 3))) AS a,
                least(1, mean + 1.645 * sqrt(mean * (1 - mean) / (m + 3))) AS b
            FROM {source}
        ), chosen AS (SELECT * FROM all_rows WHERE {" AND ".join(where)})
        SELECT *, (SELECT count(*) FROM chosen) AS total FROM chosen ORDER BY {order}, prompt_id LIMIT ? OFFSET ?
        """  # nosec B608 # noqa: S608
    rows = database.ask(sql, *parameters, PAGE_SIZE, chosen.page * PAGE_SIZE)
    if listed:
        texts = database.prompt_texts(sorted(row["row"] for row in rows))
        for row in rows:
            row["text"] = texts.get(row["row"])
    else:
        for row in rows:
            row["text"] = None
    return rows, int(rows[0]["total"]) if rows else 0


def history(run: Run, prompt_id: str) -> list[dict[str, Any]]:
    """The draws of a prompt, oldest first."""
    return run.database.ask(
        "SELECT step, domain, tier, pass_rate, predicted, num_responses, degenerate, kept FROM draws WHERE prompt_id = ? "
        "ORDER BY step",
        prompt_id,
    )


def prompt_text(run: Run, prompt_id: str) -> dict[str, Any] | None:
    """Domain, tier and text of a prompt of the list; None where the list has no such prompt."""
    if not run.database.with_prompts():
        return None
    rows = run.database.ask("SELECT row, domain, tier FROM prompts WHERE prompt_id = ?", prompt_id)
    if not rows:
        return None
    return {**rows[0], "text": run.database.prompt_texts([rows[0]["row"]]).get(rows[0]["row"])}


def history_figure(draws: list[dict[str, Any]]) -> Figure:
    """Observed and predicted pass rates of one prompt."""
    figure = Figure(
        "history",
        "How often this prompt was answered rightly",
        "lines",
        y_label="pass rate",
        percent=True,
        smooth=False,
        wide=True,
        empty="It was never drawn.",
    )
    if draws:
        steps = [float(draw["step"]) for draw in draws]
        figure.series = [Series("observed", steps, [draw["pass_rate"] for draw in draws], "main", points=True)]
        if any(draw["predicted"] is not None for draw in draws):
            predicted = [draw["predicted"] for draw in draws]
            figure.series.append(Series("predicted", steps, predicted, "second", dashed=True, points=True))
    return figure
