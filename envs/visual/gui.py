"""The next action on a screen: click a button, type into a field, turn a switch, open an item, answer a dialog, scroll.

The answer is GLM-4.1V-Thinking's form, `Action: {"action_type": "click", "box_2d": [[x1, y1, x2, y2]]}`, in thousandths.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import PIL.Image
from pydantic import Field

from rlcs.envs.visual.canvas import centre
from rlcs.envs.visual.gui_drawing import paint_screen
from rlcs.envs.visual.task import Box, Params, Sample, Scene, VisualTask

Screen = Literal["buttons", "form", "list", "dialog"]
Element = dict[str, Any]
"""Kind, text, box and what else the kind needs (`rlcs.envs.visual.gui_drawing`)."""

_BUTTONS = ("OK", "No", "Go", "Save", "Open", "Edit", "Copy", "Send", "Help", "Stop")
_FIELDS = ("Name", "City", "Mail", "Age", "Code")
_WORDS = ("tom", "ann", "rome", "oslo", "lima", "42", "17", "eve", "bob", "bonn")
_ITEMS = ("Alarm", "Books", "Clock", "Dates", "Files", "Games", "Maps", "Music", "News", "Notes", "Photos", "Radio")
_SWITCHES = ("Wi-Fi", "Sound", "Light", "GPS", "Sync", "Lock")
_DIALOGS = (
    ("Delete file?", "Delete the file.", "Keep the file."),
    ("Log out?", "Log out.", "Stay logged in."),
    ("Send mail?", "Send the mail.", "Do not send the mail."),
    ("Install app?", "Install the app.", "Do not install the app."),
)


class GuiParams(Params):
    """Parameters of a level of `gui`."""

    screens: list[Screen] = Field(
        ["buttons"], min_length=1, description="Kinds of screens: buttons, form, list, dialog."
    )
    things: int = Field(2, ge=2, le=6, description="Buttons, fields or rows of a screen (at most 4 fields).")
    scroll: bool = Field(False, description="Some items of a list are not to be seen, so that it must be scrolled.")


class Gui(VisualTask[GuiParams]):
    """One instruction, one screen, one action."""

    verifier = "gui"
    params = GuiParams
    levels: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"things": 4},
        {"size": 140, "screens": ["buttons", "form"], "things": 3},
        {"size": 168, "screens": ["form", "list", "dialog"], "things": 4},
        {"size": 196, "screens": ["form", "list", "dialog"], "things": 5, "scroll": True},
    )

    def sample(self, rng: random.Random, params: GuiParams) -> Sample:
        screen = rng.choice(params.screens)
        if screen == "buttons":
            elements, goal, action, thinking = _buttons(rng, params.things)
        elif screen == "form":
            elements, goal, action, thinking = _form(rng, min(params.things, 4))
        elif screen == "list":
            elements, goal, action, thinking = _list(rng, params.things, params.scroll)
        else:
            elements, goal, action, thinking = _dialog(rng, params.things)
        scene: Scene = {"size": params.size, "elements": elements}
        answer = json.dumps(action)
        question = f'{goal} Next action as Action: {{"action_type": ..., "box_2d": ...}}.'
        return Sample(question, answer, thinking, (scene,), worked_answer=f"Action: {answer}")

    def paint(self, scene: Scene) -> PIL.Image.Image:
        return paint_screen(scene)


Made = tuple[list[Element], str, dict[str, Any], str]
"""What the screen shows, the goal in words, the right action, thinking."""


def click(box: Sequence[int]) -> dict[str, Any]:
    """The action that clicks a box."""
    return {"action_type": "click", "box_2d": [list(box)]}


def _at(text: str, box: Box) -> str:
    return "{} at {} {}".format(text, *centre(box))


def _buttons(rng: random.Random, count: int) -> Made:
    columns = 1 if count <= 3 else 2
    rows = -(-count // columns)
    width, height = 900 // columns, 900 // rows
    texts = rng.sample(_BUTTONS, count)
    elements: list[Element] = []
    for index, text in enumerate(texts):
        x, y = 50 + index % columns * width, 50 + index // columns * height
        margin_x, margin_y = rng.choice((20, 40, 60)), rng.choice((20, 40, 60))
        box = (x + margin_x, y + margin_y, x + width - margin_x, y + height - margin_y)
        elements.append({"kind": "button", "text": text, "box": box, "tint": rng.randrange(4)})
    wanted = rng.choice(elements)
    return elements, f"Click {wanted['text']}.", click(wanted["box"]), _at(wanted["text"], wanted["box"])


def _form(rng: random.Random, count: int) -> Made:
    height = 620 // count
    elements: list[Element] = [
        {"kind": "title", "text": rng.choice(("Sign up", "Profile", "Contact")), "box": (0, 0, 1000, 130)}
    ]
    fields = []
    for index, name in enumerate(rng.sample(_FIELDS, count)):
        top = 160 + index * height
        box = (350, top + 20, 960, top + height - 20)
        elements.append({"kind": "label", "text": name, "box": (40, top + 20, 340, top + height - 20)})
        fields.append((name, box))
        elements.append({"kind": "field", "text": rng.choice(("", rng.choice(_WORDS))), "box": box})
    buttons = []
    for index, text in enumerate(("OK", "Cancel")):
        box = (60 + index * 470, 820, 470 + index * 470, 960)
        buttons.append((text, box))
        elements.append({"kind": "button", "text": text, "box": box, "tint": index})
    if rng.random() < 0.3:
        text, box = rng.choice(buttons)
        return elements, f"Click {text}.", click(box), _at(text, box)
    name, box = rng.choice(fields)
    word = rng.choice(_WORDS)
    action = {"action_type": "input_text", "text": word, "box_2d": [list(box)]}
    return elements, f"Type {word} into {name}.", action, _at(name, box)


def _list(rng: random.Random, count: int, can_scroll: bool) -> Made:
    has_switches = rng.random() < 0.5
    names = rng.sample(_SWITCHES, min(count, len(_SWITCHES))) if has_switches else sorted(rng.sample(_ITEMS, count))
    height = 840 // len(names)
    elements: list[Element] = [
        {"kind": "title", "text": "Settings" if has_switches else "Apps", "box": (0, 0, 1000, 130)}
    ]
    rows: list[tuple[str, Box]] = []
    for index, name in enumerate(names):
        box = (30, 145 + index * height, 970, 135 + (index + 1) * height)
        elements.append({"kind": "row", "text": name, "box": box})
        if has_switches:
            middle = (box[1] + box[3]) // 2
            box = (740, middle - 55, 940, middle + 55)
            elements.append({"kind": "switch", "text": "", "box": box, "on": rng.random() < 0.5})
        rows.append((name, box))
    if has_switches:
        index = rng.randrange(len(rows))
        name, box = rows[index]
        is_on = [element["on"] for element in elements if element["kind"] == "switch"][index]
        return elements, f"Turn {name} {'off' if is_on else 'on'}.", click(box), _at(f"{name} switch", box)
    hidden = [item for item in _ITEMS if item > names[-1]]
    if can_scroll and hidden and rng.random() < 0.4:
        item = rng.choice(hidden)
        return elements, f"Open {item}.", {"action_type": "scroll", "direction": "down"}, f"{item} is below {names[-1]}"
    name, box = rng.choice(rows)
    return elements, f"Open {name}.", click(box), _at(name, box)


def _dialog(rng: random.Random, things: int) -> Made:
    elements, *_ = _form(rng, min(things, 4)) if rng.random() < 0.5 else _list(rng, things, False)
    question, yes, no = rng.choice(_DIALOGS)
    top = rng.randint(200, 400)
    elements.append({"kind": "dialog", "text": question, "box": (90, top, 910, top + 420)})
    labels = ("Yes", "No") if rng.random() < 0.5 else ("No", "Yes")
    boxes: dict[str, Box] = {}
    for index, label in enumerate(labels):
        boxes[label] = (150 + index * 370, top + 230, 480 + index * 370, top + 370)
        elements.append({"kind": "button", "text": label, "box": boxes[label], "tint": 0})
    label, goal = ("Yes", yes) if rng.random() < 0.5 else ("No", no)
    return elements, goal, click(boxes[label]), _at(label, boxes[label])
