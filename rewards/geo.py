"""Where a photograph was taken: coordinates by distance, names level by level, else by a judge.

A reference that spells coordinates is compared by great-circle distance d: 1 within the radius, then
`exp(-(d - radius) / scale)`. The default scale is GeoGuessr's (14,916.862 km / 10). Any other reference is a name or an address
(`rlcs.rewards.geo_names`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.geo_coordinates import Place, distance_km, parse_place
from rlcs.rewards.geo_names import LEVELS, compare, read_reference, same_names, split_names
from rlcs.rewards.literals import LiteralError, is_number
from rlcs.rewards.text import unfenced, unwrap
from rlcs.rewards.verifier import Judge, Match, Verifier


class Geo(Verifier):
    """A place on the earth.

    Args:
        extract: how the answer is found in a response.
        judge: decides on names that are not the reference's.
        scale_km: the distance, beyond the radius, at which the value has fallen to 1/e.
        radius_km: the distance up to which coordinates are right (25 km is the usual measure of a city).
        longitude_first: the order of two bare numbers, in answers and references.

    A row's columns `country`, `province` (or `state`), `city` and `place`, each a name or a list of names that are right, say
    what an address reference consists of; the reference may also be a JSON object with these keys. Without them names are
    compared as a whole. The column `radius_km` overrides the argument.

    Raises:
        RewardError: an argument is out of its range.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        scale_km: float = 1491.6862,
        radius_km: float = 25.0,
        longitude_first: bool = False,
    ) -> None:
        super().__init__(extract, judge=judge)
        if not 0 < scale_km < float("inf"):
            raise RewardError(f"reward 'geo': scale_km must be over 0, not {scale_km!r}")
        if not 0 <= radius_km < float("inf"):
            raise RewardError(f"reward 'geo': radius_km must be from 0 on, not {radius_km!r}")
        self._scale_km, self._radius_km = scale_km, radius_km
        self._longitude_first = longitude_first

    def validate(self, answer: str, **columns: Any) -> str | None:
        radius = columns.get("radius_km")
        if radius is not None and not (is_number(radius) and 0 <= radius < float("inf")):
            return f"radius_km must be a number from 0 on, not {radius!r}"
        if _read_place(answer, self._longitude_first) is not None:
            return None
        try:
            if not _read_names(answer, columns) and not any(map(str.isalpha, "".join(split_names(answer)))):
                return f"the reference {answer[:60]!r} is neither a point on the earth nor a name"
        except LiteralError as error:
            return f"the reference is neither coordinates nor names: {error}"
        return None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        answer = unfenced(answer)
        answer = answer if "\n" in answer else unwrap(answer)
        place = _read_place(reference, self._longitude_first)
        if place is not None:
            return self._compare_places(answer, place, columns)
        try:
            levels = _read_names(reference, columns)
        except LiteralError as error:
            return Match(0.0, f"the reference is neither coordinates nor names: {error}", event="bad_reference")
        try:
            if not levels:
                same = same_names(answer, reference)
                return Match(float(same), "the same names" if same else "other names", is_open=not same)
            found = compare(answer, levels)
        except LiteralError as error:
            return Match(0.0, f"the answer is no address: {error}", is_open=True)
        return Match(
            found.value,
            f"address {found.address:g}, place {found.place:g}",
            correct=found.value == 1.0 and found.is_complete,
            parts={"address": found.address, "place_name": found.place},
            is_open=not found.is_complete,
        )

    def _compare_places(self, answer: str, reference: Place, columns: Mapping[str, Any]) -> Match:
        try:
            found = parse_place(answer, longitude_first=self._longitude_first)
        except LiteralError as error:
            return Match(0.0, f"the answer is no pair of coordinates: {error}", event="unreadable")
        radius = columns.get("radius_km")
        radius = self._radius_km if radius is None else float(radius)
        distance = distance_km(found, reference)
        if distance <= radius:
            return Match(1.0, f"{distance:.1f} km off")
        value = math.exp(-(distance - radius) / self._scale_km)
        return Match(value, f"{distance:.1f} km off", correct=False)


@lru_cache(maxsize=16_384)
def _read_place(text: str, longitude_first: bool) -> Place | None:
    """The coordinates of a reference, or None if it is no pair of coordinates."""
    try:
        return parse_place(text, longitude_first=longitude_first)
    except LiteralError:
        return None


def _read_names(reference: str, columns: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    return read_reference(reference, {key: columns.get(key) for key in (*LEVELS, "state")})
