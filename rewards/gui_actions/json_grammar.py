"""The grammar of GLM-4.1V-Thinking and AndroidWorld: one JSON object with an `action_type`.

A target is `box_2d` (`[[x1, y1, x2, y2]]`), `x` and `y`, or `index` (the number of an element). A key that does not belong to
the type is refused, so that an action cannot carry several meanings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rlcs.rewards.gui_actions.action import (
    OPPOSITE,
    STATUS_WORDS,
    Action,
    ActionType,
    Target,
    parse_chord,
    to_direction,
    to_target,
    to_text,
)
from rlcs.rewards.literals import LiteralError, is_number, parse_json

_MAX_NAME = 200
"""Characters."""
_TARGET = frozenset({"box_2d", "x", "y", "index"})


class _Form(NamedTuple):
    type: ActionType
    needed: frozenset[str] = frozenset()
    """Keys; `box_2d` stands for any way of giving the target."""
    allowed: frozenset[str] = frozenset()


_BOX = frozenset({"box_2d"})
_FORMS = {
    "click": _Form(ActionType.CLICK, _BOX, _TARGET),
    "double_tap": _Form(ActionType.DOUBLE_CLICK, _BOX, _TARGET),
    "double_click": _Form(ActionType.DOUBLE_CLICK, _BOX, _TARGET),
    "right_click": _Form(ActionType.RIGHT_CLICK, _BOX, _TARGET),
    "long_press": _Form(ActionType.LONG_PRESS, _BOX, _TARGET),
    "input_text": _Form(ActionType.TYPE, frozenset({"text"}), _TARGET | {"text", "override", "clear_text"}),
    "scroll": _Form(ActionType.SCROLL, frozenset({"direction"}), _TARGET | {"direction"}),
    "swipe": _Form(ActionType.SCROLL, frozenset({"direction"}), _TARGET | {"direction"}),
    "open_app": _Form(ActionType.OPEN_APP, frozenset({"app_name"}), frozenset({"app_name"})),
    "navigate_back": _Form(ActionType.BACK),
    "navigate_home": _Form(ActionType.HOME),
    "keyboard_enter": _Form(ActionType.KEY),
    "wait": _Form(ActionType.WAIT),
    "status": _Form(ActionType.STATUS, frozenset({"goal_status"}), frozenset({"goal_status"})),
    "answer": _Form(ActionType.ANSWER, frozenset({"text"}), frozenset({"text"})),
}


def parse_json_action(text: str, max_coordinate: float) -> Action:
    """The action of a JSON text.

    Raises:
        LiteralError: it is no JSON object, no known action, lacks a key or has one too many.
    """
    fields = parse_json(text)
    if not isinstance(fields, dict):
        raise LiteralError("an action is a JSON object")
    name = fields.pop("action_type", None)
    form = _FORMS.get(name) if isinstance(name, str) else None
    if form is None:
        raise LiteralError(f"unknown action_type {str(name)[:30]!r}")
    fields = {key: value for key, value in fields.items() if value is not None}
    unknown = fields.keys() - form.allowed
    if unknown:
        raise LiteralError(f"{name} has no key {min(unknown)[:30]!r}")
    target = _target(fields, max_coordinate)
    missing = {key for key in form.needed if key not in fields and not (key == "box_2d" and target)}
    if missing or ("box_2d" in form.needed and target is None):
        raise LiteralError(f"{name} needs {', '.join(sorted(missing)) or 'a target'}")
    direction = to_direction(fields["direction"]) if "direction" in fields else None
    if name == "swipe" and direction is not None:
        direction = OPPOSITE[direction]
    return Action(
        form.type,
        target=target,
        text=to_text(fields["text"]) if "text" in fields else None,
        override=_override(fields),
        keys=parse_chord("enter") if name == "keyboard_enter" else None,
        direction=direction,
        app=_app(fields["app_name"]) if "app_name" in fields else None,
        status=_status(fields["goal_status"]) if "goal_status" in fields else None,
    )


def _target(fields: dict[str, Any], max_coordinate: float) -> Target | None:
    box, x, y, index = (fields.get(key) for key in ("box_2d", "x", "y", "index"))
    if (x is None) != (y is None):
        raise LiteralError("`x` and `y` are given together")
    found: list[Target] = []
    if box is not None and box not in ([], [[]]):
        found.append(to_target(box, max_coordinate))
        if found[0].box is None:
            raise LiteralError("box_2d has four numbers")
    if x is not None:
        found.append(to_target([x, y], max_coordinate))
    if index is not None:
        if not is_number(index) or index < 0 or index != int(index):
            raise LiteralError("index is a whole number from 0 on")
        found.append(Target(element=str(int(index))))
    if len(found) > 1:
        raise LiteralError("more than one target is given")
    return found[0] if found else None


def _override(fields: dict[str, Any]) -> bool | None:
    values = [fields[key] for key in ("override", "clear_text") if key in fields]
    if len(values) > 1 or not all(isinstance(value, bool) for value in values):
        raise LiteralError("override is true or false, and given once")
    return values[0] if values else None


def _app(value: Any) -> str:
    name = to_text(value)
    if len(name) > _MAX_NAME:
        raise LiteralError(f"app_name is longer than {_MAX_NAME} characters")
    return name


def _status(value: Any) -> str:
    word = to_text(value).strip().casefold()
    if not 0 < len(word) <= _MAX_NAME:
        raise LiteralError(f"goal_status has 1 to {_MAX_NAME} characters")
    return STATUS_WORDS.get(word, word)
