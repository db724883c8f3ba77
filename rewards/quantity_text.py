r"""Quantities out of text, `5.0\times10^3\ \mathrm{m/s}`, one or several.

    answer    = quantity {("," | ";" | "and" | "or") quantity}
    quantity  = [name ("=" | ":")] [formula without digits "="] [about] (value | vector) [unit] [direction]
    vector    = "(" component {"," component} ")" | 3\hat{i} + 4\hat{j}

The value is everything that is a number by `rlcs.rewards.mathtext`; the unit is what follows and is read by
`rlcs.rewards.units`. Whatever holds anything else is no quantity.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from rlcs.rewards.directions import split_direction
from rlcs.rewards.marks import plain_superscripts, without_invisible
from rlcs.rewards.mathtext.numbers import Number
from rlcs.rewards.quantities import Quantities, Quantity
from rlcs.rewards.unit_conversion import DimensionError, Unit, convert
from rlcs.rewards.units import UnitTextError, read_unit
from rlcs.rewards.value_text import QuantityTextError, closing_bracket, read_value, split_value

MAX_CHARACTERS = 500
_MAX_ITEMS = 32
_MARKUP = re.compile(r"\$|\\[()]|\\[\[\]]|\\(?:left|right|displaystyle|bigl|bigr|big|Big)(?![A-Za-z])")
_BOXED = re.compile(r"^\\f?boxed\s?\{(.*)\}$")
_OPENING_ANGLE = re.compile(r"\\langle(?![A-Za-z])\s?|[⟨〈]")
_CLOSING_ANGLE = re.compile(r"\s?\\rangle(?![A-Za-z])|[⟩〉]")
_SPACING = re.compile(r"\\[,;:!> ]|~|\\(?:quad|qquad)(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:,|\{,\})\d{3})+)(?![\d,])")
_DEGREES = re.compile(r"\b(?:deg|degrees?)\s(?=(?:[CF]|[Cc]elsius|[Ff]ahrenheit)\b)")
_LIGHT_YEAR = re.compile(r"\blight[\s-]year")
_LETTER_TIMES = re.compile(r"(?<=\d)\s?[xX]\s?(?=10\s?\^)")
_ABOUT = re.compile(r"^(?:≈|\\approx(?![A-Za-z])|\\sim(?![A-Za-z])|大约|约为|约|approximately\b|about\b|approx\.?)\s*")
_LABEL = re.compile(
    r"^(?P<label>[^=≈:,;]{1,40}?)(?:\s?=\s?[^=≈:,;\d]{1,60}?)?\s?(?:=|≈|:|\\approx(?![A-Za-z]))\s?(?P<rest>[^=≈]+)$"
)
_SEPARATOR = re.compile(r"\\text\{\s*(?:and|or)\s*\}|[,;、]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|或者?|和|以及|与")
_HAT = re.compile(
    r"\s?\*?\s?(?:\\(?:hat|vec|mathbf|bm|boldsymbol)\s?\{?\s?(?:\\mathbf\s?\{)?\s?\\?(?P<name>imath|jmath|[ijkxyz])\s?\}{0,2}"
    r"|(?P<char>[îĵ]|k̂|x̂|ŷ|ẑ))"
)
_AXES = {
    "i": 0, "x": 0, "imath": 0, "î": 0, "x̂": 0, "j": 1, "y": 1, "jmath": 1, "ĵ": 1, "ŷ": 1, "k": 2, "z": 2, "k̂": 2, "ẑ": 2,
}  # fmt: skip
_COMPOUND = re.compile(
    r"(\d{1,4}\s?(?:hours?|hrs?|h|小时|时|min|minutes?|分钟?|ft|feet|foot|days?|d|天|°|degrees?|度))\s?"
    r"(\d{1,2}\s?(?:hours?|hrs?|h|小时|min|minutes?|分钟?|in|inch|inches|′|'|s|sec|seconds?|秒|分))\s?"
    r"(\d{1,2}(?:\.\d{1,6})?\s?(?:s|sec|seconds?|秒|″))?"
)
"""A sum of two or three units: `2 h 30 min`."""


@lru_cache(maxsize=16_384)
def read_quantities(text: str) -> Quantities:
    """The quantities of an answer.

    Raises:
        QuantityTextError: it holds anything that is no quantity, or is beyond the limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise QuantityTextError(f"the answer is longer than {MAX_CHARACTERS} characters")
    text = _clean(text)
    if not text:
        raise QuantityTextError("the answer is empty")
    pieces, joints = _split(text)
    items: list[Quantity] = []
    for piece in pieces:
        rest, direction = split_direction(piece)
        if not rest and direction and items and not items[-1].direction:
            items[-1] = replace(items[-1], direction=direction)  # 5 N, upward
            joints.pop()
            continue
        items.append(_quantity(rest, direction))
    return Quantities(tuple(items), is_choice=len(items) > 1 and "or" in joints)


def _clean(text: str) -> str:
    text = plain_superscripts(text)
    text = unicodedata.normalize("NFKC", without_invisible(text)).replace("−", "-").replace("**", "^")
    text = _SPACING.sub(" ", _MARKUP.sub("", text))
    text = _THOUSANDS.sub(lambda match: match[1] + match[2].replace("{,}", "").replace(",", ""), text)
    text = _OPENING_ANGLE.sub("(", _CLOSING_ANGLE.sub(")", text))
    text = _LETTER_TIMES.sub("*", " ".join(text.split()))
    text = _LIGHT_YEAR.sub("lightyear", _DEGREES.sub("°", text))
    boxed = _BOXED.match(text)
    text = (boxed[1] if boxed else text).strip(" .。,;")
    if text and text[0] in "([" and "," not in text and closing_bracket(text, 0) == len(text) - 1:
        text = text[1:-1].strip()  # (5 m)
    return text


