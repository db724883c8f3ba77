"""What stands on each page of a run: figures, tiles, tables, as the values that the templates take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rlcs.config_logging import AlarmConfig
from rlcs.dashboard.alarms import find_alarms
from rlcs.dashboard.figures.curriculum import curriculum_figures, span
from rlcs.dashboard.figures.overview import metric as any_metric
from rlcs.dashboard.figures.overview import overview_figures
from rlcs.dashboard.figures.rewards import reward_figures
from rlcs.dashboard.groups import GroupRow, differences, group, groups_of, iterations, nearest, search, steps_of
from rlcs.dashboard.pictures import pictures
from rlcs.dashboard.prompts import Filter, history, history_figure, prompt_rows, prompt_text
from rlcs.dashboard.responses import newest
from rlcs.dashboard.store import Run
from rlcs.dashboard.system import checkpoints, faults, settings, starts, system_figures
from rlcs.dashboard.tiles import run_tiles
from rlcs.dashboard.verifiers import slowest, verifier_rows
from rlcs.errors import CheckpointError, RLCSError
from rlcs.runlog import read_actors, read_prompt_text

PAGES = (
    ("overview", "Overview"),
    ("curriculum", "Curriculum"),
    ("prompts", "Prompts"),
    ("rollouts", "Rollouts"),
    ("rewards", "Rewards"),
    ("system", "System"),
)
"""Path and name of each page of a run, in the order of the menu."""

GROUP_KINDS = (("", "all"), ("mixed", "right and wrong"), ("right", "all right"), ("wrong", "all wrong"))
COLOURS = (("logprob", "probability of tokens"), ("advantage", "advantage"), ("none", "none"))
STATES = (
    ("", "all"),
    ("between", "right and wrong"),
    ("mastered", "mastered"),
    ("wrong", "all wrong"),
    ("forgotten", "forgotten"),
    ("never", "never drawn"),
)
SORT_NAMES = (
    ("draws", "most drawn"),
    ("least_draws", "least drawn"),
    ("hardest", "hardest"),
    ("easiest", "easiest"),
    ("unsure", "widest band"),
    ("newest", "drawn last"),
    ("surprise", "worst predicted"),
)

Values = dict[str, Any]
Explain = Callable[[Path, str], list[str]]
"""Sentences that say why a prompt of a run is drawn now; made by the curriculum's own code, which is not known here."""


def overview_page(run: Run, query: Mapping[str, str]) -> Values:
    """Is it learning, is it healthy?"""
    metric = query.get("metric", "")
    figures = overview_figures(run)
    if metric in run.columns:
        figures.insert(0, any_metric(run, metric))
    return {
        "figures": figures,
        "tiles": run_tiles(run),
        "alarms": find_alarms(run),
        "metrics": run.columns.names,
        "metric": metric,
    }


