"""Coordinates on the earth, read from text in several notations, and the distance between two of them.

Read are `48.8584, 2.2945`, `(48.8584, 2.2945)`, `48.8584°N 2.2945°E`, `N 48.8584, E 2.2945`, `48°51'30.2"N, 2°17'40"E`,
`48 51 30 N, 2 17 40 E`, `lat: 48.8584, lon: 2.2945`, `{"lat": 48.8584, "lon": 2.2945}`, `北纬39.9度，东经116.4度`. Longitude may
come first where letters or labels say so.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import NamedTuple

from rlcs.rewards.literals import LiteralError, is_number, parse_json

EARTH_RADIUS_KM = 6371.0088
"""Mean radius (IUGG)."""

_MAX_CHARACTERS = 200
_CHARACTERS = str.maketrans(
    {
        "º": "°", "˚": "°", "′": "'", "’": "'", "‘": "'", "ʹ": "'", "´": "'", "`": "'", "″": '"', "”": '"', "“": '"',
        "ʺ": '"', "−": "-", "–": "-", "，": ",", "、": ",", "；": ";", "度": "°", "分": "'", "秒": '"',
        "\u200e": "", "\u200f": "", "\ufeff": "",
    }
)  # fmt: skip
_WORDS = (
    (re.compile(r"北纬"), "N "),
    (re.compile(r"南纬"), "S "),
    (re.compile(r"东经"), "E "),
    (re.compile(r"西经"), "W "),
    (re.compile(r"纬[度°]"), "lat "),
    (re.compile(r"经[度°]"), "lon "),
    (re.compile(r"\bnorth\b", re.IGNORECASE), "N"),
    (re.compile(r"\bsouth\b", re.IGNORECASE), "S"),
    (re.compile(r"\beast\b", re.IGNORECASE), "E"),
    (re.compile(r"\bwest\b", re.IGNORECASE), "W"),
    (re.compile(r"''"), '"'),
    (re.compile(r"\bdeg(?:rees?|\.)?(?![a-z])", re.IGNORECASE), "°"),
)
_DECIMAL = r"[0-9]{1,3}(?:\.[0-9]{1,15})?"
_SMALL = r"[0-9]{1,2}(?:\.[0-9]{1,10})?"


def _angle_pattern(n: int) -> str:
    """One angle; its groups end in `n`. A letter stands before or behind, not both, and bare D M S needs one."""
    return (
        rf"(?:(?P<label{n}>lat(?:itude)?|lon(?:g|gitude)?|lng)\s?[:=]?\s?)?(?P<lead{n}>[NSEW](?![a-z]))?\s?(?P<sign{n}>[+-]?)\s?"
        rf"(?P<degrees{n}>{_DECIMAL})\s?°?"
        rf"(?:(?<=°)\s?(?P<minutes{n}>{_SMALL})\s?'(?:\s?(?P<seconds{n}>{_SMALL})\s?\")?"
        rf"|\s(?P<minutes_bare{n}>{_SMALL})\s(?P<seconds_bare{n}>{_SMALL})(?(lead{n})|(?=\s?[NSEW])))?"
        rf"(?(lead{n})|(?:\s?(?P<tail{n}>[NSEW](?![a-z])))?)"
    )


_PAIR = re.compile(
    _angle_pattern(1) + r"(?:\s?[,;/]\s?|\s|(?<=[NSEW°'\"])(?=[0-9NSEW])|(?<=[0-9])(?=[NSEW]))" + _angle_pattern(2),
    re.IGNORECASE,
)
_LATITUDE_KEYS = ("lat", "latitude")
_LONGITUDE_KEYS = ("lon", "lng", "long", "longitude")


class Place(NamedTuple):
    """A point on the earth, in degrees; north and east are positive."""

    latitude: float
    longitude: float


def parse_place(text: str, *, longitude_first: bool = False) -> Place:
    """The one point that a text spells, and nothing else.

    Args:
        text: what to read.
        longitude_first: the order of two bare numbers.

    Raises:
        LiteralError: it spells none, or one that is not on the earth.
    """
    if len(text) > _MAX_CHARACTERS:
        raise LiteralError(f"coordinates are longer than {_MAX_CHARACTERS} characters")
    if text.lstrip().startswith("{"):
        return _place_of_json(text)
    plain = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
    for pattern, replacement in _WORDS:
        plain = pattern.sub(replacement, plain)
    plain = " ".join(plain.split()).removesuffix(".")
    if (plain[:1], plain[-1:]) in (("(", ")"), ("[", "]")):
        plain = plain[1:-1].strip()
    match = _PAIR.fullmatch(plain)
    if match is None:
        raise LiteralError("it is no pair of coordinates")
    (first, first_axis), (second, second_axis) = _angle(match, "1"), _angle(match, "2")
    if first_axis is None and second_axis is None:
        first_axis = "lon" if longitude_first else "lat"
        second_axis = "lat" if longitude_first else "lon"
    if first_axis is None or second_axis is None or first_axis == second_axis:
        raise LiteralError("one latitude and one longitude are needed")
    return _checked(*((first, second) if first_axis == "lat" else (second, first)))


def distance_km(a: Place, b: Place) -> float:
    """Great-circle distance on a sphere (haversine)."""
    latitude_a, latitude_b = math.radians(a.latitude), math.radians(b.latitude)
    half_latitude = (latitude_b - latitude_a) / 2
    half_longitude = math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_latitude) ** 2 + math.cos(latitude_a) * math.cos(latitude_b) * math.sin(half_longitude) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def _angle(match: re.Match[str], n: str) -> tuple[float, str | None]:
    """The value in degrees, and whether it is a latitude or a longitude, if that is said."""
    part = {name.removesuffix(n): value for name, value in match.groupdict().items() if name.endswith(n) and value}
    minutes = part.get("minutes") or part.get("minutes_bare") or "0"
    seconds = part.get("seconds") or part.get("seconds_bare") or "0"
    if float(minutes) >= 60 or float(seconds) >= 60:
        raise LiteralError("minutes and seconds of arc are less than 60")
    if (("." in part["degrees"] and float(minutes)) or ("." in minutes and float(seconds))) and part:
        raise LiteralError("only the last part of an angle has decimals")
    letters = {part[name].upper() for name in ("lead", "tail") if name in part}
    if letters and "sign" in part:
        raise LiteralError("an angle has a letter or a sign")
    value = float(part["degrees"]) + float(minutes) / 60 + float(seconds) / 3600
    letter = letters.pop() if letters else ""
    if letter in ("S", "W") or part.get("sign") == "-":
        value = -value
    axes = {"lat" if letter in "NS" else "lon"} if letter else set()
    if "label" in part:
        axes.add("lat" if part["label"].lower().startswith("lat") else "lon")
    if len(axes) > 1:
        raise LiteralError("a label and a letter contradict each other")
    return value, axes.pop() if axes else None


def _place_of_json(text: str) -> Place:
    fields = parse_json(text)
    latitudes = [fields[key] for key in _LATITUDE_KEYS if key in fields]
    longitudes = [fields[key] for key in _LONGITUDE_KEYS if key in fields]
    if len(latitudes) != 1 or len(longitudes) != 1 or not is_number(latitudes[0]) or not is_number(longitudes[0]):
        raise LiteralError("an object gives one `lat` and one `lon` as numbers")
    return _checked(float(latitudes[0]), float(longitudes[0]))


def _checked(latitude: float, longitude: float) -> Place:
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise LiteralError("latitude lies within 90 degrees, longitude within 180")
    return Place(latitude, longitude)
