"""A small desktop played over several turns: open an app, turn a switch, fill in a form, delete a file and confirm it.

Every turn the policy sees a screen and answers with one action (`rlcs.envs.visual.gui`). The episode ends with the action
`{"action_type": "status", "goal_status": "complete"}`, and is worth 1 if the desktop then is as the goal wants it and nothing
else was changed. An action that cannot be read, or hits nothing, costs a turn and is told with the same screen.

The state is plain data: `screen`, `switches`, `fields`, `saved` (the fields as they were last saved), `files`, `asked` (the file
whose deletion is to be confirmed).
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from itertools import count
from typing import Any

from rlcs.envs.base import EpisodeEnvironment, Turn, WorkedSolution
from rlcs.envs.visual.env import scene_image
from rlcs.envs.visual.gui import Element, click
from rlcs.errors import ConfigError
from rlcs.response_format import BOX_CLOSE, BOX_OPEN
from rlcs.types import Image, Prompt, Score, prompt_id

State = dict[str, Any]
COMPLETE = {"action_type": "status", "goal_status": "complete"}

_SWITCHES = ("Wi-Fi", "Sound", "Light", "GPS")
_FIELDS = ("Name", "City", "Code")
_WORDS = ("tom", "ann", "rome", "oslo", "42", "17", "eve", "bonn")
_FILES = ("notes", "photo", "letter", "music")
_APPS = ("Settings", "Profile", "Files")
_MAX_TEXT = 100
_LEVELS: list[dict[str, Any]] = [
    {"goals": ["switch"], "start": "Settings"},
    {"goals": ["switch"]},
    {"goals": ["field"], "size": 140},
    {"goals": ["file"], "size": 140},
    {"goals": ["switch", "field", "file"], "pick": 2, "size": 140},
]


class GuiEpisode(EpisodeEnvironment):
    """The task `desktop`. Its level parameters: `goals` (of switch, field, file), `pick` of them, `start`, `size`."""

    max_turns = 12

    def levels(self, task: str) -> list[dict[str, Any]]:
        if task != "desktop":
            raise ConfigError(f"data.tasks: the environment gui_episode has no task {task!r}; it has desktop")
        return [dict(level) for level in _LEVELS]

    def generate(self, task: str, params: dict[str, Any], *, domain: str, tier: int, seed: int) -> Iterator[Prompt]:
        """See `Environment.generate`. The reference answer is a sound first action."""
        self.levels(task)
        goals, pick, start, size = _checked(**params)
        for index in count():
            rng = random.Random(f"{task}/{seed}/{index}")
            state: State = {
                "screen": start,
                "switches": {name: rng.random() < 0.5 for name in rng.sample(_SWITCHES, 3)},
                "fields": dict.fromkeys(rng.sample(_FIELDS, 2), ""),
                "files": sorted(rng.sample(_FILES, 3)),
                "asked": None,
                "size": size,
            }
            state["saved"] = dict(state["fields"])
            wanted: State = {}
            texts = [_add_goal(rng, goal, state, wanted) for goal in rng.sample(goals, pick)]
            picture = screen_image(state)
            question = f'{" ".join(texts)} One action a turn, as Action: {{"action_type": ..., "box_2d": ...}}; status when done.'
            messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
            answer = json.dumps(next_action(state, wanted))
            metadata = {"task": task, "verifier": "gui", "start": state, "goal": wanted}
            identity = prompt_id(messages, answer, [picture])
            yield Prompt(identity, messages, answer, domain, tier, metadata, (picture,))

    def solve_turn(self, prompt: Prompt, state: State) -> WorkedSolution:
        action = next_action(state, prompt.metadata["goal"])
        return WorkedSolution(state["screen"], f"Action: {json.dumps(action)}")

    def reset(self, prompt: Prompt) -> State:
        return copy.deepcopy(prompt.metadata["start"])

    def step(self, prompt: Prompt, state: State, response: str) -> Turn:
        action = read_action(response)
        if isinstance(action, str):
            return self._look(state, f"Error: {action}.")
        if action["action_type"] == "status":
            return Turn(state, score=self.give_up(prompt, state))
        after = copy.deepcopy(state)
        problem = _act(after, action)
        return self._look(after, f"Error: {problem}." if problem else "")

    def give_up(self, prompt: Prompt, state: State) -> Score:
        reached = _result(state) == {**_result(prompt.metadata["start"]), **_flat(prompt.metadata["goal"])}
        return Score(
            float(reached), correct=reached, detail="the goal is reached" if reached else "the goal is not reached"
        )

    def _look(self, state: State, text: str) -> Turn:
        parts = [{"type": "image"}, *([{"type": "text", "text": text}] if text else [])]
        return Turn(state, parts, (screen_image(state),))


def next_action(state: State, goal: State) -> dict[str, Any]:
    """An action that brings the desktop nearer to the goal: what a worked solution does."""
    boxes = {element["name"]: element["box"] for element in screen_elements(state) if "name" in element}
    if state["asked"] is not None:
        return click(boxes["Yes" if state["asked"] not in goal.get("files", [state["asked"]]) else "No"])
    screen = _screen_of_next_step(state, goal)
    if screen is None:
        return COMPLETE
    if state["screen"] != screen:
        return click(boxes[screen if state["screen"] == "Home" else "Home"])
    if screen == "Settings":
        return click(boxes[next(name for name, on in goal["switches"].items() if state["switches"][name] != on)])
    if screen == "Files":
        return click(boxes[next(name for name in state["files"] if name not in goal["files"])])
    for name, text in goal["saved"].items():
        if state["fields"][name] != text:
            return {"action_type": "input_text", "text": text, "box_2d": [list(boxes[name])]}
    return click(boxes["Save"])


def read_action(response: str) -> dict[str, Any] | str:
    """The action in the box of a response, or what is wrong with it in a few words."""
    _, opened, rest = response.rpartition(BOX_OPEN)
    text, closed, _ = rest.partition(BOX_CLOSE)
    if not opened or not closed:
        return "there is no action in a box"
    try:
        action = json.loads(text.strip().removeprefix("Action:"))
    except (ValueError, RecursionError):
        return "the action is no JSON"
    kind = action.get("action_type") if isinstance(action, dict) else None
    if kind == "status":
        return {"action_type": "status"}
    if kind not in ("click", "input_text"):
        return "action_type must be click, input_text or status"
    boxes = action.get("box_2d")
    box = boxes[0] if isinstance(boxes, list) and len(boxes) == 1 else boxes
    if not isinstance(box, list) or len(box) != 4 or not all(type(n) in (int, float) and 0 <= n <= 1000 for n in box):
        return "box_2d must be [[x1, y1, x2, y2]] in 0 to 1000"
    written = action.get("text", "")
    if kind == "input_text" and (not isinstance(written, str) or len(written) > _MAX_TEXT):
        return f"text must be a text of at most {_MAX_TEXT} characters"
    return {"action_type": kind, "at": ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), "text": written}


def screen_image(state: State) -> Image:
    """The picture of the screen."""
    shown = [{key: value for key, value in element.items() if key != "name"} for element in screen_elements(state)]
    return scene_image("gui", {"size": state["size"], "elements": shown})


def screen_elements(state: State) -> list[Element]:
    """What is on the screen; elements that can be used have a `name`."""
    screen = state["screen"]
    is_saved = screen == "Profile" and any(state["saved"].values()) and state["saved"] == state["fields"]
    title = "Profile saved" if is_saved else screen
    elements: list[Element] = [{"kind": "title", "text": title, "box": (0, 0, 1000, 130)}]
    if screen == "Home":
        for index, app in enumerate(_APPS):
            elements.append(
                {"kind": "row", "name": app, "text": app, "box": (50, 180 + index * 260, 950, 410 + index * 260)}
            )
    else:
        elements.append({"kind": "button", "name": "Home", "text": "Home", "box": (30, 860, 330, 980), "tint": 1})
    if screen == "Settings":
        for index, (name, on) in enumerate(state["switches"].items()):
            top = 150 + index * 230
            elements.append({"kind": "row", "text": name, "box": (30, top, 970, top + 210)})
            elements.append(
                {"kind": "switch", "name": name, "text": "", "box": (720, top + 50, 940, top + 160), "on": on}
            )
    elif screen == "Profile":
        for index, (name, text) in enumerate(state["fields"].items()):
            top = 170 + index * 300
            elements.append({"kind": "label", "text": name, "box": (40, top, 340, top + 220)})
            elements.append({"kind": "field", "name": name, "text": text, "box": (350, top, 960, top + 220)})
        elements.append({"kind": "button", "name": "Save", "text": "Save", "box": (640, 860, 970, 980), "tint": 2})
    elif screen == "Files":
        for index, name in enumerate(state["files"]):
            top = 150 + index * 230
            elements.append({"kind": "row", "name": name, "text": f"Delete {name}", "box": (30, top, 970, top + 210)})
    if state["asked"] is not None:
        elements.append({"kind": "dialog", "text": f"Delete {state['asked']}?", "box": (90, 250, 910, 700)})
        for index, name in enumerate(("Yes", "No")):
            box = (150 + index * 370, 490, 480 + index * 370, 640)
            elements.append({"kind": "button", "name": name, "text": name, "box": box, "tint": 0})
    return elements


def _act(state: State, action: dict[str, Any]) -> str | None:
    """Change the state by an action; why it does nothing, or None."""
    x, y = action["at"]
    usable = screen_elements(state)
    if state["asked"] is not None:  # what lies behind a dialog cannot be used
        usable = usable[-2:]
    name = next(
        (
            e["name"]
            for e in usable
            if "name" in e and e["box"][0] <= x <= e["box"][2] and e["box"][1] <= y <= e["box"][3]
        ),
        None,
    )
    if name is None:
        return "nothing there can be used"
    if action["action_type"] == "input_text":
        if state["screen"] != "Profile" or name not in state["fields"]:
            return "there is no field there"
        state["fields"][name] = action["text"]
    elif state["asked"] is not None:
        if name == "Yes":
            state["files"].remove(state["asked"])
        state["asked"] = None
    elif name == "Home" or state["screen"] == "Home":
        state["screen"] = name
    elif name == "Save":
        state["saved"] = dict(state["fields"])
    elif state["screen"] == "Settings":
        state["switches"][name] = not state["switches"][name]
    elif state["screen"] == "Files":
        state["asked"] = name
    return None


def _add_goal(rng: random.Random, goal: str, state: State, wanted: State) -> str:
    """Put a goal among what is wanted; it in words."""
    if goal == "switch":
        name = rng.choice(list(state["switches"]))
        wanted["switches"] = {name: not state["switches"][name]}
        return f"Turn {name} {'on' if wanted['switches'][name] else 'off'}."
    if goal == "field":
        name, text = rng.choice(list(state["fields"])), rng.choice(_WORDS)
        wanted["saved"] = {name: text}
        return f"Set {name} to {text} in the profile and save it."
    gone = rng.choice(state["files"])
    wanted["files"] = [name for name in state["files"] if name != gone]
    return f"Delete the file {gone}."


def _screen_of_next_step(state: State, goal: State) -> str | None:
    if any(state["switches"][name] != on for name, on in goal.get("switches", {}).items()):
        return "Settings"
    if any(state["saved"][name] != text for name, text in goal.get("saved", {}).items()):
        return "Profile"
    return "Files" if "files" in goal and state["files"] != goal["files"] else None


def _result(state: State) -> State:
    """What of a state counts: switches, saved fields and files, flat."""
    return _flat({name: state[name] for name in ("switches", "saved", "files")})


def _flat(goal: State) -> State:
    flat: State = {}
    for part, value in goal.items():
        if isinstance(value, dict):
            flat |= {f"{part}/{name}": item for name, item in value.items()}
        else:
            flat[part] = value
    return flat


def _checked(
    goals: Any = ("switch",), pick: Any = 1, start: Any = "Home", size: Any = 112, **unknown: Any
) -> tuple[list[str], int, str, int]:
    """The parameters of a level. Raises ConfigError if one is unknown or of no use."""
    for name in unknown:
        raise ConfigError(f"data.tasks: the task 'desktop' has no parameter {name!r}; it has goals, pick, start, size")
    known = {"switch", "field", "file"}
    if not isinstance(goals, list | tuple) or not goals or not set(goals) <= known or len(set(goals)) < len(goals):
        raise ConfigError(f"data.tasks: goals of the task 'desktop' are some of switch, field, file, not {goals!r}")
    if type(pick) is not int or not 1 <= pick <= len(goals):
        raise ConfigError(f"data.tasks: pick of the task 'desktop' is 1 to the number of goals, not {pick!r}")
    if start not in ("Home", *_APPS):
        raise ConfigError(f"data.tasks: start of the task 'desktop' is Home, {', '.join(_APPS)}, not {start!r}")
    if type(size) is not int or not 56 <= size <= 1024:
        raise ConfigError(f"data.tasks: size of the task 'desktop' is 56 to 1024, not {size!r}")
    return list(goals), pick, start, size
