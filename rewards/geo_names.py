"""Addresses as names of a country, a province, a city and a place, and how much of one an answer gives.

The value follows the paper's judge (GLM-4.1V-Thinking, arXiv 2507.01006, section 5): half for the address, of which the country
alone is worth 0.1, down to the province 0.25, down to the city (or the finest level that the reference has) 0.5; half for the
place. Where the reference has only one of the halves, that half counts double.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcs.rewards.literals import LiteralError, parse_json

LEVELS = ("place", "city", "province", "country")
"""From fine to broad."""
_ADDRESS = LEVELS[1:]
_KEYS = {
    "place": "place", "place_name": "place", "landmark": "place",
    "city": "city", "town": "city", "province": "province", "state": "province", "region": "province", "country": "country",
}  # fmt: skip
_CHINESE_KEYS = {
    "国家": "country", "省": "province", "省份": "province", "州": "province", "城市": "city", "市": "city",
    "地点": "place", "地标": "place",
}  # fmt: skip
_CHINESE_SUFFIX = re.compile(r"^(?:省|自治区|市|县|区)")
_WORTH = {"city": 0.5, "province": 0.25, "country": 0.1}

_MAX_CHARACTERS = 500
_SEPARATORS = re.compile(r"\s*[,;|>\n，、；]\s*")
_ACCENTS = re.compile("[\u0300-\u036f]")
_NO_LETTERS = re.compile(r"[^\w]+|_+")
_SUFFIXES = {
    "province": re.compile(
        r"(?:(?<=\w) (?:province|prefecture|county|region|state|oblast)|(?<=\w\w)(?:省|市|自治区|县))$"
    ),
    "city": re.compile(r"(?<=\w\w)(?:市|县|区)$"),
}

Spellings = frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer gives of a reference."""

    value: float
    address: float
    place: float
    is_complete: bool
    """Every name that the answer gives is the reference's."""


def plain_name(name: str, level: str = "") -> str:
    """A name without case, accents, punctuation, a leading `the`, and words such as `province` at its level."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", name))
    plain = " ".join(_NO_LETTERS.sub(" ", unicodedata.normalize("NFKC", plain).casefold()).split()).removeprefix("the ")
    suffix = _SUFFIXES.get(level)
    return suffix.sub("", plain) if suffix else plain


def split_names(text: str) -> list[str]:
    """The names of a text, as they stand between commas.

    Raises:
        LiteralError: the text is too long or has an empty name.
    """
    if len(text) > _MAX_CHARACTERS:
        raise LiteralError(f"names are longer than {_MAX_CHARACTERS} characters")
    names = _SEPARATORS.split(text.strip().removesuffix("."))
    if not all(plain_name(name) for name in names):
        raise LiteralError("a name is empty")
    return names


def read_reference(text: str, columns: Mapping[str, Any]) -> dict[str, Spellings]:
    """Levels to the names that are right: from a JSON object, else from the columns; empty if there are none.

    Raises:
        LiteralError: a level is neither a name nor a list of names.
    """
    fields: Mapping[str, Any] = columns
    if text.lstrip().startswith("{"):
        fields = parse_json(text)
        unknown = fields.keys() - _KEYS.keys()
        if unknown:
            raise LiteralError(f"unknown key {min(unknown)[:30]!r}: use {', '.join(_KEYS)}")
    levels: dict[str, Spellings] = {}
    for key, level in _KEYS.items():
        value = fields.get(key)
        if value in (None, "", []):
            continue
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) and plain_name(name) for name in names):
            raise LiteralError(f"{key} is a name or a list of names")
        if level in levels:
            raise LiteralError(f"{level} is given twice")
        levels[level] = frozenset(plain_name(name, level) for name in names)
    return levels


def compare(text: str, reference: Mapping[str, Spellings]) -> Found:
    """How much of the reference an answer gives: a JSON object by level, or names from fine to broad or from broad to fine.

    Of all ways to read the names as levels in their order, the best counts. A name too many leaves none.

    Raises:
        LiteralError: the answer is neither.
    """
    if text.lstrip().startswith("{"):
        stated = [read_reference(text, {})]
        if not all(len(names) == 1 for names in stated[0].values()):
            raise LiteralError("an answer gives one name a level")
    else:
        names = split_names(text)
        labelled = _labelled(names)
        stated = [labelled] if labelled else list(_readings(_parted(names, reference), reference))
    found = [_worth(reading, reference) for reading in stated]
    return max(found, key=lambda item: (item.value, item.is_complete), default=Found(0.0, 0.0, 0.0, False))


def same_names(text: str, reference: str) -> bool:
    """Whether two texts have the same names, in the same order or in the opposite one."""
    a, b = ([plain_name(name) for name in split_names(item)] for item in (text, reference))
    return a in (b, b[::-1])


def _labelled(names: Sequence[str]) -> dict[str, Spellings] | None:
    """`Country: France`, `City: Paris` by level; None if a name has no label.

    Raises:
        LiteralError: a level is given twice.
    """
    levels: dict[str, Spellings] = {}
    for name in names:
        label, colon, value = unicodedata.normalize("NFKC", name).partition(":")
        level = _KEYS.get(label.strip().casefold().replace(" ", "_")) or _CHINESE_KEYS.get(label.strip())
        if not colon or level is None or not plain_name(value):
            return None
        if level in levels:
            raise LiteralError(f"{level} is given twice")
        levels[level] = frozenset({plain_name(value, level)})
    return levels


def _parted(names: Sequence[str], reference: Mapping[str, Spellings]) -> Sequence[str]:
    """The names; a single Chinese one, such as 中国浙江省杭州市, in the parts that the reference has."""
    if len(names) != 1 or names[0].isascii():
        return names
    rest = plain_name(names[0])
    parts: list[str] = []
    for level in reversed(LEVELS):
        known = [name for name in reference.get(level, ()) if rest.startswith(name) and not name.isascii()]
        if known:
            parts.append(max(known, key=len))
            rest = _CHINESE_SUFFIX.sub("", rest.removeprefix(parts[-1]))
    return [*parts, rest] if rest else parts


def _readings(names: Sequence[str], reference: Mapping[str, Spellings]) -> Iterator[dict[str, Spellings]]:
    known = [level for level in LEVELS if level in reference]
    for ordered in (names, names[::-1]):
        for levels in itertools.combinations(known, len(names)):
            yield {level: frozenset({plain_name(name, level)}) for level, name in zip(levels, ordered, strict=True)}


def _worth(stated: Mapping[str, Spellings], reference: Mapping[str, Spellings]) -> Found:
    right = {level for level, names in stated.items() if names <= reference.get(level, frozenset())}
    address = 0.0
    known = [level for level in _ADDRESS if level in reference]
    for index, level in enumerate(known):
        broader = known[index + 1 :]
        # The province may be left out, the country may not; neither may be wrong.
        if level in right and all(other in right or (other == "province" and other not in stated) for other in broader):
            address = 0.5 if index == 0 else _WORTH[level]
            break
    place = 0.5 * ("place" in right)
    halves = bool(known) + ("place" in reference)
    value = min(1.0, (address + place) * (2.0 if halves == 1 else 1.0))
    return Found(value, address, place, right == stated.keys())
