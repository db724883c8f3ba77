"""The internal form of an action, and the pieces that the grammars share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rlcs.rewards.boxes import Box, Point, centre, to_box
from rlcs.rewards.literals import LiteralError, LiteralReader, is_number


class ActionType(StrEnum):
    """What is done."""

    CLICK = "click"
    DOUBLE_CLICK = "double_click"
    RIGHT_CLICK = "right_click"
    MIDDLE_CLICK = "middle_click"
    LONG_PRESS = "long_press"
    HOVER = "hover"
    DRAG = "drag"
    SCROLL = "scroll"
    """In the direction in which the view moves; a swipe goes the other way."""
    TYPE = "type"
    KEY = "key"
    OPEN_APP = "open_app"
    BACK = "back"
    HOME = "home"
    SEARCH = "search"
    """Go to the search engine's page."""
    WAIT = "wait"
    STATUS = "status"
    """The task is complete, or cannot be done."""
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an action happens: a box, a point, both, or a numbered element."""

    box: Box | None = None
    point: Point | None = None
    element: str | None = None
    """Its number as text, or `WINDOW`."""

    @property
    def spot(self) -> Point | None:
        """The point that is hit: the point itself, else the middle of the box."""
        if self.point is not None:
            return self.point
        return None if self.box is None else centre(self.box)


@dataclass(frozen=True, slots=True)
class Action:
    """One action; what does not belong to its type is None."""

    type: ActionType
    target: Target | None = None
    """Coordinates are thousandths of the screen, unless the caller of the parser says otherwise."""
    end: Target | None = None
    """Where a drag ends."""
    text: str | None = None
    """What is typed or answered."""
    override: bool | None = None
    """Whether the field is cleared before typing."""
    keys: frozenset[str] | None = None
    direction: str | None = None
    """`up`, `down`, `left` or `right`."""
    distance: float | None = None
    """How far to scroll, in the grammar's unit (steps, shares of the window)."""
    app: str | None = None
    status: str | None = None
    """`complete`, `infeasible` or another word."""


OPPOSITE = {"up": "down", "down": "up", "left": "right", "right": "left"}
STATUS_WORDS = {"complete": "complete", "completed": "complete", "success": "complete", "successful": "complete"}

_KEYS = {
    "control": "ctrl", "ctl": "ctrl", "return": "enter", "escape": "esc", "del": "delete", "ins": "insert",
    "command": "cmd", "option": "alt", "super": "meta", "win": "meta", "windows": "meta", "spacebar": "space",
    "pgup": "pageup", "pgdn": "pagedown", "pgdown": "pagedown",
    "arrowup": "up", "arrowdown": "down", "arrowleft": "left", "arrowright": "right",
    "uparrow": "up", "downarrow": "down", "leftarrow": "left", "rightarrow": "right",
}  # fmt: skip
_MAX_CHORD = 60


def parse_chord(text: str) -> frozenset[str]:
    """The keys of a chord such as `ctrl+shift+t`; their order does not matter, `ctrl++` has the plus key.

    Raises:
        LiteralError: a key is missing or given twice.
    """
    plain = text.strip().casefold()
    if not plain or len(plain) > _MAX_CHORD:
        raise LiteralError(f"a key chord has 1 to {_MAX_CHORD} characters")
    if plain == "+" or plain.endswith("++"):
        names = [*plain[:-2].split("+"), "+"] if len(plain) > 1 else ["+"]
    else:
        names = plain.split("+")
    keys = []
    for name in names:
        name = name.strip()
        if not name or len(name.split()) > 2:
            raise LiteralError("a key chord is key names joined by '+'")
        joined = name if len(name) == 1 else "".join(c for c in name if c not in " _-")
        keys.append(_KEYS.get(joined, joined))
    if len(set(keys)) != len(keys):
        raise LiteralError("a key is given twice")
    return frozenset(keys)


def to_target(value: Any, max_coordinate: float) -> Target:
    """A target of a literal: `[x, y]`, `[x1, y1, x2, y2]`, `[[x1, y1, x2, y2]]`, or a string that holds one of these.

    Raises:
        LiteralError: it is none of these, or lies outside of 0..`max_coordinate`.
    """
    if isinstance(value, str):
        reader = LiteralReader(value)
        value = reader.value()
        reader.expect_end()
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
        point = (float(value[0]), float(value[1]))
        _check_range(point, max_coordinate)
        return Target(point=point)
    box = to_box(value)
    _check_range(box, max_coordinate)
    if box[0] > box[2] or box[1] > box[3]:
        raise LiteralError("a box has x1 <= x2 and y1 <= y2")
    return Target(box=box)


def to_direction(value: Any) -> str:
    """One of the four directions.

    Raises:
        LiteralError: it is none.
    """
    word = value.strip().casefold() if isinstance(value, str) else ""
    if word not in OPPOSITE:
        raise LiteralError("a direction is up, down, left or right")
    return word


def to_distance(value: Any) -> float:
    """A number from 0 on, or a string that holds one.

    Raises:
        LiteralError: it is none.
    """
    if isinstance(value, str):
        reader = LiteralReader(value)
        value = reader.number()
        reader.expect_end()
    if not is_number(value) or value < 0:
        raise LiteralError("a distance is a number from 0 on")
    return float(value)


def to_text(value: Any) -> str:
    """A string as it is.

    Raises:
        LiteralError: it is no string.
    """
    if not isinstance(value, str):
        raise LiteralError("a text is a string")
    return value


def _check_range(numbers: tuple[float, ...], max_coordinate: float) -> None:
    if min(numbers) < 0 or max(numbers) > max_coordinate:
        raise LiteralError(f"a coordinate lies outside of 0..{max_coordinate:g}")
