"""Pictures and videos of datasets: every form in which they come, and everything that can be wrong with them."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlcs.config import Config, DataConfig
from rlcs.config_loading import load_config
from rlcs.data import load_splits
from rlcs.data_media import place_media
from rlcs.data_rows import RowProblem
from rlcs.errors import DataError, RLCSError
from rlcs.images import ImageError, decode, decode_frames, encode_png
from rlcs.preflight_rewards import check_rewards
from rlcs.types import Image, Prompt, Video, prompt_id


def picture(color: str = "red", size: tuple[int, int] = (12, 8), mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, color).convert(mode)


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def animation(colors: list[str], kind: str = "GIF", ms: int = 250) -> bytes:
    first, *rest = [picture(color) for color in colors]
    return encoded(first, kind, save_all=True, append_images=rest, duration=ms)


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(train: str, **options: Any) -> list[Prompt]:
    return load_splits(DataConfig(train=train, eval_fraction=0, **options), seed=0).train


def problem(folder: Path, row: dict[str, Any], **options: Any) -> str:
    """The error of a bad second row; the same row is left out where bad rows are skipped."""
    good = {"prompt": "good", "answer": "1"}
    path = write_rows(folder, [good, {"prompt": "What?", "answer": "1", **row}])
    with pytest.raises(DataError) as caught:
        load(path, **options)
    assert [prompt.messages[0]["content"] for prompt in load(path, on_bad_row="skip", **options)] == ["good"]
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2: ") and "\n" not in message
    return message.removeprefix(f"{path}, line 2: ")


# Pictures


def test_picture_beside_the_file_is_shown_before_the_question_and_read_when_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    picture().save(tmp_path / "pictures" / "a.png")
    path = write_rows(tmp_path, [{"prompt": "What?", "answer": "red", "images": "pictures/a.png"}])
    (prompt,) = load(path)
    assert prompt.messages == [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    assert prompt.images[0].open().getpixel((0, 0)) == (255, 0, 0)
    assert (prompt.metadata["width"], prompt.metadata["height"]) == (12, 8)
    assert prompt.id == prompt_id(prompt.messages, "red", prompt.images)
    picture("blue").save(tmp_path / "pictures" / "a.png")
    with pytest.raises(DataError, match=r"a\.png has changed since the dataset was loaded"):
        prompt.images[0].open()
    (tmp_path / "pictures" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png cannot be read any more"):
        prompt.images[0].open()


def parquet_of_structs(folder: Path, files: list[bytes]) -> str:
    type_ = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    images = pa.array([[{"bytes": data, "path": "somewhere.png"}] for data in files], type_)
    table = pa.table({"prompt": ["What?"] * len(files), "answer": ["1"] * len(files), "images": images})
    pq.write_table(table, folder / "rows.parquet")
    return str(folder / "rows.parquet")


def parquet_of_bytes(folder: Path, files: list[bytes]) -> str:
    table = pa.table({"prompt": ["What?"] * len(files), "answer": ["1"] * len(files), "images": files})
    pq.write_table(table, folder / "rows.parquet")
    return str(folder / "rows.parquet")


def saved_dataset(folder: Path, files: list[bytes]) -> str:
    rows = {
        "prompt": ["What?"] * len(files),
        "answer": ["1"] * len(files),
        "images": [[{"bytes": data, "path": None}] for data in files],
    }
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "answer": datasets.Value("string"), "images": [datasets.Image()]}
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder / "rows"))
    return str(folder / "rows")


def jsonl_of_addresses(folder: Path, files: list[bytes]) -> str:
    address = "data:image/png;base64,"
    rows = [{"prompt": "What?", "answer": "1", "images": [address + base64.b64encode(data).decode()]} for data in files]
    return write_rows(folder, rows)


@pytest.mark.parametrize("write", [parquet_of_structs, parquet_of_bytes, saved_dataset, jsonl_of_addresses])
def test_encoded_pictures_are_the_same_prompts_in_every_source(
    tmp_path: Path, write: Callable[[Path, list[bytes]], str]
) -> None:
    files = [encoded(picture(color)) for color in ("red", "blue")]
    prompts = load(write(tmp_path, files))
    assert [prompt.images for prompt in prompts] == [(Image.of(data),) for data in files]
    assert [prompt.images[0].data for prompt in prompts] == files
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    assert [prompt.id for prompt in prompts] == [prompt_id(messages, "1", [Image.of(data)]) for data in files]


def test_csv_names_one_picture_or_a_json_list_and_columns_are_mapped(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture().save(tmp_path / name)
    (tmp_path / "rows.csv").write_text('prompt,answer,image\nx,1,a.png\ny,2,"[""a.png"", ""b.png""]"\nz,3,\n')
    prompts = load(str(tmp_path / "rows.csv"), columns={"images": "image"})
    assert [len(prompt.images) for prompt in prompts] == [1, 2, 0]
    assert prompts[2].messages[0]["content"] == "z" and "width" not in prompts[1].metadata


def test_picture_column_that_is_not_used_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rows.csv").write_text("prompt,answer,image\nx,1,a.png\n")
    with caplog.at_level(logging.WARNING):
        load(str(tmp_path / "rows.csv"))
    assert "set data.columns.images=image" in caplog.text


def test_rows_of_one_question_and_different_pictures_are_different_prompts(tmp_path: Path) -> None:
    for color in ("red", "blue"):
        picture(color).save(tmp_path / f"{color}.png")
    rows = [{"prompt": "What?", "answer": "1", "images": f"{color}.png"} for color in ("red", "blue", "red")]
    prompts = load(write_rows(tmp_path, rows))
    assert len({prompt.id for prompt in prompts}) == len(prompts) == 2


def test_system_prompt_does_not_change_the_id(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    path = write_rows(tmp_path, [{"prompt": "What?", "answer": "1", "images": "a.png"}])
    (with_system,), (without,) = load(path, system_prompt="Be brief."), load(path)
    assert with_system.id == without.id and with_system.messages[1:] == without.messages


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("L", "PNG", (76, 76, 76)),
        ("P", "GIF", (255, 0, 0)),
        ("CMYK", "JPEG", (254, 0, 0)),
        ("1", "PNG", None),
        ("RGBA", "PNG", (255, 0, 0)),
    ],
)
def test_pictures_of_other_modes_are_rgb(mode: str, kind: str, expected: tuple[int, int, int] | None) -> None:
    image = decode(encoded(picture(mode=mode), kind))
    assert image.mode == "RGB"
    if expected is not None:
        found = image.getpixel((5, 5))
        assert isinstance(found, tuple) and max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 2


def test_transparent_is_white_16_bits_become_8_and_turned_pictures_stand_upright() -> None:
    assert decode(encoded(PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    deep = PIL.Image.fromarray(np.full((4, 4), 128 * 256, np.uint16))
    assert decode(encoded(deep)).getpixel((0, 0)) == (128, 128, 128)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert decode(encoded(picture(size=(12, 8)), "JPEG", exif=exif)).size == (8, 12)


def test_first_picture_of_a_phone_with_two_lenses_is_meant() -> None:
    data = encoded(picture("red"), "MPO", save_all=True, append_images=[picture("blue")])
    assert decode(data).getpixel((5, 5)) == (254, 0, 0)


def test_png_bytes_are_a_function_of_the_pixels() -> None:
    assert encode_png(picture()) == encode_png(picture()) != encode_png(picture("blue"))
    assert decode(encode_png(picture())).tobytes() == picture().tobytes()


# Bad pictures


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "images: it is empty"),
        (b"hello", "images: it is no picture of a known format (PNG, JPEG, WEBP, GIF, BMP, TIFF)"),
        (encoded(picture(size=(300, 300)), "JPEG")[:-200], "images: it is truncated or damaged: "),
        (encoded(picture(size=(64, 64)))[:60], "images: it is "),
        (animation(["red", "blue", "green"]), "images: it is animated or has several pages (3 frames)"),
        (animation(["red", "blue"], "TIFF"), "images: it is animated or has several pages (2 frames)"),
        (png_of_size(5000, 5000), "images: it has 5000 x 5000 pixels, the limit is 16,777,216"),
        (png_of_size(100_000, 100_000), "images: it has too many pixels, the limit is 16,777,216"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "images: it is no picture of a known format"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "GIF", "pages", "large", "bomb", "PostScript"],
)
def test_bad_picture_is_refused_with_its_row(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "bad.png").write_bytes(data)
    assert problem(tmp_path, {"images": "bad.png"}).startswith(reason)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ("gone.png", "images is missing: there is no file "),
        (["good.png", None], "images[1] is missing"),
        (["good.png", "https://example.org/a.png"], "images[1] is an address, 'https://example.org/a.png': download"),
        (7, "images must be a path, bytes or {bytes, path}, but is a int"),
        ({"bytes": "???"}, "images is not base64"),
        ({"path": "x" * 5000}, "images is missing: there is no file "),
        ("a\0b", "images is no path"),
        (".", "images cannot be read: Is a directory"),
    ],
)
def test_picture_that_is_not_there_is_refused(tmp_path: Path, images: Any, reason: str) -> None:
    picture().save(tmp_path / "good.png")
    assert problem(tmp_path, {"images": images}).startswith(reason)


def test_limit_of_pixels_is_a_setting(tmp_path: Path) -> None:
    picture(size=(20, 20)).save(tmp_path / "a.png")
    assert "it has 20 x 20 pixels, the limit is 399" in problem(tmp_path, {"images": "a.png"}, max_image_pixels=399)


def test_all_rows_bad_is_an_error_also_where_they_are_skipped(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [{"prompt": "x", "answer": "1", "images": "gone.png"}])
    with pytest.raises(DataError, match="all 1 rows are bad; line 1: images is missing"):
        load(path, on_bad_row="skip")


def box_config(folder: Path, answer: str, on_bad_row: str) -> Config:
    picture(size=(100, 50)).save(folder / "a.png")
    rows = [{"prompt": "Where?", "answer": a, "images": "a.png"} for a in ("[0, 0, 100, 50]", answer)]
    tree = {
        "model": {"init": "tiny"},
        "data": {"train": write_rows(folder, rows), "eval_fraction": 0, "on_bad_row": on_bad_row},
        "reward": {"functions": ["grounding"]},
    }
    (folder / "run.yaml").write_text(json.dumps(tree))
    return load_config(folder / "run.yaml")


@pytest.mark.parametrize("answer", ["[10, 10, 120, 40]", "[-20, 0, 30, 30]", "[[0, 0, 9, 9], [0, 0, 10, 60]]"])
def test_box_outside_of_the_picture_is_refused_with_its_row_or_left_out(tmp_path: Path, answer: str) -> None:
    config = box_config(tmp_path, answer, "error")
    with pytest.raises(RLCSError, match=r"line 2.*lies outside of the image, 100 x 50"):
        check_rewards(config, "math", load_splits(config.data, 0))
    config = box_config(tmp_path, answer, "skip")
    assert len(check_rewards(config, "math", load_splits(config.data, 0)).train) == 1


# Videos


def film(folder: Path, **video: Any) -> Video:
    path = write_rows(folder, [{"prompt": "When?", "answer": "1 s", **video}])
    (prompt,) = load(path)
    assert prompt.messages[0]["content"][0] == {"type": "video"} and not prompt.images
    (found,) = prompt.videos
    assert prompt.id == prompt_id(prompt.messages, "1 s", (), prompt.videos)
    return found


def colors_of(video: Video) -> list[Any]:
    return [frame.open().getpixel((0, 0)) for frame in video.frames]


RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 128, 0)


def test_video_is_a_folder_a_list_a_mapping_or_an_animation(tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    for index, color in enumerate(("red", "blue", "green")):
        picture(color).save(tmp_path / "film" / f"{index}.png")
    (tmp_path / "film" / "notes.txt").write_text("no frame")
    (tmp_path / "film.gif").write_bytes(animation(["red", "blue", "green"]))
    (tmp_path / "film.webp").write_bytes(animation(["red", "blue", "green"], "WEBP"))
    frames = [f"film/{index}.png" for index in range(3)]
    for videos, fps in (
        ("film", 2.0),
        ([frames], 2.0),
        ({"frames": frames, "fps": 5}, 5.0),
        ([{"frames": "film", "fps": 0.5}], 0.5),
        ("film.gif", 4.0),
        (["film.webp"], 4.0),
    ):
        found = film(tmp_path, videos=videos)
        assert found.fps == fps
        assert np.abs(np.array(colors_of(found)) - [RED, BLUE, GREEN]).max() <= 3


@pytest.mark.parametrize(
    ("videos", "reason"),
    [
        ([[]], "videos has no frames"),
        ("empty", "videos has no frames"),
        ({"frames": []}, "videos has no frames"),
        (["a.png"], "videos is a still picture; the frames of a video are a list inside of the list of videos"),
        ("film.mp4", "videos: .mp4 files are not decoded: give a folder of frames, or an animated picture"),
        ([["a.png", "b.png"]], "videos has frames of several sizes: 12 x 8, 20 x 20"),
        ([["a.png"] * 129], "videos has 129 frames, more than data.max_video_frames (128)"),
        ("long.gif", "videos: it has 130 frames, more than the limit of 128"),
        ([["a.png", "gone.png"]], "videos, frame 2 is missing"),
        ({"frames": ["a.png"], "fps": 0}, "videos: fps must be a number above 0"),
        ("cut.gif", "videos: frame "),
        ([None], "videos is missing"),
    ],
)
def test_bad_video_is_refused_with_its_row(tmp_path: Path, videos: Any, reason: str) -> None:
    picture().save(tmp_path / "a.png")
    picture(size=(20, 20)).save(tmp_path / "b.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"film")
    shades = [f"#{index:02x}0000" for index in range(130)]
    (tmp_path / "long.gif").write_bytes(animation(shades))
    noise = [PIL.Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)) for i in range(4)]
    whole = encoded(noise[0], "GIF", save_all=True, append_images=noise[1:], duration=100)
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) * 2 // 3])
    found = problem(tmp_path, {"videos": videos})
    if videos == "cut.gif":  # Pillow may see fewer frames instead, by version
        assert found.startswith("videos")
    else:
        assert found.startswith(reason)


def test_frames_of_an_animation_are_as_it_shows_them() -> None:
    found = decode_frames(animation(["red", "blue"], ms=500))
    assert [image.getpixel((3, 3)) for image in found.images] == [RED, BLUE] and found.fps == 2.0
    with pytest.raises(ImageError, match="empty"):
        decode_frames(b"")


# Where they stand in the messages


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


IMAGE, VIDEO = {"type": "image"}, {"type": "video"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("messages", "counts", "expected"),
    [
        ([user("a")], (0, 0), [user("a")]),
        ([user("<image> is text here")], (0, 0), [user("<image> is text here")]),
        ([user("a")], (2, 1), [user([VIDEO, IMAGE, IMAGE, text("a")])]),
        ([user("<image>a<image>")], (2, 0), [user([IMAGE, text("a"), IMAGE])]),
        ([user("<image>\nx <video> y")], (1, 1), [user([IMAGE, text("\nx "), VIDEO, text(" y")])]),
        ([user([text("a"), IMAGE])], (1, 0), [user([text("a"), IMAGE])]),
        ([user("a"), {"role": "assistant", "content": "b"}, user("c")], (1, 0), None),
    ],
)
def test_places_of_pictures(messages: list[Any], counts: tuple[int, int], expected: list[Any] | None) -> None:
    found = place_media(messages, *counts)
    if expected is None:
        expected = [*messages[:2], user([IMAGE, text("c")])]
    assert found == expected


@pytest.mark.parametrize(
    ("messages", "counts", "reason"),
    [
        ([user([IMAGE, text("a")])], (0, 0), "1 parts of type image, but the row has 0 images"),
        ([user([IMAGE, text("a")])], (2, 0), "1 parts of type image, but the row has 2 images"),
        ([user("<image><image>")], (1, 0), "2 marks <image>, but the row has 1 images"),
        ([user([VIDEO])], (1, 0), "1 parts of type video, but the row has 0 videos"),
    ],
)
def test_number_of_places_must_be_that_of_pictures(messages: list[Any], counts: tuple[int, int], reason: str) -> None:
    with pytest.raises(RowProblem, match=reason):
        place_media(messages, *counts)


def test_graded_dataset_in_another_folder_keeps_its_pictures(tmp_path: Path) -> None:
    from rlcs.grading.dataset import dataset_source, prompts_source, write_graded

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    picture().save(tmp_path / "a" / "red.png")
    path = write_rows(tmp_path / "a", [{"prompt": "What?", "answer": "1", "images": ["red.png"]}])
    config = DataConfig(train=path, eval_fraction=0)
    prompts = load_splits(config, 0).train
    for number, source in enumerate((dataset_source(config), prompts_source(prompts, None))):
        graded = tmp_path / "b" / f"{number}.parquet"
        assert write_graded(source, {prompts[0].id: 0}, {"tier": np.array([3])}, graded, {}) == 1
        (found,) = load(str(graded))
        assert (found.id, found.images, found.tier) == (prompts[0].id, prompts[0].images, 3)
        assert found.images[0].data == prompts[0].images[0].data
