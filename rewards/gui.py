"""The next action on a screen: its type, and part by part what belongs to it.

An answer and a reference may be written in different grammars (`rlcs.rewards.gui_actions`); what is compared is their internal
form. Only what the reference states is compared. A wrong type is worth 0.
"""

from __future__ import annotations

import math
import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from rlcs.errors import RewardError
from rlcs.rewards.boxes import Box, Point, holds_point, iou, is_proper
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.gui_actions import Action, ActionType, Grammar, parse_action
from rlcs.rewards.gui_actions.action import Target
from rlcs.rewards.literals import LiteralError, is_number
from rlcs.rewards.mathtext.normalize import plain_words
from rlcs.rewards.verifier import Judge, Match, Verifier

_TINY = 1e-9
_MAX_ANSWER = 2_000
"""Characters of the text of an `answer` action; a longer one is not compared by rule."""
_NEAR_LOSS = 0.2
"""What a target at the edge of the radius loses (GLM-V's rule for OSWorld)."""


class TargetRule(StrEnum):
    """How the place of an action is compared with a reference box. A reference point is met within the radius."""

    POINT = "point"
    """1 if the point that is hit (the middle, if the answer gives a box only) lies in the reference box, else 0."""
    IOU = "iou"
    """The overlap of the boxes; right from the threshold on. An answer without a box gets 0."""
    DISTANCE = "distance"
    """Falls with the distance from the reference box or point; right in the box, or within the radius of the point."""


class Combine(StrEnum):
    """How parts make the value, once the type is right."""

    MEAN = "mean"
    """`type_weight` for the type, the rest for the mean of the other parts."""
    PRODUCT = "product"
    """The product of the parts (as GLM-V's own verifiers do)."""
    ALL = "all"
    """1 if everything is right, else 0."""


class Part(NamedTuple):
    """One part of an action."""

    value: float
    """In [0, 1]."""
    right: bool


