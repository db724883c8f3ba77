"""Write an action in a grammar; `parse_action` reads it back to the same action.

Datasets with actions of another form become references with it. What a grammar cannot say raises.
"""

from __future__ import annotations

import json
from typing import Any

from rlcs.rewards.gui_actions.action import Action, ActionType, Target

_JSON_NAMES = {
    ActionType.CLICK: "click",
    ActionType.DOUBLE_CLICK: "double_tap",
    ActionType.RIGHT_CLICK: "right_click",
    ActionType.LONG_PRESS: "long_press",
    ActionType.TYPE: "input_text",
    ActionType.SCROLL: "scroll",
    ActionType.OPEN_APP: "open_app",
    ActionType.BACK: "navigate_back",
    ActionType.HOME: "navigate_home",
    ActionType.WAIT: "wait",
    ActionType.STATUS: "status",
    ActionType.ANSWER: "answer",
}
_OSWORLD_NAMES = {
    ActionType.CLICK: "left_click",
    ActionType.DOUBLE_CLICK: "left_double_click",
    ActionType.RIGHT_CLICK: "right_click",
    ActionType.MIDDLE_CLICK: "middle_click",
    ActionType.HOVER: "hover",
    ActionType.DRAG: "left_drag",
    ActionType.SCROLL: "scroll",
    ActionType.TYPE: "type",
    ActionType.KEY: "key",
    ActionType.WAIT: "WAIT",
}
_WEBVOYAGER_NAMES = {
    ActionType.CLICK: "CLICK",
    ActionType.DOUBLE_CLICK: "DOUBLE_CLICK",
    ActionType.RIGHT_CLICK: "RIGHT_CLICK",
    ActionType.HOVER: "HOVER",
    ActionType.TYPE: "TYPE",
    ActionType.KEY: "KEY_PRESS",
    ActionType.BACK: "GO_BACK",
    ActionType.ANSWER: "ANSWER",
}


def to_json_action(action: Action) -> str:
    """An action in the grammar of GLM-4.1V-Thinking and AndroidWorld.

    Raises:
        ValueError: the grammar has no such action.
    """
    enter = action.type is ActionType.KEY and action.keys == frozenset({"enter"})
    name = "keyboard_enter" if enter else _name(_JSON_NAMES, action)
    fields: dict[str, Any] = {"action_type": name, "direction": action.direction, "text": action.text}
    fields |= {"override": action.override, "app_name": action.app, "goal_status": action.status}
    if action.target is not None:
        if action.target.box is not None:
            fields["box_2d"] = [[_plain(number) for number in action.target.box]]
        elif action.target.point is not None:
            fields["x"], fields["y"] = map(_plain, action.target.point)
        elif action.target.element is not None:
            fields["index"] = int(action.target.element)
    return json.dumps({key: value for key, value in fields.items() if value is not None}, ensure_ascii=False)


def to_osworld_action(action: Action) -> str:
    """An action in OSWorld's grammar.

    Raises:
        ValueError: the grammar has no such action.
    """
    if action.type is ActionType.STATUS:
        return "DONE()" if action.status == "complete" else "FAIL()"
    arguments = {
        "start_box": _quoted_target(action.target),
        "end_box": _quoted_target(action.end),
        "direction": None if action.direction is None else _quoted(action.direction),
        "step": None if action.distance is None else str(_plain(action.distance)),
        "content": None if action.text is None else _quoted(action.text),
        "keys": _chord(action),
    }
    return _call(_name(_OSWORLD_NAMES, action), arguments)


def to_webvoyager_action(action: Action) -> str:
    """An action in WebVoyager's grammar with coordinates.

    Raises:
        ValueError: the grammar has no such action.
    """
    target = action.target or Target()
    name = f"SCROLL_{(action.direction or '').upper()}"
    if action.type is not ActionType.SCROLL:
        name = _name(_WEBVOYAGER_NAMES, action)
    text = None if action.text is None else _quoted(action.text)
    arguments = {
        "point": None if target.point is None else "({}, {})".format(*map(_plain, target.point)),
        "box": None if target.box is None else str([[_plain(number) for number in target.box]]),
        "distance": None if action.distance is None else str(_plain(action.distance)),
        "content" if action.type is ActionType.ANSWER else "text": text,
        "key": _chord(action),
    }
    return _call(name, arguments)


def _name(names: dict[ActionType, str], action: Action) -> str:
    if action.type not in names:
        raise ValueError(f"the grammar has no action {action.type}")
    return names[action.type]


def _call(name: str, arguments: dict[str, str | None]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items() if value is not None)})"


def _chord(action: Action) -> str | None:
    if action.keys is None:
        return None
    # The plus key stands last: only there is it no separator.
    return _quoted("+".join(sorted(action.keys, key=lambda key: (key == "+", key))))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted_target(target: Target | None) -> str | None:
    if target is None:
        return None
    numbers = target.point or target.box
    return None if numbers is None else _quoted(str([_plain(number) for number in numbers]))


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
