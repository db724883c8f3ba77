"""The pictures and videos of a row: read, checked and put where the messages stand for them.

| column | holds |
|---|---|
| `images` | a picture, or a list of pictures |
| `videos` | a video, or a list of videos |

A picture is a path (relative to the folder of the dataset's file), bytes, `{"bytes": ..., "path": ...}` as the `datasets`
library writes it, or a `data:` address. A video is a folder of frames, in the order of their names; an animated GIF, WebP or
PNG file; `{"frames": [pictures], "fps": ...}`; or a list of pictures, which stands inside of the list of videos.

Every picture is decoded once when the dataset is loaded, so that a bad one is found then. One in a file of its own is not
kept: it is read again when it is needed, and must not have changed.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rlcs.config import DataConfig
from rlcs.data_rows import RowProblem, to_prompt, with_system
from rlcs.errors import DataError
from rlcs.images import ImageError, decode, decode_frames, encode_png
from rlcs.json_text import parse_json
from rlcs.types import Image, Message, Prompt, Video, prompt_id

_MAX_FILE_BYTES = 256 * 1024 * 1024
_DATA_ADDRESS = re.compile(r"data:image/[a-z.+-]+;base64,")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_FILMS = frozenset({".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"})
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_MAX_FPS = 1000.0


@dataclass(frozen=True, slots=True)
class MediaReader:
    """Reads the pictures and videos of the rows of one dataset."""

    images: str
    """What the dataset calls the column of pictures."""
    videos: str
    """What the dataset calls the column of videos."""
    folder: Path
    """Paths in the dataset are relative to it."""
    max_pixels: int
    """Largest picture and frame."""
    max_frames: int
    """Longest video."""
    fps: float
    """Frames a second of a video that does not say."""

    @classmethod
    def of(cls, config: DataConfig, folder: Path) -> MediaReader:
        """The reader of a dataset in `folder`, as the configuration has it."""
        return cls(
            config.columns.get("images", "images"),
            config.columns.get("videos", "videos"),
            folder,
            config.max_image_pixels,
            config.max_video_frames,
            config.video_fps,
        )

    def read_images(self, value: Any) -> tuple[Image, ...]:
        """The pictures of a row's column.

        Raises:
            RowProblem: one is missing, cannot be decoded, is animated or too large.
        """
        value = _from_json(value)
        if value is None or value == "":
            return ()
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(self._image(item, _name(self.images, i, len(values))) for i, item in enumerate(values))

    def read_videos(self, value: Any) -> tuple[Video, ...]:
        """The videos of a row's column.

        Raises:
            RowProblem: one has no frames or too many, or frames of several sizes, or a frame is as in `read_images`.
        """
        value = _from_json(value)
        if value is None or value == "":
            return ()
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(self._video(item, _name(self.videos, i, len(values))) for i, item in enumerate(values))

    def absolute(self, value: Any) -> Any:
        """The value of one of the two columns with absolute paths, for a copy of the row in another folder."""
        value = _from_json(value)
        if isinstance(value, str):
            return value if _DATA_ADDRESS.match(value) else str(self.folder / Path(value).expanduser())
        if isinstance(value, list | tuple):
            return [self.absolute(item) for item in value]
        if isinstance(value, Mapping) and isinstance(value.get("path"), str) and value.get("bytes") is None:
            return {**value, "path": self.absolute(value["path"])}
        if isinstance(value, Mapping) and value.get("frames") is not None:
            return {**value, "frames": self.absolute(value["frames"])}
        return value

    def _image(self, value: Any, where: str) -> Image:
        if isinstance(value, Mapping) and value.get("bytes") is None:
            value = value.get("path")
        if value is None:
            raise RowProblem(f"{where} is missing")
        if isinstance(value, str) and not _DATA_ADDRESS.match(value):
            path = self._path(value, where)
            data = _read(path, where)
            image = self._checked(data, where)
            return replace(image, source=partial(read_again, str(path), image.digest))
        return self._checked(_bytes_of(value, where), where)

    def _checked(self, data: bytes, where: str) -> Image:
        try:
            return replace(Image.of(data), size=decode(data, self.max_pixels).size)
        except ImageError as error:
            raise RowProblem(f"{where}: {error}") from error

    def _video(self, value: Any, where: str) -> Video:
        fps: Any = None
        if isinstance(value, Mapping) and value.get("frames") is not None:
            value, fps = value["frames"], value.get("fps")
        if isinstance(value, str) and not _DATA_ADDRESS.match(value):
            path = self._path(value, where)
            if path.is_dir():
                value = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in _PICTURES)
        if isinstance(value, list | tuple):
            self._check_count(len(value), where)
            frames = tuple(self._image(item, f"{where}, frame {i + 1}") for i, item in enumerate(value))
            found = self.fps
        else:
            frames, found = self._animation(value, where)
        sizes = {frame.size or frame.open().size for frame in frames}
        if len(sizes) > 1:
            shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
            raise RowProblem(f"{where} has frames of several sizes: {shown}")
        return Video(frames, found if fps is None else _check_fps(fps, where))

    def _animation(self, value: Any, where: str) -> tuple[tuple[Image, ...], float]:
        """Frames and frames a second of an animated picture. The frames are kept, encoded one by one."""
        if isinstance(value, Mapping) and value.get("bytes") is None:
            value = value.get("path")
        if value is None:
            raise RowProblem(f"{where} is missing")
        if isinstance(value, str) and not _DATA_ADDRESS.match(value):
            path = self._path(value, where)
            if path.suffix.lower() in _FILMS:
                raise RowProblem(
                    f"{where}: {path.suffix} files are not decoded: give a folder of frames, or an animated picture"
                )
            data = _read(path, where)
        else:
            data = _bytes_of(value, where)
        try:
            images, fps = decode_frames(data, self.max_pixels, self.max_frames)
        except ImageError as error:
            raise RowProblem(f"{where}: {error}") from error
        if len(images) == 1:
            raise RowProblem(
                f"{where} is a still picture; the frames of a video are a list inside of the list of videos"
            )
        return tuple(replace(Image.of(encode_png(image)), size=image.size) for image in images), fps

    def _check_count(self, count: int, where: str) -> None:
        if count == 0:
            raise RowProblem(f"{where} has no frames")
        if count > self.max_frames:
            raise RowProblem(f"{where} has {count} frames, more than data.max_video_frames ({self.max_frames})")

    def _path(self, value: str, where: str) -> Path:
        if _ADDRESS.match(value):
            raise RowProblem(f"{where} is an address, {value[:60]!r}: download it and give its path")
        if "\0" in value:
            raise RowProblem(f"{where} is no path")
        path = self.folder / Path(value).expanduser()
        try:
            exists = path.exists()
        except OSError:  # a name that is too long
            exists = False
        if not exists:
            raise RowProblem(f"{where} is missing: there is no file {str(path)[-200:]}")
        return path


def read_prompt(
    values: Mapping[str, Any],
    columns: Mapping[str, str],
    system_prompt: str | None,
    media: MediaReader,
    *,
    answer_required: bool = True,
) -> Prompt:
    """The prompt of a row with its pictures and videos; see `to_prompt`.

    Pictures that no part and no mark `<image>` of the messages stands for come first in the last message of the user.
    Of a row with one picture, the metadata has `width` and `height` in pixels, unless the row has such columns.

    Raises:
        RowProblem: as `to_prompt`, or a picture or video cannot be used, or there are more or fewer than parts for them.
    """
    prompt = to_prompt(values, columns, None, answer_required=answer_required)
    images = media.read_images(values.get(media.images))
    videos = media.read_videos(values.get(media.videos))
    messages = place_media(prompt.messages, len(images), len(videos))
    if images or videos:
        metadata = prompt.metadata
        if len(images) == 1 and not videos and not {"width", "height"} & metadata.keys():
            width, height = images[0].open().size
            metadata = {**metadata, "width": width, "height": height}
        identity = prompt_id(messages, prompt.answer, images, videos)
        prompt = replace(prompt, id=identity, messages=messages, metadata=metadata, images=images, videos=videos)
    return with_system(prompt, system_prompt)


def place_media(messages: list[Message], num_images: int, num_videos: int) -> list[Message]:
    """The messages with a part for each picture and video; as they are where the parts are there.

    Raises:
        RowProblem: there are parts or marks for another number.
    """
    for kind, count in (("image", num_images), ("video", num_videos)):
        parts = sum(part["type"] == kind for message in messages for part in _parts(message))
        marks = _count_marks(messages, f"<{kind}>") if count and not parts else 0
        if parts and parts != count:
            raise RowProblem(f"the messages have {parts} parts of type {kind}, but the row has {count} {kind}s")
        if marks and marks != count:
            raise RowProblem(f"the messages have {marks} marks <{kind}>, but the row has {count} {kind}s")
        if marks:
            messages = [_split_marks(message, f"<{kind}>", kind) for message in messages]
        elif count and not parts:
            last = max(i for i, message in enumerate(messages) if message["role"] == "user" or i == len(messages) - 1)
            content = messages[last]["content"]
            rest = content if isinstance(content, list) else [{"type": "text", "text": content}]
            messages = [*messages]
            messages[last] = {**messages[last], "content": [*({"type": kind} for _ in range(count)), *rest]}
    return messages


def _parts(message: Message) -> list[dict[str, Any]]:
    return message["content"] if isinstance(message["content"], list) else []


def _texts(message: Message) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _count_marks(messages: Sequence[Message], mark: str) -> int:
    return sum(text.count(mark) for message in messages if message["role"] == "user" for text in _texts(message))


def _split_marks(message: Message, mark: str, kind: str) -> Message:
    """A message of the user with a part in place of each mark."""
    content = message["content"]
    if message["role"] != "user" or not any(mark in text for text in _texts(message)):
        return message
    parts: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        if part["type"] != "text":
            parts.append(part)
            continue
        for index, text in enumerate(part["text"].split(mark)):
            parts += [{"type": kind}] if index else []
            parts += [{**part, "text": text}] if text.strip() else []
    return {**message, "content": parts}


def read_again(path: str, digest: str) -> bytes:
    """The file of a picture that was read before. Raises DataError if it is gone, or is another."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"the picture {path} cannot be read any more: {error.strerror or error}") from error
    if Image.of(data).digest != digest:
        raise DataError(f"the picture {path} has changed since the dataset was loaded: start again")
    return data


def _read(path: Path, where: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise RowProblem(f"{where} is a file of {size:,} bytes, more than {_MAX_FILE_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise RowProblem(f"{where} cannot be read: {error.strerror or error}") from error


def _bytes_of(value: Any, where: str) -> bytes:
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise RowProblem(f"{where} must be a path, bytes or {{bytes, path}}, but is a {type(value).__name__}")
    try:
        return base64.b64decode(_DATA_ADDRESS.sub("", value, count=1), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowProblem(f"{where} is not base64") from error


def _from_json(value: Any) -> Any:
    """What a text that is a JSON list or object holds, as in a CSV file; other values as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:  # a path with a bracket
            return value
    return value


def _check_fps(value: Any, where: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= _MAX_FPS:
        raise RowProblem(f"{where}: fps must be a number above 0 and up to {_MAX_FPS:g}, not {str(value)[:40]!r}")
    return float(value)


def _name(column: str, index: int, count: int) -> str:
    return column if count == 1 else f"{column}[{index}]"
