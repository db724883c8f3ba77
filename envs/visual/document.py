"""Find a value in a document of one to several pages; some questions need two pages, some have no answer."""

from __future__ import annotations

import random
from typing import Any, ClassVar, Literal

import PIL.Image
from pydantic import Field, model_validator

from rlcs.envs.visual.canvas import Canvas
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask

Ask = Literal["value", "page", "titled", "sum", "missing"]

_TITLES = ("Bill", "Order", "Report", "Ticket", "Offer", "Letter")
_NUMBERS = ("Total", "Tax", "Items", "Age", "Room", "Price", "Seat", "Gate", "Weight", "Points", "Year", "Fee")
_TEXTS = {
    "Name": ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay"),
    "City": ("Rome", "Oslo", "Lima", "Bonn", "Kyiv", "Cairo"),
    "Color": ("red", "blue", "green", "black", "white"),
    "Day": ("Monday", "Tuesday", "Friday", "Sunday"),
    "Month": ("March", "April", "June", "August"),
    "Drink": ("tea", "milk", "water", "juice"),
}
_KEYS = (*_NUMBERS, *_TEXTS)


class DocumentParams(Params):
    """Parameters of a level of `document`."""

    pages: int = Field(1, ge=1, le=6, description="Pages; each is a picture.")
    rows: int = Field(2, ge=2, le=8, description="Rows of a page.")
    asks: list[Ask] = Field(
        ["value"],
        min_length=1,
        description="Kinds of questions: value (of a row that comes once), page (that has a row), titled (of a row that "
        "every page has, by the page's title), sum (over all pages), missing (not answerable).",
    )
    largest: int = Field(9, ge=9, le=9999, description="Largest number.")

    @model_validator(mode="after")
    def _fits(self) -> DocumentParams:
        if self.pages * self.rows > len(_KEYS) - 1 and set(self.asks) & {"value", "page", "missing"}:
            raise ValueError(f"{self.pages} pages of {self.rows} rows have more than {len(_KEYS) - 1} different rows")
        if self.pages == 1 and set(self.asks) & {"page", "titled", "sum"}:
            raise ValueError("page, titled and sum are asked of two pages or more")
        return self


class Document(VisualTask[DocumentParams]):
    """Pages with a title and rows of a key and a value."""

    verifier = "long_document"
    params = DocumentParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rows": 4, "largest": 99},
        {"pages": 2, "rows": 3, "asks": ["value", "page"], "largest": 99},
        {"size": 140, "pages": 3, "rows": 4, "asks": ["value", "titled", "page", "missing"], "largest": 999},
        {"size": 140, "pages": 4, "rows": 4, "asks": ["titled", "sum", "missing", "value"], "largest": 999},
    )

    def sample(self, rng: random.Random, params: DocumentParams) -> Sample:
        ask = rng.choice(params.asks)
        titles = rng.sample(_TITLES, params.pages)
        if ask in ("titled", "sum"):
            keys = rng.sample(_KEYS, params.rows - 1)
            # All pages have the same rows; one at least is a number.
            keys.append(rng.choice([key for key in _NUMBERS if key not in keys]))
            of_page = [rng.sample(keys, len(keys)) for _ in titles]
        else:
            keys = rng.sample(_KEYS, params.pages * params.rows)
            of_page = [keys[i :: params.pages] for i in range(params.pages)]
        largest = min(params.largest, 99) if ask == "sum" else params.largest
        rows = [[[key, _value(rng, key, largest)] for key in page] for page in of_page]
        scenes = tuple(
            {"size": params.size, "title": title, "rows": page, "page": [number + 1, params.pages]}
            for number, (title, page) in enumerate(zip(titles, rows, strict=True))
        )
        question, answer, thinking = _ask(ask, rng, titles, rows)
        return Sample(question, answer, thinking, scenes)

    def paint(self, scene: Scene) -> PIL.Image.Image:
        size, rows = scene["size"], scene["rows"]
        canvas = Canvas(size, background=(253, 253, 250))
        height = 800 // (len(rows) + 1)
        longest = max(len(key) + len(value) + 2 for key, value in rows)
        pixels = max(8.0, min(height * 0.62 * size / 1000, size * 0.9 / (0.62 * longest), size * 0.14))
        canvas.text((500, 75), scene["title"], min(pixels * 1.15, size * 0.11), font="bold")
        canvas.line([(60, 140), (940, 140)], "black")
        for index, (key, value) in enumerate(rows):
            y = 150 + (index + 0.7) * height
            canvas.text((60, y), f"{key}:", pixels, (60, 60, 60), anchor="lm")
            canvas.text((940, y), value, pixels, anchor="rm")
        number, total = scene["page"]
        if total > 1:
            canvas.text((500, 945), f"page {number} of {total}", max(8.0, size * 0.065), (90, 90, 90))
        return canvas.image()


def _value(rng: random.Random, key: str, largest: int) -> str:
    if key in _TEXTS:
        return rng.choice(_TEXTS[key])
    return str(rng.randint(1990, 2029)) if key == "Year" else str(rng.randint(1, largest))


def _ask(ask: Ask, rng: random.Random, titles: list[str], rows: list[list[list[str]]]) -> tuple[str, str, str]:
    """Question, answer and thinking."""
    page = rng.randrange(len(rows))
    key, value = rng.choice(rows[page])
    if ask == "value":
        return f"What is the value of {key}?", value, f"page {page + 1}, {key}"
    if ask == "page":
        return f"On which page is {key}? Give the number.", str(page + 1), f"{key} in {titles[page]}"
    if ask == "titled":
        return f"What is the value of {key} in the {titles[page]}?", value, f"page {page + 1}, {key}"
    if ask == "missing":
        taken = {key for page_rows in rows for key, _ in page_rows}
        absent = rng.choice([key for key in _KEYS if key not in taken])
        question = f"What is the value of {absent}? If the pages do not say, answer: Not answerable."
        # Half of such questions have an answer, so that the question does not give it away.
        if rng.random() < 0.5:
            return question.replace(absent, key), value, f"page {page + 1}, {key}"
        return question, "Not answerable", f"no {absent}"
    number_keys = [key for key, _ in rows[0] if key in _NUMBERS and key != "Year"]
    key = rng.choice(number_keys or [next(key for key, _ in rows[0] if key in _NUMBERS)])
    found = [next(value for name, value in page_rows if name == key) for page_rows in rows]
    total = sum(int(value) for value in found)
    return f"What is the sum of {key} over all pages?", str(total), f"{'+'.join(found)}={total}"
