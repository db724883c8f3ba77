"""Small copies of the pictures that prompts and observations show, once each in rollouts/images/ for whoever looks at a run."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from rlcs.images import ImageError
from rlcs.types import Group, Image

logger = logging.getLogger(__name__)

LONGEST_SIDE = 640
"""Pixels."""
MOST_FRAMES = 8
"""Frames of a video that are kept."""


def pictures_of(group: Group) -> list[Image]:
    """The pictures of a group's prompt, and the first frame of each of its videos."""
    return [*group.prompt.images, *(video.frames[0] for video in group.prompt.videos)]


def frames_of(group: Group) -> list[list[tuple[Image, float]]]:
    """Some frames of each video of a group's prompt, evenly spread, the first and the last among them, with seconds."""
    videos = []
    for video in group.prompt.videos:
        last = len(video.frames) - 1
        count = min(MOST_FRAMES, last + 1)
        places = sorted({round(i * last / max(1, count - 1)) for i in range(count)})
        videos.append([(video.frames[place], place / video.fps) for place in places])
    return videos


def save_pictures(folder: Path, groups: Sequence[Group]) -> None:
    """Write DIGEST.jpg for each picture of the groups that is not there yet; one that cannot be decoded is left out."""
    shown = [image for group in groups for image in pictures_of(group)]
    shown += [frame for group in groups for frames in frames_of(group) for frame, _ in frames]
    shown += [image for group in groups for r in group.responses for each in r.observations for image in each.images]
    for image in {image.digest: image for image in shown}.values():
        path = folder / f"{image.digest}.jpg"
        if path.exists():
            continue
        try:
            picture = image.open()
        except ImageError as error:
            logger.warning("the picture %s is not kept for the run's readers: %s", image.digest, error)
            continue
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80)
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.tmp")
        beside.write_bytes(data.getvalue())
        os.replace(beside, path)
