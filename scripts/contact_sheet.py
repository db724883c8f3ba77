"""Draws a sheet of the visual tasks, a row a task and a column a level: `python scripts/contact_sheet.py OUT.png`.

`--tasks chart gui` draws some tasks only, `--each 3` several pictures a level, one below the other. Each stands with its
question and the reference answer. The sheet in the documentation is made by `--seed 4 docs/visual-tasks.png`.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from pathlib import Path

import PIL.Image
from PIL import ImageDraw

from rlcs.envs.visual.canvas import load_font
from rlcs.envs.visual.env import TASKS, VisualEnv
from rlcs.types import Prompt

CELL, CAPTION, MARGIN = 196, 62, 10


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a sheet of the visual tasks.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--each", type=int, default=1, help="pictures of each level")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    env = VisualEnv()
    rows: list[list[PIL.Image.Image]] = []
    for task in options.tasks:
        columns = []
        for level, params in enumerate(env.levels(task)):
            stream = env.generate(task, params, domain=task, tier=level, seed=options.seed)
            columns.append([draw_cell(prompt, f"{task} {level}") for prompt in itertools.islice(stream, options.each)])
        rows += [list(row) for row in zip(*columns, strict=True)]
    width, height = CELL + MARGIN, CELL + CAPTION + MARGIN
    sheet = PIL.Image.new("RGB", (width * len(rows[0]) + MARGIN, height * len(rows) + MARGIN), (225, 225, 230))
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + x * width, MARGIN + y * height))
    sheet.quantize(96).save(options.path, optimize=True)
    print(f"{options.path}: {sheet.width} x {sheet.height}, {options.path.stat().st_size:,} bytes")


def draw_cell(prompt: Prompt, title: str) -> PIL.Image.Image:
    """A prompt's pictures, several of them smaller and beside each other, above its question and answer."""
    pictures = [image.open() for image in prompt.images]
    for video in prompt.videos:
        pictures += [frame.open() for frame in video.frames]
    cell = PIL.Image.new("RGB", (CELL, CELL + CAPTION), "white")
    columns = next(n for n in range(1, 9) if n * n >= len(pictures))
    side = CELL // columns
    for index, picture in enumerate(pictures):
        small = picture.resize((side - (2 if columns > 1 else 0),) * 2, PIL.Image.Resampling.LANCZOS)
        corner = (index % columns * side, index // columns * side)
        cell.paste(small, corner)
        if columns > 1:
            ImageDraw.Draw(cell).rectangle(
                (*corner, corner[0] + side - 1, corner[1] + side - 1), outline=(190, 190, 200)
            )
    draw = ImageDraw.Draw(cell)
    question = prompt.messages[-1]["content"][-1]["text"].split(" Next action as")[0]
    lines = [*textwrap.wrap(question, 36)[:4]]
    draw.rectangle((0, CELL, CELL, CELL + CAPTION), "white")
    for index, line in enumerate(lines):
        draw.text((4, CELL + 1 + 12 * index), line, "black", load_font("sans", 9))
    answer = prompt.answer.replace('"action_type": ', "").replace('"box_2d": ', "")
    draw.text((4, CELL + CAPTION - 13), answer, (0, 90, 160), load_font("bold", 9 if len(answer) < 34 else 7))
    draw.text((2, 2), title, (150, 150, 150), load_font("sans", 8))
    return cell


if __name__ == "__main__":
    main()