def curriculum_page(run: Run, query: Mapping[str, str]) -> Values:
    """What did the sampler choose, and was it right?"""
    first, last = span(run)
    before = whole(query.get("a"), first + (last - first) // 4, first, last)
    after = whole(query.get("b"), last, first, last)
    return {
        "figures": curriculum_figures(run, (min(before, after), max(before, after))),
        "first": first,
        "last": last,
        "before": min(before, after),
        "after": max(before, after),
    }


def prompts_page(run: Run, query: Mapping[str, str], explain: Explain | None) -> Values:
    """Which prompts are stuck? And the history of one."""
    if prompt_id := query.get("id", ""):
        draws = history(run, prompt_id)
        listed = prompt_text(run, prompt_id) or {}
        known = draws[-1] if draws else listed
        if not known:
            raise CheckpointError(f"the run {run.name!r} has no prompt {prompt_id!r}")
        one = {"id": prompt_id, "domain": known["domain"], "tier": known["tier"], "text": listed.get("text")}
        if one["text"] is None and draws:
            one["text"] = read_prompt_text(run.path, prompt_id, draws[-1]["step"])
        why, asked = _why(run, prompt_id, explain) if query.get("why") else ([], "")
        return {"one": one, "draws": draws, "figures": [history_figure(draws)], "why": why, "asked": asked}
    tier = query.get("tier", "")
    chosen = Filter(
        domain=query.get("domain", ""),
        tier=int(tier) if tier in ("-1", "0", "1", "2", "3", "4") else None,
        state=query.get("state", ""),
        least=share(query.get("least"), 0.0),
        most=share(query.get("most"), 1.0),
        text=query.get("text", ""),
        sort=query.get("sort", "draws"),
        page=whole(query.get("page"), 0, 0, 10**6),
    )
    rows, total = prompt_rows(run, chosen)

    def link(page: int) -> str:
        return "?" + urlencode({**{k: v for k, v in query.items() if k != "page"}, "page": page})

    return {
        "one": None,
        "rows": rows,
        "total": total,
        "chosen": chosen,
        "link": link,
        "states": STATES,
        "sorts": SORT_NAMES,
    }


def rollouts_page(run: Run, query: Mapping[str, str]) -> Values:
    """What does the model do?"""
    span_of = iterations(run)
    if not span_of:
        return {"step": None}
    step = nearest(run, whole(query.get("step"), span_of[1], *span_of))
    assert step is not None
    domain, kind, text = query.get("domain", ""), query.get("kind", ""), query.get("text", "")
    colour = query.get("colour", "logprob")
    everywhere = query.get("everywhere") == "1"
    values: Values = {
        "step": step,
        "first": span_of[0],
        "last": span_of[1],
        "domain": domain,
        "kind": kind,
        "text": text,
        "colour": colour,
        "everywhere": everywhere,
        "kinds": GROUP_KINDS,
        "colours": COLOURS,
        "hits": [],
        "reached": 0,
        "groups": [],
        "group_id": query.get("group", ""),
        "responses": [],
        "other_steps": [],
        "difference": None,
        "compared": None,
        "open_thinking": False,
        "pictures": [],
    }
    if everywhere and text:
        values["hits"], values["reached"] = search(run, text, whole(query.get("until"), span_of[1], *span_of))
        return values
    groups = groups_of(run, step, domain=domain, kind=kind, text=text)
    chosen = query.get("group") or _most_mixed(groups)
    responses = group(run, step, chosen, colour) if chosen else []
    if not responses and groups:  # the group is one of another iteration
        chosen = _most_mixed(groups)
        responses = group(run, step, chosen, colour)
    values |= {"groups": groups, "group_id": chosen, "responses": responses}
    if responses:
        values["pictures"] = pictures(run, responses[0].row)
        values["other_steps"] = steps_of(run, chosen)
        values["open_thinking"] = max(len(shown.row["response"]) for shown in responses) < 600
        other = whole(query.get("with"), -1, -1, 10**9)
        if other in values["other_steps"] and other != step and (before := group(run, other, chosen, "none")):
            old, new = differences(before[0].row["response"], responses[0].row["response"])
            values["compared"] = other
            values["difference"] = {
                "before": old,
                "after": new,
                "before_reward": before[0].row["reward"],
                "after_reward": responses[0].row["reward"],
            }
    return values


def rewards_page(run: Run, query: Mapping[str, str]) -> Values:
    """Can the score be trusted?"""
    limits = run.config.logging.alarms if run.config else AlarmConfig()
    sample = newest(run, limits.window)
    reasons: Counter[tuple[str, str]] = Counter()
    for row in sample.rows:
        if row["reward"] is not None and row["reward"] <= 0:
            reasons[row["domain"], (row["detail"] or "no reason given")[:200]] += 1
    return {
        "figures": reward_figures(run, sample),
        "verifiers": verifier_rows(run, limits.window),
        "slowest": slowest(sample),
        "window": limits.window,
        "alarms": find_alarms(run, sample),
        "sample": sample,
        "reasons": reasons.most_common(16),
        "answers": {domain: answers.most_common(6) for domain, answers in sorted(sample.answers.items())},
    }


def system_page(run: Run, query: Mapping[str, str]) -> Values:
    """What is it doing now, on what, with which settings?"""
    newest_row = newest(run, 1).rows
    return {
        "figures": system_figures(run),
        "checkpoints": checkpoints(run),
        "starts": starts(run),
        "settings": settings(run),
        "summary": run.summary,
        "actors": read_actors(run.path),
        "faults": faults(run),
        "responses_in_newest": len(newest_row),
    }


def page_values(run: Run, page: str, query: Mapping[str, str], explain: Explain | None = None) -> Values:
    """Everything that the template of a page takes.

    Raises:
        CheckpointError: the address names something that the run has not.
    """
    values: Values = {
        "run": run,
        "title": f"{run.name}: {dict(PAGES)[page]}",
        "heading": run.name,
        "page": page,
        "pages": PAGES,
        "state": run.state,
        "version": run.version,
    }
    if page == "prompts":
        values |= prompts_page(run, query, explain)
    else:
        values |= BUILDERS[page](run, query)
    return values | {"notes": run.notes}  # last: reading may have found damaged files


BUILDERS: dict[str, Callable[[Run, Mapping[str, str]], Values]] = {
    "overview": overview_page,
    "curriculum": curriculum_page,
    "rollouts": rollouts_page,
    "rewards": rewards_page,
    "system": system_page,
}


def _why(run: Run, prompt_id: str, explain: Explain | None) -> tuple[list[str], str]:
    """What the curriculum says of a prompt, or why it says nothing."""
    if explain is None:
        return [], f"Ask with: rlcs curriculum {run.path} --prompt {prompt_id}"
    try:
        return explain(run.path, prompt_id), ""
    except RLCSError as error:
        return [], str(error)


def _most_mixed(groups: list[GroupRow]) -> str:
    """The group whose mean reward is nearest to one half, of those with tokens if there are any: there is most to see."""
    if not groups:
        return ""
    seen = [row for row in groups if row.has_tokens] or groups
    return min(seen, key=lambda row: abs(sum(row.rewards) / len(row.rewards) - 0.5)).prompt_id


def whole(text: str | None, otherwise: int, least: int, most: int) -> int:
    """A whole number of an address, within limits; `otherwise` where it is none."""
    try:
        value = int(text) if text else otherwise
    except ValueError:
        value = otherwise
    return max(least, min(most, value))


def share(text: str | None, otherwise: float) -> float:
    """A number from 0 to 1 of an address."""
    try:
        value = float(text) if text else otherwise
    except ValueError:
        value = otherwise
    return value if 0 <= value <= 1 else otherwise
