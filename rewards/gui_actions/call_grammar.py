"""The grammars of OSWorld and of WebVoyager with coordinates: one call with named arguments, in any order.

left_click(start_box='[511, 32]', element_info='the "Save" button')
TYPE(point=(200, 100), text='it\\'s, (really) fine', box=[[198, 92, 229, 107]])
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rlcs.rewards.gui_actions.action import (
    Action,
    ActionType,
    Target,
    parse_chord,
    to_direction,
    to_distance,
    to_target,
    to_text,
)
from rlcs.rewards.literals import LiteralError, LiteralReader


class _Form(NamedTuple):
    type: ActionType
    needed: frozenset[str] = frozenset()
    """Of `target`, `end`, `text`, `keys`, `direction`."""
    allowed: frozenset[str] = frozenset()
    fixed: tuple[tuple[str, str], ...] = ()
    """Fields that the name of the call fixes."""


_INFO = frozenset({"element_info", "start_element_info", "end_element_info"})
"""Descriptions for a person; they are not compared."""
_OS_TARGET = frozenset({"start_box"}) | _INFO
_WEB_TARGET = frozenset({"point", "box"}) | _INFO
_NEEDS_TARGET = frozenset({"target"})


def _scroll_to(direction: str) -> _Form:
    return _Form(ActionType.SCROLL, frozenset(), _WEB_TARGET | {"distance"}, (("direction", direction),))


_FORMS = {
    "left_click": _Form(ActionType.CLICK, _NEEDS_TARGET, _OS_TARGET),
    "right_click": _Form(ActionType.RIGHT_CLICK, _NEEDS_TARGET, _OS_TARGET),
    "middle_click": _Form(ActionType.MIDDLE_CLICK, _NEEDS_TARGET, _OS_TARGET),
    "left_double_click": _Form(ActionType.DOUBLE_CLICK, _NEEDS_TARGET, _OS_TARGET),
    "hover": _Form(ActionType.HOVER, _NEEDS_TARGET, _OS_TARGET),
    "left_drag": _Form(ActionType.DRAG, frozenset({"target", "end"}), _OS_TARGET | {"end_box"}),
    "scroll": _Form(ActionType.SCROLL, frozenset({"direction"}), _OS_TARGET | {"direction", "step"}),
    "type": _Form(ActionType.TYPE, frozenset({"text"}), frozenset({"content"})),
    "key": _Form(ActionType.KEY, frozenset({"keys"}), frozenset({"keys", "key"})),
    "WAIT": _Form(ActionType.WAIT),
    "DONE": _Form(ActionType.STATUS, fixed=(("status", "complete"),)),
    "FAIL": _Form(ActionType.STATUS, fixed=(("status", "infeasible"),)),
    "CLICK": _Form(ActionType.CLICK, _NEEDS_TARGET, _WEB_TARGET),
    "DOUBLE_CLICK": _Form(ActionType.DOUBLE_CLICK, _NEEDS_TARGET, _WEB_TARGET),
    "RIGHT_CLICK": _Form(ActionType.RIGHT_CLICK, _NEEDS_TARGET, _WEB_TARGET),
    "HOVER": _Form(ActionType.HOVER, _NEEDS_TARGET, _WEB_TARGET),
    "TYPE": _Form(ActionType.TYPE, frozenset({"text"}), _WEB_TARGET | {"text"}),
    "KEY_PRESS": _Form(ActionType.KEY, frozenset({"keys"}), frozenset({"key"})),
    "SCROLL_UP": _scroll_to("up"),
    "SCROLL_DOWN": _scroll_to("down"),
    "SCROLL_LEFT": _scroll_to("left"),
    "SCROLL_RIGHT": _scroll_to("right"),
    "GO_BACK": _Form(ActionType.BACK),
    "ANSWER": _Form(ActionType.ANSWER, frozenset({"text"}), frozenset({"content"})),
}
_DEFAULT_STEPS = 5.0
"""Of OSWorld's `scroll` in GLM-4.1V-Thinking's prompts."""
_FIELD_OF = {"start_box": "target", "end_box": "end", "content": "text", "key": "keys", "step": "distance"}


def parse_call(text: str, max_coordinate: float) -> Action:
    """The action of a call.

    Raises:
        LiteralError: it is no call, no known action, lacks an argument or has one too many, or text follows it.
    """
    reader = LiteralReader(text)
    name = reader.word()
    form = _FORMS.get(name)
    if form is None:
        raise LiteralError(f"unknown action {name[:30]!r}")
    arguments = _read_arguments(reader) if reader.next == "(" else {}
    reader.expect_end()
    unknown = arguments.keys() - form.allowed
    if unknown:
        raise LiteralError(f"{name} has no argument {min(unknown)[:30]!r}")
    fields: dict[str, Any] = dict(form.fixed)
    point, box = arguments.pop("point", None), arguments.pop("box", None)
    if point is not None or box is not None:
        fields["target"] = _web_target(point, box, max_coordinate)
    for argument, value in arguments.items():
        if argument in _INFO:
            to_text(value)
            continue
        field = _FIELD_OF.get(argument, argument)
        if field in fields:
            raise LiteralError(f"{name} gives {field} twice")
        fields[field] = _read_field(field, value, max_coordinate)
    if name == "scroll":
        fields.setdefault("distance", _DEFAULT_STEPS)
    missing = form.needed - fields.keys()
    if missing:
        raise LiteralError(f"{name} needs {', '.join(sorted(missing))}")
    return Action(form.type, **fields)


def _read_arguments(reader: LiteralReader) -> dict[str, Any]:
    reader.expect("(")
    arguments: dict[str, Any] = {}
    while not reader.take(")"):
        if arguments:
            reader.expect(",")
        name = reader.word()
        reader.expect("=")
        if name in arguments:
            raise LiteralError(f"the argument {name[:30]!r} is given twice")
        arguments[name] = reader.value()
    return arguments


def _read_field(field: str, value: Any, max_coordinate: float) -> Any:
    if field in ("target", "end"):
        return to_target(value, max_coordinate)
    if field == "keys":
        if isinstance(value, list):
            value = "+".join(map(to_text, value))
        return parse_chord(to_text(value))
    if field == "direction":
        return to_direction(value)
    return to_distance(value) if field == "distance" else to_text(value)


def _web_target(point: Any, box: Any, max_coordinate: float) -> Target:
    found_point = None if point is None else to_target(point, max_coordinate).point
    found_box = None if box is None else to_target(box, max_coordinate).box
    if (point is not None and found_point is None) or (box is not None and found_box is None):
        raise LiteralError("a point has two numbers, a box has four")
    return Target(box=found_box, point=found_point)