def _split(text: str) -> tuple[list[str], list[str]]:
    """The pieces between separators outside of brackets, and the separators, each as `,` or `or`."""
    pieces: list[str] = []
    joints: list[str] = []
    start = position = depth = 0
    for match in _SEPARATOR.finditer(text):
        between = text[position : match.start()]
        depth += sum(map(between.count, "([{")) - sum(map(between.count, ")]}"))
        position = match.end()
        if depth:
            continue
        piece, start = text[start : match.start()].strip(), match.end()
        is_or = "or" in match.group() or match.group().startswith("或")
        if not piece and pieces and joints[-1] == ",":
            joints[-1] = "or" if is_or else ","  # ", and"
            continue
        pieces.append(piece)
        joints.append("or" if is_or else ",")
    pieces.append(text[start:].strip())
    if not all(pieces) or len(pieces) > _MAX_ITEMS:
        raise QuantityTextError("the answer is no list of quantities")
    return pieces, joints


def _quantity(text: str, direction: str) -> Quantity:
    text = _ABOUT.sub("", text)
    label = ""
    named = _LABEL.match(text)
    if named and (named["label"][0].isalpha() or named["label"][0] in "\\|"):
        label, text = "".join(named["label"].split()), _ABOUT.sub("", named["rest"])
    text = text.strip()
    vector = _unit_vectors(text) or _vector(text)
    if vector:
        return replace(vector, label=label, direction=direction)
    compound = _COMPOUND.fullmatch(text)
    if compound:
        return replace(_sum([part for part in compound.groups() if part]), label=label, direction=direction)
    value, unit = split_value(text)
    if not value:
        raise QuantityTextError("there is no number")
    is_tight = bool(unit) and unit[0].isalpha() and text.endswith(value + unit)
    units = _units(unit)
    return Quantity((read_value(value),), units, label=label, direction=direction, is_tight=is_tight)


def _sum(parts: list[str]) -> Quantity:
    """`2 h 30 min`, in its first unit."""
    split = [split_value(part) for part in parts]
    units = [_units(unit)[0] for _, unit in split]
    total = Fraction(0)
    sizes: list[Fraction] = []
    for (value, _), unit in zip(split, units, strict=True):
        try:
            sizes.append(convert(Fraction(1), unit, units[0]))
        except DimensionError as error:
            raise QuantityTextError(str(error)) from error
        total += sizes[-1] * read_value(value).value
    if any(size <= smaller for size, smaller in pairwise(sizes)):
        raise QuantityTextError("the units of a sum do not become smaller")
    return Quantity((Number(total),), (units[0],))


def _vector(text: str) -> Quantity | None:
    r"""`(3, 4) m/s`, `\langle 3, 4 \rangle`, `(3 m, 4 m)`."""
    if not text or text[0] not in "([":
        return None
    end = closing_bracket(text, 0)
    if end < 0 or "," not in text[1:end]:
        return None
    parts = [split_value(part.strip()) for part in text[1:end].split(",")]
    if any(not value for value, _ in parts):
        raise QuantityTextError("a component of the vector is no number")
    units = {unit for _, unit in parts} | {text[end + 1 :].strip()}
    units.discard("")
    if len(units) > 1 or (units and not text[end + 1 :].strip() and any(not unit for _, unit in parts)):
        raise QuantityTextError("the components of the vector have different units")
    return Quantity(tuple(read_value(value) for value, _ in parts), _units(next(iter(units), "")), is_vector=True)


def _unit_vectors(text: str) -> Quantity | None:
    r"""`3\hat{i} - 4\hat{j}` m/s, in brackets or not."""
    if "hat" not in text and "vec" not in text and "\\math" not in text and "\\b" not in text and not _HAT.search(text):
        return None
    unit = ""
    if text[0] == "(" and closing_bracket(text, 0) > 0:
        end = closing_bracket(text, 0)
        text, unit = text[1:end], text[end + 1 :].strip()
    hats = list(_HAT.finditer(text))
    if not hats:
        return None
    components = [Number(Fraction(0))] * 3
    start, seen, units = 0, set(), set()
    for hat in hats:
        axis = _AXES[hat["name"] or hat["char"]]
        value, own_unit = split_value(text[start : hat.start()].strip().removeprefix("+").strip() or "1")
        if value in ("-", "+"):
            value += "1"
        if axis in seen:
            raise QuantityTextError("a unit vector is repeated")
        components[axis], start = read_value(value.replace("- ", "-")), hat.end()
        seen.add(axis)
        units.add(own_unit)
    units.add(text[start:].strip() or unit)
    units.discard("")
    if len(units) > 1:
        raise QuantityTextError("the components of the vector have different units")
    if 2 not in seen:
        components = components[:2]
    return Quantity(tuple(components), _units(next(iter(units), "")), is_vector=True)


def _units(text: str) -> tuple[Unit, ...]:
    try:
        return read_unit(text)
    except UnitTextError as error:
        raise QuantityTextError(str(error)) from error
