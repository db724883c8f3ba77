"""Templates, and the filters that they use. All text is escaped: Jinja's autoescape is on for every template."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from rlcs.dashboard.figures.figure import Figure
from rlcs.dashboard.terminal import STAGES, duration
from rlcs.runlog import shortened
from rlcs.types import TIER_NAMES


@cache
def environment() -> jinja2.Environment:
    """The templates of this package."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("rlcs.dashboard", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "ago": lambda when: f"{duration(time.time() - when)} ago",
        "duration": duration,
        "stage": lambda stage: STAGES.get(stage, stage),
        "json_script": json_script,
        "tier": tier_name,
        "shorten": shortened,
        "around": around,
        "fifth": lambda reward: max(0, min(4, int(reward * 5 - 1e-9))),
        "percent": lambda value, digits=0: "–" if value is None else f"{100 * value:.{digits}f} %",
        "number": plain_number,
    }
    env.globals["now"] = time.time
    return env


def json_script(figures: Sequence[Figure]) -> Markup:
    """Figures as JSON inside of a script element, which nothing in them can end."""
    return embedded([figure.as_json() for figure in figures])


def embedded(value: Any) -> Markup:
    """JSON that may stand inside of a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 is escaped by itself
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # nosec B704 # noqa: S704


def around(text: str, wanted: str, width: int = 120) -> str:
    """The part of a text around the first place that holds `wanted`."""
    place = max(0, text.lower().find(wanted.lower()))
    start, end = max(0, place - width), place + len(wanted) + width
    return ("… " if start else "") + text[start:end] + (" …" if end < len(text) else "")


def tier_name(tier: int | None) -> str:
    """What a tier is called."""
    return "ungraded" if tier is None or not 0 <= tier < len(TIER_NAMES) else TIER_NAMES[tier]


def plain_number(value: float | None, form: str = "{:.3g}") -> str:
    """A number for a table; a dash where there is none."""
    return "–" if value is None else form.format(value)
