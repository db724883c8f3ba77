"""Coordinates and names of places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.geo import Geo
from rlcs.rewards.geo_coordinates import EARTH_RADIUS_KM, Place, distance_km, parse_place
from rlcs.rewards.geo_names import LEVELS, compare, plain_name, read_reference
from rlcs.rewards.literals import LiteralError
from rlcs.rewards.verifier import JudgeRequest
from rlcs.types import Score

_CASES = builtin_cases("geo")
_REWARD = Geo()
_PLACES = st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))
_ADDRESS = {"place": "Eiffel Tower", "city": "Paris", "province": "Ile-de-France", "country": "France"}


def _score(answer: str, reference: str, reward: Geo = _REWARD, **columns: Any) -> Score:
    score = reward.score(render_response("", answer), reference, **columns)
    assert score is not None and 0.0 <= score.value <= 1.0
    return score


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_geo_gets_its_cases_right(case: Case) -> None:
    score = _REWARD.score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.note}: {score}"
    assert (_REWARD.validate(case.answer, **case.columns) is None) is case.valid


@given(_PLACES, _PLACES)
def test_the_distance_is_the_angle_between_vectors(a: Place, b: Place) -> None:
    def vector(place: Place) -> np.ndarray:
        latitude, longitude = np.radians(place)
        return np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])

    x, y = vector(a), vector(b)
    angle = math.atan2(float(np.linalg.norm(np.cross(x, y))), float(x @ y))
    assert distance_km(a, b) == pytest.approx(EARTH_RADIUS_KM * angle, abs=1e-2)
    assert distance_km(a, b) == pytest.approx(distance_km(b, a))
    assert 0 <= distance_km(a, b) <= math.pi * EARTH_RADIUS_KM + 1e-6


@given(_PLACES, _PLACES, _PLACES)
def test_nearer_is_never_worth_less(a: Place, b: Place, reference: Place) -> None:
    near, far = sorted((a, b), key=lambda place: distance_km(place, reference))
    text = f"{reference.latitude:.9f}, {reference.longitude:.9f}"
    values = [_score(f"{place.latitude:.9f}, {place.longitude:.9f}", text).value for place in (near, far)]
    assert values[0] >= values[1] - 1e-6


@given(st.integers(-89, 89), st.integers(-179, 179), *[st.integers(0, 59)] * 4)
def test_a_place_is_the_same_in_all_notations(lat: int, lon: int, m1: int, s1: int, m2: int, s2: int) -> None:
    north, east = abs(lat) + m1 / 60 + s1 / 3600, abs(lon) + m2 / 60 + s2 / 3600
    ns, ew = "NS"[lat < 0], "EW"[lon < 0]
    expected = (-north if lat < 0 else north, -east if lon < 0 else east)
    for text in (
        f"{expected[0]:.9f}, {expected[1]:.9f}",
        f"({north:.9f}° {ns}, {east:.9f}° {ew})",
        f"{east:.9f}{ew} {north:.9f}{ns}",
        f"{ns} {north:.9f}, {ew} {east:.9f}",
        f"{abs(lat)}°{m1}'{s1}\"{ns} {abs(lon)}°{m2}'{s2}\"{ew}",
        f"{abs(lat)}° {m1}′ {s1}″ {ns}, {abs(lon)}° {m2}′ {s2}″ {ew}",
        f"{abs(lat)} {m1} {s1} {ns}, {abs(lon)} {m2} {s2} {ew}",
        f"{'北南'[lat < 0]}纬{abs(lat)}度{m1}分{s1}秒，{'东西'[lon < 0]}经{abs(lon)}度{m2}分{s2}秒",
        f'{{"latitude": {expected[0]:.9f}, "longitude": {expected[1]:.9f}}}',
        f"lon: {expected[1]:.9f}, lat: {expected[0]:.9f}",
    ):
        assert parse_place(text) == pytest.approx(expected, abs=1e-8), text


def test_the_order_of_bare_numbers_is_an_option() -> None:
    assert parse_place("2.29, 48.85", longitude_first=True) == Place(48.85, 2.29)
    assert _score("2.29, 48.85", "2.29, 48.85", Geo(longitude_first=True)).correct


def test_the_scale_says_where_the_value_falls_to_1_over_e() -> None:
    reward = Geo(scale_km=100, radius_km=0)
    north = 100 / EARTH_RADIUS_KM * 180 / math.pi
    assert _score(f"{north:.9f}, 0", "0, 0", reward).value == pytest.approx(math.exp(-1), abs=1e-6)
    assert _score("0, 0", "0, 0", reward).correct
    assert not _score("0.0001, 0", "0, 0", reward).correct
    assert _score("0.0001, 0", "0, 0", reward, radius_km=1).correct


@given(st.lists(st.sampled_from([*_ADDRESS.values(), "London", "Spain", "Texas"]), min_size=1, max_size=6))
def test_only_the_whole_address_is_worth_all(names: list[str]) -> None:
    reference = read_reference("", _ADDRESS)
    found = compare(", ".join(names), reference)
    assert 0.0 <= found.value <= 1.0
    assert found.value == pytest.approx(found.address + found.place)
    assert found == compare(", ".join(reversed(names)), reference)
    if found.value == 1.0:
        assert [name for name in names if name in (_ADDRESS["place"], _ADDRESS["city"], _ADDRESS["country"])]
        assert "London" not in names and "Spain" not in names and len(names) >= 3
    if len(names) > len(LEVELS):
        assert found.value == 0.0


def test_names_are_the_same_without_accents_case_and_suffix() -> None:
    assert plain_name("  Île-de-FRANCE ") == plain_name("ile de france")
    assert plain_name("Hubei Province", "province") == "hubei" and plain_name("湖北省", "province") == "湖北"
    assert plain_name("Mexico City", "city") != plain_name("Mexico", "city")


def test_a_judge_decides_on_names_that_differ_only() -> None:
    asked: list[JudgeRequest] = []

    class Yes:
        def judge(self, requests: list[JudgeRequest]) -> list[Score | None]:
            asked.extend(requests)
            return [Score(1.0, correct=True, detail="judged") for _ in requests]

    reward = Geo(judge=Yes())
    assert _score("La Tour Eiffel, Paris, France", "x", reward, **_ADDRESS).correct
    assert _score("the French capital", "Paris", reward).correct
    assert len(asked) == 2
    assert not _score("Paris, France", "x", reward, **_ADDRESS).correct
    assert not _score("Paris", "48.85, 2.29", reward).correct
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        ("", {}), (" , ", {}), ('{"town hall": "x"}', {}), ('{"city": 5}', {}), ('{"city": "a", "town": "b"}', {}),
        ("x", {"city": 5}),
        ("x" * 600, {}), ("1, 2", {"radius_km": -1}), ("1, 2", {"radius_km": "far"}), ('{"lat": 91, "lon": 0}', {}),
    ],
)  # fmt: skip
def test_references_that_cannot_be_used_are_found(answer: str, columns: dict[str, Any]) -> None:
    reason = _REWARD.validate(answer, **columns)
    assert reason is not None and "\n" not in reason


@pytest.mark.parametrize(
    "options", [{"scale_km": 0}, {"radius_km": -1}, {"scale_km": math.nan}, {"radius_km": math.inf}]
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=next(iter(options))):
        Geo(**options)


@given(st.text(max_size=60) | st.text(alphabet="0123456789.,;°'\"NSEWnsew+- {}:lation", max_size=60))
def test_no_answer_makes_it_raise(text: str) -> None:
    for answer in (text, text + "\ud800"):
        for reference in ("48.85, 2.29", "Paris, France", '{"city": "Paris", "country": "France"}'):
            _score(answer, reference)
        _REWARD.validate(answer)


@pytest.mark.parametrize(
    "text", ["1" * 100_000, "N " * 100, "1 " * 100, "48°" * 60, " " * 200, "{" * 150, "lat" * 60, "'" * 200]
)
def test_hostile_texts_are_no_coordinates(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_place(text)
