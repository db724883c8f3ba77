"""`rlcs report`: the plots of a run, or of several, and a sample of responses, in one HTML file that can be sent.

Everything is inside: the templates, style and scripts are those of the live pages. The file's own
Content-Security-Policy lets nothing run but these scripts, named by their digests, and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rlcs.dashboard.alarms import find_alarms
from rlcs.dashboard.figures.curriculum import curriculum_figures
from rlcs.dashboard.figures.overview import compare_figures, overview_figures
from rlcs.dashboard.figures.rewards import reward_figures
from rlcs.dashboard.groups import GroupRow, Shown, group, groups_of, iterations, nearest
from rlcs.dashboard.held_out import held_out
from rlcs.dashboard.pictures import Picture, pictures
from rlcs.dashboard.render import environment
from rlcs.dashboard.responses import newest
from rlcs.dashboard.store import Run, is_run
from rlcs.dashboard.system import checkpoints, faults, settings, starts
from rlcs.dashboard.tiles import run_tiles
from rlcs.dashboard.verifiers import verifier_rows
from rlcs.errors import CheckpointError, ConfigError
from rlcs.runlog import read_actors

_STATIC = Path(__file__).parent / "static"
_GROUPS = 16
_RESPONSES = 4
_PICTURES = 4
"""Of a prompt."""
_LONGEST = 3000
"""Characters of a response that are kept."""
MOST_BYTES = 10_000_000
_PICTURE_BYTES = 5_000_000
"""Of all pictures as text; groups beyond it are shown without."""


def write_report(run_dirs: Sequence[Path], output: Path) -> int:
    """Write the report of a run, or of several beside each other; returns its size in bytes.

    Raises:
        CheckpointError: a folder is no run, or of a newer schema.
        ConfigError: the file cannot be written.
    """
    runs = [_open(path) for path in run_dirs]
    values = _one(runs[0]) if len(runs) == 1 else _several(runs)
    data = _page(values).encode()
    beside = output.with_name(f".{output.name}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written ({error.strerror or error}): choose another with -o") from error
    return len(data)


def _open(path: Path) -> Run:
    if not is_run(path):
        raise CheckpointError(f"{path} is no run's folder (it has no config.yaml)")
    run = Run(path, path.resolve().name).refresh(force=True)
    if run.problem:
        raise CheckpointError(run.problem)
    return run


def _one(run: Run) -> dict[str, Any]:
    limits = run.config.logging.alarms.window if run.config else 20
    sample = newest(run, limits)
    sections = [
        ("Overview", "Is it learning, is it healthy?", overview_figures(run)),
        ("Curriculum", "What did the sampler choose, and was it right?", curriculum_figures(run)),
        ("Rewards", "Can the score be trusted?", reward_figures(run, sample)),
    ]
    return {
        "title": f"{run.name}: report",
        "heading": run.name,
        "state": run.state,
        "notes": run.notes,
        "tiles": run_tiles(run),
        "alarms": find_alarms(run, sample),
        "sections": sections,
        "figures": [figure for _, _, figures in sections for figure in figures],
        "held_out": held_out(run),
        "verifiers": verifier_rows(run, limits),
        "window": limits,
        "actors": read_actors(run.path),
        "faults": faults(run),
        "examples": examples(run),
        "settings": [(key, value) for key, value, changed in settings(run) if changed],
        "starts": starts(run)[:1],
        "checkpoints": checkpoints(run),
        "table": [],
    }


def _several(runs: Sequence[Run]) -> dict[str, Any]:
    figures = compare_figures(runs, grouped=False, axis="tokens")
    return {
        "title": "Comparison of " + ", ".join(run.name for run in runs),
        "heading": "Comparison",
        "state": None,
        "notes": [note for run in runs for note in run.notes],
        "tiles": [],
        "alarms": [],
        "sections": [("Comparison", "The same numbers of each run, at equal numbers of generated tokens.", figures)],
        "figures": figures,
        "held_out": None,
        "verifiers": [],
        "window": 0,
        "actors": None,
        "faults": [],
        "examples": [],
        "settings": [],
        "starts": [],
        "checkpoints": [],
        "table": [(run.name, run.state, run_tiles(run), len(find_alarms(run))) for run in runs],
    }


def examples(run: Run) -> list[tuple[GroupRow, list[Shown], list[Picture]]]:
    """Groups of the newest iteration: of each domain those with most to see, then the worst; best and worst responses.

    The pictures have the boxes of the reference and of the best response.
    """
    span = iterations(run)
    step = nearest(run, span[1]) if span else None
    if step is None:
        return []
    found = []
    room = _PICTURE_BYTES
    for row in _of_each_domain(groups_of(run, step)):
        responses = group(run, step, row.prompt_id, inline=True)
        half = _RESPONSES // 2
        kept = responses if len(responses) <= _RESPONSES else [*responses[:half], *responses[-half:]]
        seen = pictures(run, responses[0].row, inline=True, most=_PICTURES)
        size = sum(len(picture.source) for picture in seen)
        seen = seen if size <= room else []
        room -= size if seen else 0
        for shown in kept:
            shown.thinking, shown.rest = _cut(shown.thinking), _cut(shown.rest)
            for turn in shown.turns:
                turn.thinking, turn.rest = _cut(turn.thinking), _cut(turn.rest)
                room -= sum(len(picture.source) for picture in turn.pictures)
                turn.pictures = turn.pictures if room > 0 else []
        found.append((row, kept, seen))
    return found


def _of_each_domain(rows: Sequence[GroupRow]) -> list[GroupRow]:
    """At most `_GROUPS` groups, one of each domain before a second of any; sorted by domain."""
    mixed = sorted(rows, key=lambda row: (not row.has_tokens, abs(sum(row.rewards) / len(row.rewards) - 0.5)))
    by_domain: dict[str, list[GroupRow]] = {}
    for domain in sorted({row.domain for row in rows}):
        of_domain = [row for row in mixed if row.domain == domain]
        wrong = [row for row in of_domain[2:] if max(row.rewards) <= 0]
        by_domain[domain] = [*of_domain[:2], *wrong[:1]]
    rounds = [members[place] for place in range(3) for members in by_domain.values() if place < len(members)]
    return sorted(rounds[:_GROUPS], key=lambda row: row.domain)


def _cut(pieces: list[Any]) -> list[Any]:
    kept, left = [], _LONGEST
    for piece in pieces:
        if left <= 0:
            break
        piece.text = piece.text[:left]
        left -= len(piece.text)
        kept.append(piece)
    return kept


def _page(values: dict[str, Any]) -> str:
    style = (_STATIC / "style.css").read_text(encoding="utf-8")
    library = (_STATIC / "vendor" / "echarts.min.js").read_text(encoding="utf-8")
    # The two modules as one: what one exports is there for the other.
    modules = "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in ("charts.js", "page.js"))
    modules = re.sub(r"^import .*;$", "", modules, flags=re.M)
    modules = re.sub(r"^export ", "", modules, flags=re.M)
    policy = (
        f"default-src 'none'; script-src {_digest(library)} {_digest(modules)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    inside = {
        "policy": policy,
        "style": Markup(style),  # nosec B704 # noqa: S704
        "library": Markup(library),  # nosec B704 # noqa: S704
        "modules": Markup(modules),  # nosec B704 # noqa: S704
    }
    return environment().get_template("report.html").render({**values, **inside})


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