class Gui(Verifier):
    """An action on a phone, a desktop or a web page against the reference action.

    Args:
        extract: how the answer is found in a response.
        judge: decides on texts of `answer` actions that are not the reference's.
        grammar: how answers must be written: `any`, `json`, `osworld` or `webvoyager`. References may have any.
        target_rule: how places are compared: `point`, `iou` or `distance`.
        iou_threshold: overlap from which a box is right, with `iou`.
        radius: how far a point may be from a reference point, in the unit of the coordinates.
        reach: distance from which nothing is left, with `distance`.
        combine: how parts make the value: `mean`, `product` or `all`.
        type_weight: share of the type, with `mean`.
        distance_tolerance: relative error up to which a scroll distance is right.
        ignore_case: whether typed texts are compared without case.
        max_coordinate: the largest coordinate; 1000 for thousandths of the screen.

    A row's columns `target_rule` and `iou_threshold` override the arguments.

    Raises:
        RewardError: an argument is none of the values above.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        grammar: str = Grammar.ANY,
        target_rule: str = TargetRule.POINT,
        iou_threshold: float = 0.5,
        radius: float = 20.0,
        reach: float = 50.0,
        combine: str = Combine.MEAN,
        type_weight: float = 0.2,
        distance_tolerance: float = 0.25,
        ignore_case: bool = False,
        max_coordinate: float = 1000,
    ) -> None:
        super().__init__(extract, judge=judge)
        for name, value, choices in (
            ("grammar", grammar, Grammar),
            ("target_rule", target_rule, TargetRule),
            ("combine", combine, Combine),
        ):
            if value not in tuple(choices):
                raise RewardError(f"reward 'gui': {name} must be one of {', '.join(choices)}, not {value!r}")
        for name, number, is_right, wanted in (
            ("iou_threshold", iou_threshold, 0 < iou_threshold <= 1, "over 0 and up to 1"),
            ("radius", radius, 0 < radius <= reach, "over 0 and up to reach"),
            ("type_weight", type_weight, 0 <= type_weight <= 1, "between 0 and 1"),
            ("distance_tolerance", distance_tolerance, 0 <= distance_tolerance < 1, "from 0 on and under 1"),
            ("max_coordinate", max_coordinate, 1 <= max_coordinate <= 1e6, "between 1 and 1000000"),
        ):
            if not is_right:
                raise RewardError(f"reward 'gui': {name} must be {wanted}, not {number!r}")
        self._grammar = Grammar(grammar)
        self._target_rule = TargetRule(target_rule)
        self._iou_threshold = iou_threshold
        self._radius, self._reach = radius, reach
        self._combine = Combine(combine)
        self._type_weight = type_weight
        self._distance_tolerance = distance_tolerance
        self._ignore_case = ignore_case
        self._max_coordinate = max_coordinate

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            action = _read_reference(answer, self._max_coordinate)
        except LiteralError as error:
            return f"the reference is no action: {error}"
        if action.type is ActionType.ANSWER and len(action.text or "") > _MAX_ANSWER:
            return f"the reference answers with more than {_MAX_ANSWER} characters"
        rule, threshold = self._settings(columns)
        if rule not in tuple(TargetRule):
            return f"target_rule must be one of {', '.join(TargetRule)}, not {rule!r}"
        if not is_number(threshold) or not 0 < threshold <= 1:
            return f"iou_threshold must be a number over 0 and up to 1, not {threshold!r}"
        targets = [target for target in (action.target, action.end) if target is not None and target.box is not None]
        if rule == TargetRule.IOU and not all(target.box and is_proper(target.box) for target in targets):
            return "the reference box has no area, so that nothing can overlap it"
        return None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        try:
            expected = _read_reference(reference, self._max_coordinate)
        except LiteralError as error:
            return Match(0.0, f"the reference is no action: {error}", event="bad_reference")
        try:
            found = parse_action(answer, grammar=self._grammar, max_coordinate=self._max_coordinate)
        except LiteralError as error:
            return Match(0.0, f"the answer is no action: {error}", event="unreadable")
        if found.type is not expected.type:
            return Match(0.0, f"{found.type} instead of {expected.type}", parts={"type": 0.0})
        rule, threshold = self._settings(columns)
        parts = self._compare(found, expected, rule, threshold)
        right = all(part.right for part in parts.values())
        scores = {"type": 1.0, **{name: part.value for name, part in parts.items()}}
        shown = ", ".join(f"{name} {part.value:.2f}" for name, part in parts.items())
        return Match(
            self._value(found.type, parts, right),
            f"{found.type}: {shown}" if shown else f"{found.type}",
            correct=right,
            parts=scores,
            is_open=found.type is ActionType.ANSWER and not right,
        )

    def _settings(self, columns: dict[str, Any]) -> tuple[Any, Any]:
        rule, threshold = columns.get("target_rule"), columns.get("iou_threshold")
        return (
            self._target_rule if rule is None else rule,
            self._iou_threshold if threshold is None else threshold,
        )

    def _compare(self, found: Action, expected: Action, rule: str, threshold: float) -> dict[str, Part]:
        """The parts that the reference states."""
        parts: dict[str, Part] = {}
        if expected.target is not None:
            name = "start" if expected.type is ActionType.DRAG else "target"
            parts[name] = self._compare_target(found.target, expected.target, rule, threshold)
        if expected.end is not None:
            parts["end"] = self._compare_target(found.end, expected.end, rule, threshold)
        if expected.text is not None:
            parts["text"] = self._compare_text(found.text or "", expected.text, expected.type)
        if expected.override is not None:
            parts["override"] = _same(bool(found.override), expected.override)
        if expected.keys is not None:
            parts["key"] = _same(found.keys, expected.keys)
        if expected.direction is not None:
            parts["direction"] = _same(found.direction, expected.direction)
            if expected.distance is not None:
                same_way = parts["direction"].right
                parts["distance"] = (
                    self._compare_distance(found.distance, expected.distance) if same_way else Part(0.0, False)
                )
        if expected.app is not None:
            parts["app"] = _same(plain_words(found.app or ""), plain_words(expected.app))
        if expected.status is not None:
            parts["status"] = _same(found.status, expected.status)
        return parts

    def _compare_target(self, found: Target | None, expected: Target, rule: str, threshold: float) -> Part:
        if expected.element is not None:
            return _same(found.element if found else None, expected.element)
        spot = found.spot if found else None
        if found is None or spot is None:
            return Part(0.0, False)
        if expected.box is None:
            distance = math.dist(spot, expected.point or (0.0, 0.0))
            near = distance <= self._radius + _TINY
            return Part(self._decay(distance) if rule == TargetRule.DISTANCE else float(near), near)
        if rule == TargetRule.IOU:
            overlap = iou(found.box, expected.box) if found.box else 0.0
            return Part(overlap, overlap >= threshold - _TINY)
        inside = holds_point(expected.box, spot)
        if rule == TargetRule.DISTANCE:
            return Part(self._decay(_distance_to_box(spot, expected.box)), inside)
        return Part(float(inside), inside)

    def _decay(self, distance: float) -> float:
        """1 at the target, 1 - 0.2 at the radius, then what is left of the reach."""
        if distance <= self._radius:
            return 1.0 - _NEAR_LOSS * distance / self._radius
        return max(0.0, min(1.0 - _NEAR_LOSS, 1.0 - distance / self._reach))

    def _compare_text(self, found: str, expected: str, kind: ActionType) -> Part:
        if kind is ActionType.ANSWER:
            return _same(plain_words(found), plain_words(expected)) if len(found) <= _MAX_ANSWER else Part(0.0, False)
        found, expected = (unicodedata.normalize("NFC", text) for text in (found, expected))
        if self._ignore_case:
            found, expected = found.casefold(), expected.casefold()
        return Part(Levenshtein.normalized_similarity(found, expected), found == expected)

    def _compare_distance(self, found: float | None, expected: float) -> Part:
        if found is None:
            return Part(0.0, False)
        error = abs(found - expected)
        value = max(0.0, 1.0 - error / (2 * expected)) if expected > 0 else float(error == 0)
        return Part(value, error <= self._distance_tolerance * expected + _TINY)

    def _value(self, kind: ActionType, parts: dict[str, Part], right: bool) -> float:
        if self._combine is Combine.ALL:
            return float(right)
        values = [part.value for part in parts.values()]
        if self._combine is Combine.PRODUCT:
            return math.prod(values)
        if not values:
            return 1.0
        mean = math.sqrt(math.prod(values)) if kind is ActionType.DRAG else sum(values) / len(values)
        return self._type_weight + (1.0 - self._type_weight) * mean


@lru_cache(maxsize=16_384)
def _read_reference(text: str, max_coordinate: float) -> Action:
    return parse_action(text, max_coordinate=max_coordinate)


def _same(found: object, expected: object) -> Part:
    return Part(float(found == expected), found == expected)


def _distance_to_box(point: Point, box: Box) -> float:
    x = max(box[0] - point[0], 0.0, point[0] - box[2])
    y = max(box[1] - point[1], 0.0, point[1] - box[3])
    return math.hypot(x, y)
