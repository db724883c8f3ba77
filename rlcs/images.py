"""Encoded pictures as RGB pixels, and back: what can be wrong with a picture is said in one line.

A picture may come from anywhere, so only a few formats are tried (none that runs another program), and its size is
checked before a pixel is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rlcs.errors import DataError, first_line

if TYPE_CHECKING:
    import PIL.Image

MAX_PIXELS = 64_000_000
"""A picture of more is refused where no other limit is given: 192 MB as RGB."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_DEFAULT_FRAME_MS = 100
"""What a browser takes for a frame without a duration."""


class ImageError(DataError):
    """A picture or a video that cannot be used."""


class Frames(NamedTuple):
    """An animated picture taken apart."""

    images: list[PIL.Image.Image]
    """RGB."""
    fps: float
    """Frames a second, by the mean duration of a frame."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> PIL.Image.Image:
    """The RGB picture of an encoded file: upright, transparent parts white, 16 bits a channel brought to 8.

    Raises:
        ImageError: it is empty, of an unknown format, animated, larger than `max_pixels`, truncated or damaged.
    """
    image = _open(data, max_pixels)
    # Phones write JPEG files with a second picture (MPO), a preview or the other eye's: the first is meant.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ImageError(
            f"it is animated or has several pages ({frames} frames): a picture has one, frames are a video"
        )
    return _to_rgb(image)


def decode_frames(data: bytes, max_pixels: int = MAX_PIXELS, max_frames: int = 256) -> Frames:
    """The frames of an animated GIF, WebP or PNG file; a still picture is one frame.

    Raises:
        ImageError: as `decode`, or it has more than `max_frames` frames.
    """
    image = _open(data, max_pixels)
    count = getattr(image, "n_frames", 1)
    if count > max_frames:
        raise ImageError(f"it has {count} frames, more than the limit of {max_frames}")
    images, total_ms = [], 0.0
    for frame in _frames(image, count):
        images.append(_to_rgb(frame.copy()))
        total_ms += float(frame.info.get("duration") or _DEFAULT_FRAME_MS)
    return Frames(images, 1000.0 * count / total_ms)


def encode_png(image: PIL.Image.Image) -> bytes:
    """The picture as a PNG file; the same pixels give the same bytes."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _open(data: bytes, max_pixels: int) -> PIL.Image.Image:
    """The picture with its size checked and nothing decoded."""
    import PIL.Image

    if not data:
        raise ImageError("it is empty")
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(f"it has too many pixels, the limit is {max_pixels:,}") from error
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"it is no picture of a known format ({', '.join(_FORMATS)})") from error
    except Exception as error:  # Pillow's decoders raise errors of a dozen roots on damaged files
        raise ImageError(f"it is damaged: {first_line(error)}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"it has {width} x {height} pixels, the limit is {max_pixels:,}")
    return image


def _frames(image: PIL.Image.Image, count: int) -> Iterator[PIL.Image.Image]:
    for index in range(count):
        try:
            image.seek(index)
            image.load()
        except Exception as error:  # as above
            raise ImageError(f"frame {index + 1} is truncated or damaged: {first_line(error)}") from error
        yield image


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    import PIL.Image
    import PIL.ImageOps

    try:
        image.load()
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits, or 32 of which 16 are used
            return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = PIL.Image.new("RGBA", image.size, "white")
            return PIL.Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")
    except Exception as error:  # as above
        raise ImageError(f"it is truncated or damaged: {first_line(error)}") from error
