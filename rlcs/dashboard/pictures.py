"""The pictures of a prompt, with the boxes of the reference and of a response drawn on them.

Coordinates are thousandths of the picture's width and height, as GLM-4.1V gives them; numbers up to 1 are shares.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcs.dashboard.store import Run

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_MOST_BOXES = 20


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a box of 1000 by 1000."""

    x: float
    y: float
    width: float
    height: float
    text: str = ""
    """The coordinates as they were written."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be shown."""

    source: str
    """Address, or the data itself."""
    reference: list[Box]
    predicted: list[Box]
    caption: str = ""
    """Where it comes from, if it is a frame of a video."""


def pictures(run: Run, row: Mapping[str, Any], *, inline: bool = False, most: int = 64) -> list[Picture]:
    """At most so many pictures of the prompt of a response (a row of `groups`), then the frames of its videos.

    `inline`: the files themselves, for a report.
    """
    reference = boxes(row["answer"] or "")
    predicted = answered_boxes(first_turn(row)) if reference else []
    videos = row.get("videos") or []
    digests = list(row.get("images") or [])
    shown = [(digest, "") for digest in digests[: len(digests) - len(videos)]] if videos else [(d, "") for d in digests]
    for number, frames in enumerate(videos, 1):
        which = f"Video {number}" if len(videos) > 1 else "Video"
        shown += [(frame["frame"], f"{which}, {frame['seconds']:.3g} s") for frame in frames]
    found = []
    for digest, caption in shown[:most]:
        source = picture_source(run, digest, inline=inline)
        if source is not None:
            found.append(Picture(source, reference, predicted, caption))
    return found


def picture_source(run: Run, digest: str, *, inline: bool = False) -> str | None:
    """The address of a picture that was kept, or the file itself; None where it was not."""
    path = picture_path(run, digest)
    if path is None:
        return None
    if inline:
        return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    return f"/runs/{run.name}/images/{digest}.jpg"


def first_turn(row: Mapping[str, Any]) -> str:
    """The text of a response up to what the environment first said: what answers the prompt's own pictures."""
    observations = row.get("observations") or []
    text: str = row["response"]
    return text[: observations[0]["text_start"]] if observations else text


def answered_boxes(response: str) -> list[Box]:
    """The boxes of a response's answer; what stands in its thinking does not count."""
    return boxes(response.rpartition("</think>")[2])


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0.0, width) * max(0.0, height)
    union = one.width * one.height + other.width * other.height - shared
    return shared / union if union > 0 else 0.0


def box_rows(answer: str, response: str) -> list[tuple[str, str, float | None]]:
    """Each reference box, the answered box beside it that overlaps most, and by how much; then answered boxes left over.

    Empty texts stand for what is missing. No rows where the reference has no box.
    """
    reference, predicted = boxes(answer), answered_boxes(response)
    rows: list[tuple[str, str, float | None]] = []
    if not reference:
        return rows
    left = list(predicted)
    for box in reference:
        best = max(left, key=lambda other: overlap(box, other), default=None)
        rows.append((box.text, "" if best is None else best.text, None if best is None else overlap(box, best)))
        if best is not None:
            left.remove(best)
    return rows + [("", box.text, None) for box in left]


def picture_path(run: Run, digest: str) -> Path | None:
    """The file of a picture, or None; the digest can name nothing else."""
    path = run.path / "rollouts" / "images" / f"{digest}.jpg"
    return path if _DIGEST.fullmatch(digest) and path.is_file() and not path.is_symlink() else None


def boxes(text: str) -> list[Box]:
    """All boxes [x1, y1, x2, y2] of a text, in thousandths."""
    found = []
    for match in list(_BOX.finditer(text or ""))[:_MOST_BOXES]:
        x1, y1, x2, y2 = (float(number) for number in match.groups())
        scale = 1000.0 if max(x1, y1, x2, y2) <= 1 else 1.0
        left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        box = Box(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale, match[0])
        found.append(box)
    return found
