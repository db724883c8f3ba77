"""The pictures of a prompt, with the boxes of the reference and of a response drawn on them.

Coordinates are thousandths of the picture's width and height, as GLM-4.1V gives them; numbers up to 1 are shares.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be shown."""

    source: str
    """Address, or the data itself."""
    reference: list[Box]
    predicted: list[Box]


def pictures(
    run: Run, digests: Sequence[str] | None, answer: str, response: str, *, inline: bool = False
) -> list[Picture]:
    """The pictures of a prompt; `inline`: the files themselves, for a report."""
    reference = boxes(answer)
    predicted = boxes(response.rpartition("</think>")[2]) if reference else []
    found = []
    for digest in digests or []:
        path = picture_path(run, digest)
        if path is not None:
            source = f"/runs/{run.name}/images/{digest}.jpg"
            if inline:
                source = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
            found.append(Picture(source, reference, predicted))
    return found


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
        found.append(Box(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale))
    return found
