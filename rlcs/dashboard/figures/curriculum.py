"""The plots of the curriculum: what did the sampler choose, and was it right?

Pass rates are those observed: the share of right responses of a group. G is `rollout.num_generations`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from rlcs.dashboard.columns import Floats, thin
from rlcs.dashboard.database import Database
from rlcs.dashboard.figures.figure import Figure, Series, domain_colour, line, numbers
from rlcs.dashboard.store import Run
from rlcs.types import NUM_TIERS, TIER_NAMES

_COLUMNS = 110
"""Columns of the heat map, at most."""
_STATES = (
    ("mastered", "mastered", "d2"),
    ("between", "between", "d0"),
    ("wrong", "all wrong so far", "d3"),
    ("forgotten", "forgotten", "d4"),
)
"""State, what it is called, colour; from bottom to top."""
_NOT_YET = "not drawn yet"
_NO_DRAWS = "No draws were recorded: no iteration has ended yet, or logging.rollouts_every is 0."
# An observed pass rate as a tier, as the paper maps pass@k: equal fifths, 0 (very easy) for the highest.
_TIER = "CASE WHEN rate IS NULL THEN NULL ELSE least(4, greatest(0, ceil((1 - rate) * 5 - 1e-6)::INT - 1)) END"


def curriculum_figures(run: Run, moments: tuple[int, int] | None = None) -> list[Figure]:
    """All plots; `moments` are the two iterations between which migration is shown."""
    first, last = span(run)
    return [
        pass_rate_map(run),
        *shares(run),
        reliability(run),
        migration(run, *(moments or (first + (last - first) // 4, last))),
        coverage(run),
        set_aside(run),
        domain_shares(run),
        ability(run),
        abilities(run),
        waste(run),
    ]


def span(run: Run) -> tuple[int, int]:
    """First and last iteration with draws; zeros where there are none."""
    (row,) = run.database.ask("SELECT min(step) AS first, max(step) AS last FROM draws")
    return int(row["first"] or 0), int(row["last"] or 0)


def rate_bins(run: Run) -> list[tuple[float, float, str]]:
    """Lower and upper edge and name of the pass-rate bins: each attainable rate where there are few, else tenths."""
    (row,) = run.database.ask("SELECT max(num_responses) AS most, min(num_responses) AS least FROM draws")
    most = int(row["most"] or 0)
    if most and most == row["least"] and most <= 16:
        half = 0.5 / most
        return [(k / most - half, k / most + half, f"{k}/{most}") for k in range(most + 1)]
    tenths = [(i / 10 + 1e-9 * (i == 0), (i + 1) / 10, f"{10 * i}-{10 * i + 10} %") for i in range(10)]
    return [(-1.0, 0.0 + 1e-9, "all wrong"), *tenths[:-1], (0.9, 1 - 1e-9, "90-100 %"), (1 - 1e-9, 2.0, "all right")]


def pass_rate_map(run: Run) -> Figure:
    """Heat map: iteration by pass-rate bin, the share of the prompts drawn."""
    figure = Figure(
        "pass_rates",
        "Pass rates of the prompts drawn",
        "heat",
        note="Each column is a moment; colour is the share of its groups. Bottom row: all wrong; top row: all right. "
        "A good sampler stays between them.",
        y_label="pass rate of the group",
        wide=True,
        empty=_NO_DRAWS,
    )
    first, last = span(run)
    if not last:
        return figure
    bins = rate_bins(run)
    width = max(1, -(-(last - first + 1) // _COLUMNS))
    uppers = [upper for _, upper, _ in bins[:-1]]
    case = " ".join(f"WHEN pass_rate < {upper!r} THEN {i}" for i, upper in enumerate(uppers))
    rows = run.database.ask(
        f"SELECT (step - ?) // ? AS col, CASE {case} ELSE {len(uppers)} END AS bin, count(*) AS n "  # nosec B608 # noqa: S608
        "FROM draws GROUP BY ALL ORDER BY ALL",
        first,
        width,
    )
    total: dict[int, int] = defaultdict(int)
    for row in rows:
        total[row["col"]] += row["n"]
    columns = range((last - first) // width + 1)
    figure.extra = {
        "x": [_moment(first + c * width, min(last, first + (c + 1) * width - 1)) for c in columns],
        "y": [name for _, _, name in bins],
        "cells": [[r["col"], r["bin"], float(f"{r['n'] / total[r['col']]:.5g}"), r["n"]] for r in rows],
        "value": "share of groups",
    }
    return figure


def shares(run: Run) -> list[Figure]:
    """Share drawn against share available, by tier and by domain; with the target of domains."""
    database = run.database
    has_prompts = database.with_prompts()
    first, last = span(run)
    recent = last - max(1, (last - first + 1) // 5)
    figures = []
    for key, figure_id, title in (
        ("tier", "tiers", "Share drawn and share available, by offline tier"),
        ("domain", "domains", "Share drawn and share available, by domain"),
    ):
        figure = Figure(figure_id, title, "bars", y_label="share", percent=True, x_label="", empty=_NO_DRAWS)
        figure.note = "Lately: in the last fifth of the run."
        figures.append(figure)
        if not last:
            continue
        drawn = _counts(database, f"SELECT {key} AS k, count(*) AS n FROM draws GROUP BY 1")  # nosec B608 # noqa: S608
        late = _counts(database, f"SELECT {key} AS k, count(*) AS n FROM draws WHERE step > ? GROUP BY 1", recent)  # nosec B608 # noqa: S608
        there = _counts(database, f"SELECT {key} AS k, count(*) AS n FROM prompts GROUP BY 1") if has_prompts else {}  # nosec B608 # noqa: S608
        keys = sorted({*drawn, *there}, key=lambda k: (k is None, k))
        names = [_label(k) if key == "tier" else str(k) for k in keys]
        if there:
            figure.series.append(_bar("available", names, keys, there, "muted"))
        figure.series.append(_bar("drawn", names, keys, drawn, "main"))
        figure.series.append(_bar("drawn lately", names, keys, late, "second"))
        if key == "domain" and (target := _target(run, there)):
            figure.series.append(Series("target", names, [target.get(k, 0.0) for k in keys], "d2"))
            figure.note += " The target is that of the configuration."
        if not there:
            figure.note += " The run kept no list of its prompts, so what was available is not known."
    return figures


def migration(run: Run, before: int, after: int) -> Figure:
    """Sankey: observed tiers of prompts at two moments."""
    figure = Figure(
        "migration",
        f"Where prompts moved between iteration {before} and {after}",
        "sankey",
        note="Each prompt counts by its last pass rate up to the moment, in fifths: very easy is 80 % or more. "
        "Prompts that were never drawn are left out.",
        wide=True,
        empty=_NO_DRAWS,
        extra={},
    )
    rows = run.database.ask(
        f"""
        WITH latest AS (
            SELECT prompt_id, arg_max(pass_rate, step) FILTER (step <= ?) AS a, arg_max(pass_rate, step) AS b
            FROM draws WHERE step <= ? GROUP BY prompt_id
        ), tiers AS (
            SELECT (SELECT {_TIER} FROM (SELECT a AS rate)) AS a, (SELECT {_TIER} FROM (SELECT b AS rate)) AS b FROM latest
        )
        SELECT a, b, count(*) AS n FROM tiers GROUP BY ALL ORDER BY ALL
        """,  # nosec B608 # noqa: S608
        before,
        after,
    )
    if not rows:
        return figure
    left = {row["a"] for row in rows}
    right = {row["b"] for row in rows}
    order = [*range(NUM_TIERS), None]
    nodes = [{"name": f"A{_index(t)}", "label": _migration_label(t), "tier": _index(t)} for t in order if t in left]
    nodes += [{"name": f"B{_index(t)}", "label": _migration_label(t), "tier": _index(t)} for t in order if t in right]
    links = [{"source": f"A{_index(r['a'])}", "target": f"B{_index(r['b'])}", "value": r["n"]} for r in rows]
    figure.extra = {"nodes": nodes, "links": links, "before": before, "after": after}
    return figure


def reliability(run: Run) -> Figure:
    """Predicted against observed pass rates, with how many groups each point stands for."""
    figure = Figure(
        "reliability",
        "Predicted pass rates against those observed",
        "reliability",
        note="On the diagonal the curriculum knew what to expect. Bars: how many groups were predicted so.",
        x_label="predicted pass rate",
        y_label="observed pass rate",
        percent=True,
        empty="The run has no predictions: its curriculum makes none, or an older version wrote it.",
    )
    rows = run.database.ask(
        "SELECT least(9, floor(predicted * 10))::INT AS bin, count(*) AS n, avg(predicted) AS p, avg(pass_rate) AS o, "
        "stddev_pop(pass_rate) AS sd FROM draws WHERE predicted IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    if not rows:
        return figure
    total = sum(row["n"] for row in rows)
    error = sum(row["n"] * abs(row["p"] - row["o"]) for row in rows) / total
    half = [1.96 * (row["sd"] or 0.0) / row["n"] ** 0.5 for row in rows]
    figure.series = [
        Series(
            "observed",
            [row["p"] for row in rows],
            [row["o"] for row in rows],
            "main",
            low=[max(0.0, row["o"] - h) for row, h in zip(rows, half, strict=True)],
            high=[min(1.0, row["o"] + h) for row, h in zip(rows, half, strict=True)],
            points=True,
        )
    ]
    figure.extra = {"counts": [row["n"] for row in rows], "bins": [row["bin"] for row in rows], "error": error}
    figure.note += f" Mean distance from the diagonal (expected calibration error): {error:.3f}."
    return figure


def coverage(run: Run) -> Figure:
    """Stacked counts of prompts by what their draws so far say."""
    figure = Figure(
        "coverage",
        "What has become of all prompts",
        "area",
        note="By the last group of each prompt. Forgotten: once all right, now less than half.",
        y_label="prompts",
        zero=True,
        wide=True,
        empty=_NO_DRAWS,
    )
    if "curriculum/prompts/mastered" in run.columns:
        for state, name, colour in (*_STATES, ("never", "never drawn", "muted")):
            figure.series.append(line(name, run.columns.series(f"curriculum/prompts/{state}"), colour))
        return figure
    first, last = span(run)
    if not last:
        return figure
    width = max(1, -(-(last - first + 1) // _COLUMNS))
    rows = run.database.ask(
        """
        WITH marked AS (
            SELECT step, prompt_id, pass_rate,
                lag(pass_rate) OVER prompt AS before,
                coalesce(max(pass_rate) OVER (prompt ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS best,
                coalesce(max(pass_rate) OVER (prompt ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING), 0) AS best_before
            FROM draws WINDOW prompt AS (PARTITION BY prompt_id ORDER BY step)
        ), states AS (
            SELECT step, CASE WHEN pass_rate >= 1 THEN 'm' WHEN best >= 1 AND pass_rate < 0.5 THEN 'f'
                    WHEN pass_rate <= 0 THEN 's' ELSE 'l' END AS now,
                CASE WHEN before IS NULL THEN 'n' WHEN before >= 1 THEN 'm' WHEN best_before >= 1 AND before < 0.5 THEN 'f'
                    WHEN before <= 0 THEN 's' ELSE 'l' END AS was FROM marked
        ), changes AS (
            SELECT (step - ?) // ? AS col, now AS state, 1 AS n FROM states UNION ALL
            SELECT (step - ?) // ? AS col, was AS state, -1 AS n FROM states WHERE was <> 'n'
        )
        SELECT col, state, sum(n)::BIGINT AS n FROM changes GROUP BY ALL
        """,
        first,
        width,
        first,
        width,
    )
    columns = (last - first) // width + 1
    change = {state: np.zeros(columns) for state in "mlsf"}
    for row in rows:
        change[row["state"]][row["col"]] += row["n"]
    counts = {state: np.cumsum(values) for state, values in change.items()}
    x = [float(min(last, first + (c + 1) * width - 1)) for c in range(columns)]
    letters = {"mastered": "m", "between": "l", "wrong": "s", "forgotten": "f"}
    figure.series = [Series(name, x, counts[letters[state]].tolist(), colour) for state, name, colour in _STATES]
    if run.database.with_prompts():
        (row,) = run.database.ask("SELECT count(*) AS n FROM prompts")
        never = row["n"] - sum(counts.values())
        figure.series.append(Series("never drawn", x, np.maximum(never, 0).tolist(), "muted"))
    return figure


def set_aside(run: Run) -> Figure:
    """Lines of the prompts that teach no more: mastered, retired, forgotten."""
    figure = Figure(
        "set_aside",
        "Prompts mastered, retired and forgotten",
        "lines",
        note="Retired: the curriculum draws them for re-checks only, as mastered or as too hard as yet.",
        y_label="prompts",
        zero=True,
        smooth=False,
        empty="Not recorded: an older version wrote this run.",
    )
    for state, colour in (("mastered", "d2"), ("retired", "main"), ("forgotten", "d4")):
        name = f"curriculum/prompts/{state}"
        if name in run.columns:
            figure.series.append(line(state, run.columns.series(name), colour))
    return figure


def domain_shares(run: Run) -> Figure:
    """Share drawn of each domain over time."""
    figure = Figure("mix", "Share drawn of each domain, over time", "lines", y_label="share of draws", percent=True)
    for index, domain in enumerate(run.domains):
        data = run.columns.series(f"curriculum/drawn/{domain}")
        if len(data[0]):
            colour, dashed = domain_colour(index)
            figure.series.append(line(domain, data, colour, dashed=dashed))
    return figure


def ability(run: Run) -> Figure:
    """Estimated pass rate of each domain over its tiers, with the range over tiers that were drawn."""
    figure = Figure(
        "ability",
        "What the curriculum believes of each domain",
        "lines",
        note="Estimated pass rate, the mean over tiers; the band reaches from the hardest tier to the easiest.",
        y_label="estimated pass rate",
        percent=True,
        empty="This curriculum estimates no pass rates.",
    )
    for index, domain in enumerate(run.domains):
        names = [f"curriculum/pass_rate/{domain}/tier_{tier}" for tier in range(NUM_TIERS)]
        found = [run.columns.series(name) for name in names if name in run.columns]
        if not found:
            continue
        length = min(len(x) for x, _ in found)
        table: Floats = np.array([y[-length:] for _, y in found])
        x, mean = found[0][0][-length:], table.mean(axis=0)
        kept = thin(x, mean, 400)
        colour, dashed = domain_colour(index)
        series = Series(domain, x[kept].tolist(), mean[kept].tolist(), colour, dashed=dashed)
        series.low, series.high = table.min(axis=0)[kept].tolist(), table.max(axis=0)[kept].tolist()
        figure.series.append(series)
    return figure


def abilities(run: Run) -> Figure:
    """The policy's ability in each domain, with the band that the curriculum is 95 % sure of."""
    figure = Figure(
        "abilities",
        "Ability in each domain, as the curriculum estimates it",
        "lines",
        note="On the scale of the item-response model: at ability = difficulty half of the responses are right.",
        y_label="ability (logits)",
        smooth=False,
        empty="This curriculum estimates no abilities; posterior does.",
    )
    for index, domain in enumerate(run.domains):
        x, mean = run.columns.series(f"curriculum/ability/{domain}")
        _, deviation = run.columns.series(f"curriculum/ability_sd/{domain}")
        if not len(x) or len(deviation) != len(x):
            continue
        kept = thin(x, mean, 400)
        colour, dashed = domain_colour(index)
        series = Series(domain, x[kept].tolist(), mean[kept].tolist(), colour, dashed=dashed)
        series.low = (mean - 1.96 * deviation)[kept].tolist()
        series.high = (mean + 1.96 * deviation)[kept].tolist()
        figure.series.append(series)
    return figure


def waste(run: Run) -> Figure:
    """Groups drawn for nothing, and useful ones that were left over."""
    figure = Figure(
        "waste",
        "Groups that were drawn and not learned from",
        "lines",
        note="Without a signal: the price of drawing. Useful ones left over: drawn beyond the batch.",
        y_label="share of groups drawn",
        percent=True,
        empty=_NO_DRAWS,
    )
    data: dict[str, Any] = run.database.arrays(
        "SELECT step, avg((degenerate AND NOT kept)::INT) AS waste, avg((NOT degenerate AND NOT kept)::INT) AS rest "
        "FROM draws GROUP BY step ORDER BY step"
    )
    steps = np.asarray(data["step"], dtype=np.float64)
    if len(steps):
        figure.series = [
            line("without a signal", (steps, np.asarray(data["waste"], dtype=np.float64))),
            line("useful, left over", (steps, np.asarray(data["rest"], dtype=np.float64)), "second"),
        ]
    return figure


def _target(run: Run, there: dict[Any, int]) -> dict[Any, float]:
    """The share that each domain should get, where the configuration says it."""
    if run.config is None:
        return {}
    mix = run.config.curriculum.domain_mix
    balance = run.config.curriculum.domain_balance
    power = {"data": 1.0, "sqrt": 0.5, "equal": 0.0}.get(balance)
    weights: dict[Any, float] = dict(mix)
    if not weights and power is not None:
        weights = {domain: count**power for domain, count in there.items()}
    total = sum(weights.values())
    return {domain: weight / total for domain, weight in weights.items()} if total else {}


def _counts(database: Database, sql: str, *parameters: Any) -> dict[Any, int]:
    return {row["k"]: row["n"] for row in database.ask(sql, *parameters)}


def _bar(name: str, names: list[str], keys: list[Any], counts: dict[Any, int], colour: str) -> Series:
    total = max(1, sum(counts.values()))
    return Series(name, names, numbers(counts.get(k, 0) / total for k in keys), colour)


def _label(tier: int | None) -> str:
    return "ungraded" if tier is None else TIER_NAMES[tier]


def _migration_label(tier: int | None) -> str:
    return _NOT_YET if tier is None else TIER_NAMES[tier]


def _index(tier: int | None) -> int:
    return NUM_TIERS if tier is None else tier


def _moment(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
