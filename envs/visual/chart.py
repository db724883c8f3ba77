"""Read bar, line and pie charts: a value, the largest, the year of a value, differences, sums.

Drawn with Pillow, which takes a millisecond; with the parameter `renderer: matplotlib` by matplotlib's own bars, lines and
pies, which takes forty times as long.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import PIL.Image
from pydantic import Field, model_validator

from rlcs.envs.visual.chart_drawing import draw_chart
from rlcs.envs.visual.task import Params, Sample, Scene, VisualTask

Kind = Literal["bar", "line", "pie"]
Ask = Literal["value", "max", "min", "find", "compare", "difference", "sum", "above"]

_NAMES = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus")
_FIRST_YEARS = range(1990, 2021)


class ChartParams(Params):
    """Parameters of a level of `chart`."""

    kinds: list[Kind] = Field(["bar"], min_length=1, description="Kinds of charts: bar, line, pie.")
    asks: list[Ask] = Field(
        ["max"],
        min_length=1,
        description="Kinds of questions: value, max, min, find (which has a value), compare, difference, sum (of all "
        "series), above (how many are over a value).",
    )
    labels: Literal["letters", "names", "years"] = Field("letters", description="What the bars or points are called.")
    least: int = Field(2, ge=2, le=7, description="Fewest bars, points or slices.")
    most: int = Field(3, ge=2, le=7, description="Most of them.")
    series: int = Field(1, ge=1, le=2, description="Series of bars or lines; two come with a legend.")
    top: int = Field(9, ge=4, le=1000, description="Largest value.")
    unit: int = Field(1, ge=1, le=100, description="Values are multiples of it.")
    printed: bool = Field(True, description="Values are written into the chart; there is an axis otherwise.")
    renderer: Literal["pil", "matplotlib"] = Field("pil", description="What draws: matplotlib is much slower.")

    @model_validator(mode="after")
    def _fits(self) -> ChartParams:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is more than most ({self.most})")
        if self.top // self.unit < self.most:
            raise ValueError(f"top / unit ({self.top} / {self.unit}) gives fewer values than most ({self.most})")
        if not self.printed and self.kinds == ["pie"] and not {"max", "min", "compare"} & set(self.asks):
            raise ValueError("a pie without printed values is asked for max, min or compare only")
        return self


class Chart(VisualTask[ChartParams]):
    """Charts with values that can be read off exactly."""

    verifier = "chart"
    params = ChartParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {"asks": ["max", "value"]},
        {"asks": ["max", "min", "value", "find"], "least": 3, "most": 4},
        {
            "size": 140,
            "kinds": ["bar", "line", "pie"],
            "asks": ["value", "max", "min", "find", "compare"],
            "least": 3,
            "most": 4,
            "top": 50,
            "unit": 10,
            "printed": False,
        },
        {
            "size": 168,
            "kinds": ["bar", "line"],
            "asks": ["value", "find", "max", "difference", "above"],
            "labels": "years",
            "least": 4,
            "most": 5,
            "top": 50,
            "unit": 5,
            "printed": False,
        },
        {
            "size": 196,
            "kinds": ["bar", "line"],
            "asks": ["value", "find", "difference", "sum", "above"],
            "labels": "years",
            "least": 4,
            "most": 5,
            "series": 2,
            "top": 100,
            "unit": 5,
            "printed": False,
        },
    )

    def sample(self, rng: random.Random, params: ChartParams) -> Sample:
        kind = rng.choice(params.kinds)
        asks = params.asks
        if kind == "pie" and not params.printed:
            asks = [ask for ask in asks if ask in ("max", "min", "compare")] or ["max"]
        count = rng.randint(params.least, params.most)
        labels = _labels(rng, params.labels, count)
        num_series = 1 if kind == "pie" else params.series
        names = rng.sample(_NAMES, num_series) if num_series > 1 else [""]
        values = [rng.sample(range(params.unit, params.top + 1, params.unit), count) for _ in names]
        if kind == "pie":
            values = [_shares(rng, count)]
        question = _ASKS[rng.choice(asks)](rng, _Data(kind, params.labels == "years", labels, names, values))
        scene: Scene = {
            "size": params.size,
            "kind": kind,
            "labels": labels,
            "names": names,
            "values": values,
            "top": params.top,
            "printed": params.printed,
            "palette": rng.randrange(6),
        }
        if params.renderer != "pil":
            scene["renderer"] = params.renderer
        return Sample(
            question.text, question.answer, question.thinking, (scene,), columns={"kind": question.answer_kind}
        )

    def paint(self, scene: Scene) -> PIL.Image.Image:
        if scene.get("renderer") == "matplotlib":
            from rlcs.envs.visual.chart_matplotlib import draw_with_matplotlib

            return draw_with_matplotlib(scene)
        return draw_chart(scene)


class _Data(NamedTuple):
    kind: Kind
    has_years: bool
    labels: list[str]
    names: list[str]
    """Of the series; one empty text if there is one series."""
    values: list[list[int]]
    """[series][label]"""


class _Question(NamedTuple):
    text: str
    answer: str
    thinking: str
    answer_kind: str
    """As the verifier `chart` has it."""


def _labels(rng: random.Random, kind: str, count: int) -> list[str]:
    if kind == "years":
        first = rng.choice(_FIRST_YEARS)
        return [str(first + i) for i in range(count)]
    if kind == "names":
        return rng.sample(_NAMES, count)
    return [chr(ord("A") + i) for i in range(count)]


def _shares(rng: random.Random, count: int) -> list[int]:
    """Shares of a pie in percent: multiples of 5, all different, so that the eye can tell them apart."""
    while True:
        cuts = sorted(rng.sample(range(1, 20), count - 1))
        shares = [5 * (b - a) for a, b in zip([0, *cuts], [*cuts, 20], strict=True)]
        if len(set(shares)) == count:
            return shares


def _series(rng: random.Random, data: _Data) -> tuple[list[int], str, str]:
    """Values of one series, how the question names it (` of Ann`), and how it says whose value (`Ann's value`)."""
    index = rng.randrange(len(data.names))
    name = data.names[index]
    return data.values[index], f" of {name}" if name else "", f"{name}'s value" if name else "the value"


def _value(rng: random.Random, data: _Data) -> _Question:
    values, of, whose = _series(rng, data)
    index = rng.randrange(len(values))
    label = data.labels[index]
    answer = f"{values[index]}%" if data.kind == "pie" else str(values[index])
    text = f"What was {whose} in {label}?" if data.has_years else f"What is the value of {label}{of}?"
    return _Question(text, answer, f"{label} is {answer}", "value")


def _extreme(largest: bool) -> Callable[[random.Random, _Data], _Question]:
    def ask(rng: random.Random, data: _Data) -> _Question:
        values, of, whose = _series(rng, data)
        index = values.index(max(values) if largest else min(values))
        word = "largest" if largest else "smallest"
        text = f"In which year was {whose} {word}?" if data.has_years else f"Which has the {word} value{of}?"
        thinking = " ".join(str(value) for value in values)
        return _Question(text, data.labels[index], thinking, "year" if data.has_years else "label")

    return ask


def _find(rng: random.Random, data: _Data) -> _Question:
    values, of, whose = _series(rng, data)
    index = rng.randrange(len(values))
    value = f"{values[index]}%" if data.kind == "pie" else str(values[index])
    text = f"In which year was {whose} {value}?" if data.has_years else f"Which has the value {value}{of}?"
    thinking = " ".join(str(value) for value in values[: index + 1])
    return _Question(text, data.labels[index], thinking, "year" if data.has_years else "label")


def _compare(rng: random.Random, data: _Data) -> _Question:
    values, of, _ = _series(rng, data)
    one, other = rng.sample(range(len(values)), 2)
    text = f"Is {data.labels[one]} more than {data.labels[other]}{of}?"
    answer = "yes" if values[one] > values[other] else "no"
    return _Question(text, answer, f"{values[one]} and {values[other]}", "label")


def _difference(rng: random.Random, data: _Data) -> _Question:
    values, of, whose = _series(rng, data)
    one, other = rng.sample(range(len(values)), 2)
    if values[one] < values[other]:
        one, other = other, one
    difference = values[one] - values[other]
    text = f"How much more is {data.labels[one]} than {data.labels[other]}{of}?"
    if data.has_years:
        text = f"How much larger was {whose} in {data.labels[one]} than in {data.labels[other]}?"
    return _Question(text, str(difference), f"{values[one]}-{values[other]}={difference}", "value")


def _sum(rng: random.Random, data: _Data) -> _Question:
    index = rng.randrange(len(data.labels))
    parts = [values[index] for values in data.values]
    label = data.labels[index]
    text = f"What was the sum of {' and '.join(data.names)} in {label}?"
    if len(parts) == 1:  # there is one series: all of its values
        parts, text = data.values[0], "What is the sum of all values?"
    total = sum(parts)
    return _Question(text, str(total), f"{'+'.join(map(str, parts))}={total}", "value")


def _above(rng: random.Random, data: _Data) -> _Question:
    values, of, whose = _series(rng, data)
    bound = rng.choice(sorted(values)[:-1])
    count = sum(value > bound for value in values)
    text = f"How many values{of} are above {bound}?"
    if data.has_years:
        text = f"In how many years was {whose} above {bound}?"
    return _Question(text, str(count), " ".join(str(value) for value in values if value > bound), "count")


_ASKS: dict[str, Callable[[random.Random, _Data], _Question]] = {
    "value": _value,
    "max": _extreme(True),
    "min": _extreme(False),
    "find": _find,
    "compare": _compare,
    "difference": _difference,
    "sum": _sum,
    "above": _above,
}
