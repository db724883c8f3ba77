"""Real pages in headless Chromium, over several turns: a screen and one action a turn, executed for real.

The task `form` makes small pages with fields, boxes to tick and buttons; the task `page` takes a page of your own from a
local file. Actions are those of `gui_episode`: click, input_text, status; boxes are thousandths of the screen. An episode
is worth 1 if the page is as the goal wants it when the policy says that it is complete.

Playwright drives the browser (the extra `browser`), which nothing reaches from outside of the page's own folder. The state is
the list of actions: a page that is not at hand, since another process has it, is opened anew and played to where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rlcs.envs.base import EpisodeEnvironment, Turn, WorkedSolution
from rlcs.envs.visual.gui_episode import COMPLETE, read_action
from rlcs.errors import ConfigError
from rlcs.types import Image, Prompt, Score, prompt_id

Spec = dict[str, Any]
"""A page: `size`, and `file`, or `fields`, `ticks` and `buttons`."""

_FIELDS = ("Name", "City", "Code")
_TICKS = ("News", "Sound", "Dark")
_BUTTONS = ("Save", "Send", "Cancel", "Help")
_WORDS = ("tom", "ann", "rome", "oslo", "42", "17", "eve", "bonn")
_LEVELS: list[dict[str, Any]] = [
    {"goals": []},
    {"goals": ["tick"]},
    {"goals": ["field"]},
    {"goals": ["field", "tick"]},
    {"goals": ["field", "field", "tick"]},
]
_TIMEOUT_MS = 5_000
_MOST_PAGES = 16
"""Pages that stay open in a process."""
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]

_ELEMENTS = """() => [...document.querySelectorAll('a, button, input, select, textarea')].map(element => {
  const box = element.getBoundingClientRect()
  const name = element.name || element.getAttribute('aria-label') || element.textContent.trim()
  const kind = element.type === 'checkbox' ? (element.checked ? 'ticked box' : 'box') : element.tagName.toLowerCase()
  return {name, kind, box: [box.left, box.top, box.right, box.bottom], value: element.value || ''}
}).filter(e => e.box[2] > e.box[0] && e.box[3] > e.box[1])"""
_RESULT = """() => ({
  fields: Object.fromEntries([...document.querySelectorAll('input:not([type])')].map(e => [e.name, e.value])),
  ticks: Object.fromEntries([...document.querySelectorAll('input[type=checkbox]')].map(e => [e.name, e.checked])),
  pressed: window.pressed || null})"""


class Browser(EpisodeEnvironment):
    """The tasks `form` (parameters `goals`, of field and tick) and `page` (`file`, `question`, `done`: JavaScript that is
    true at the goal). Both: `size` of the screen, and `show`: screen, boxes (a list of what can be used, as text), or both.
    """

    max_turns = 10

    def levels(self, task: str) -> list[dict[str, Any]]:
        if task == "page":
            return [{}]
        if task != "form":
            raise ConfigError(f"data.tasks: the environment browser has no task {task!r}; it has form, page")
        return [dict(level) for level in _LEVELS]

    def generate(self, task: str, params: dict[str, Any], *, domain: str, tier: int, seed: int) -> Iterator[Prompt]:
        """See `Environment.generate`. The task `page` has one prompt a level."""
        find_chromium()
        show = params.get("show", "screen")
        if show not in ("screen", "boxes", "both"):
            raise ConfigError(f"data.tasks: show of the environment browser is screen, boxes or both, not {show!r}")
        rest = {name: value for name, value in params.items() if name != "show"}
        made = _own_page(**rest) if task == "page" else _forms(f"{task}/{seed}", **rest)
        for spec, goal, question in made:
            asked = f'{question} One action a turn, as Action: {{"action_type": ..., "box_2d": ...}}; status when done.'
            metadata = {"task": task, "page": spec, "goal": goal, "show": show}
            parts: list[dict[str, Any]] = [{"type": "image"}] if show != "boxes" else []
            if show != "screen":
                asked += "\n" + _described(_first(spec)["elements"])
            messages = [{"role": "user", "content": [*parts, {"type": "text", "text": asked}] if parts else asked}]
            images = (_first_image(spec),) if parts else ()
            answer = json.dumps(goal, sort_keys=True)
            yield Prompt(prompt_id(messages, answer, images), messages, answer, domain, tier, metadata, images)

    def reset(self, prompt: Prompt) -> dict[str, Any]:
        return {"actions": []}

    def step(self, prompt: Prompt, state: dict[str, Any], response: str) -> Turn:
        action = read_action(response)
        if isinstance(action, dict) and action["action_type"] == "status":
            return Turn(state, score=self.give_up(prompt, state))
        with _Opened(prompt.metadata["page"], state["actions"]) as opened:
            problem = f"Error: {action}." if isinstance(action, str) else ""
            if isinstance(action, dict):
                opened.act(action)
            parts: list[dict[str, Any]] = []
            images: tuple[Image, ...] = ()
            if prompt.metadata["show"] != "boxes":
                parts, images = [{"type": "image"}], (Image.of(opened.screen()),)
            told = [problem, _described(opened.elements()) if prompt.metadata["show"] != "screen" else ""]
            text = "\n".join(part for part in told if part)
            if text:
                parts.append({"type": "text", "text": text})
            return Turn({"actions": list(opened.actions)}, parts, images)

    def give_up(self, prompt: Prompt, state: dict[str, Any]) -> Score:
        goal = prompt.metadata["goal"]
        with _Opened(prompt.metadata["page"], state["actions"]) as opened:
            reached = bool(opened.ask(goal["done"])) if "done" in goal else opened.ask(_RESULT) == goal
        return Score(float(reached), correct=reached, detail=f"the goal is {'' if reached else 'not '}reached")

    def solve_turn(self, prompt: Prompt, state: dict[str, Any]) -> WorkedSolution | None:
        """The next action to the goal, of the task `form`."""
        goal = prompt.metadata["goal"]
        if "done" in goal:
            return None
        with _Opened(prompt.metadata["page"], state["actions"]) as opened:
            now, boxes = opened.ask(_RESULT), {e["name"]: e["box"] for e in opened.elements()}
        action: dict[str, Any] = COMPLETE
        name = next((n for n, text in goal["fields"].items() if now["fields"][n] != text), None)
        tick = next((n for n, on in goal["ticks"].items() if now["ticks"][n] != on), None)
        if name is not None:
            action = {"action_type": "input_text", "text": goal["fields"][name], "box_2d": [boxes[name]]}
        elif tick is not None or now["pressed"] != goal["pressed"]:
            name = tick or goal["pressed"]
            action = {"action_type": "click", "box_2d": [boxes[name]]}
        return WorkedSolution(name or "done", f"Action: {json.dumps(action)}")


def find_chromium() -> str:
    """The browser: RLCS_CHROMIUM, or `chromium` on the path, or the one that Playwright has installed.

    Raises:
        ConfigError: there is none, or no Playwright.
    """
    try:
        from playwright.sync_api import sync_playwright  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the environment browser needs the package playwright: pip install 'rlcs[browser]'"
        ) from error
    found = os.environ.get("RLCS_CHROMIUM") or shutil.which("chromium") or ""
    if found and not Path(found).exists():
        raise ConfigError(f"the environment browser: there is no {found} (RLCS_CHROMIUM)")
    return found


class _Session:
    """A browser of one thread, and its open pages by what was done on them."""

    def __init__(self) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self.browser = self._playwright.chromium.launch(executable_path=find_chromium() or None, args=_OPTIONS)
        self.pages: OrderedDict[str, Any] = OrderedDict()

    def open(self, spec: Spec) -> Any:
        """A new page, in a context of its own."""
        folder = Path(spec["file"]).parent if "file" in spec else None
        size = spec["size"]
        context = self.browser.new_context(viewport={"width": size, "height": size}, offline=folder is None)
        context.set_default_timeout(_TIMEOUT_MS)
        context.route("**/*", lambda route: _let_in(route, folder))
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.on("popup", lambda other: other.close())
        if folder is None:
            page.set_content(_html(spec))
        else:
            page.goto(Path(spec["file"]).as_uri())
        return page

    def close(self, page: Any) -> None:
        """End a page."""
        page.context.close()


_sessions = threading.local()


def _session() -> _Session:
    """The browser of this thread; a new one where the last has died."""
    found: _Session | None = getattr(_sessions, "session", None)
    if found is None or not found.browser.is_connected():
        found = _sessions.session = _Session()
    return found


class _Opened:
    """A page on which some actions were done, for the time of a `with`."""

    def __init__(self, spec: Spec, actions: list[dict[str, Any]]) -> None:
        self._spec = spec
        self.actions = list(actions)
        self._session = _session()

    def __enter__(self) -> _Opened:
        self._page = self._session.pages.pop(self._key(), None)
        if self._page is None:
            self._page = self._session.open(self._spec)
            done, self.actions = self.actions, []
            for action in done:
                self.act(action)
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None:
            self._session.close(self._page)
            return
        old = self._session.pages.pop(self._key(), None)
        self._session.pages[self._key()] = self._page
        if old is not None:
            self._session.close(old)
        while len(self._session.pages) > _MOST_PAGES:
            self._session.close(self._session.pages.popitem(last=False)[1])

    def act(self, action: dict[str, Any]) -> None:
        """Do an action, and wait for what it starts."""
        scale = self._spec["size"] / 1000
        x, y = action["at"]
        self._page.mouse.click(x * scale, y * scale)
        if action["action_type"] == "input_text":
            self._page.keyboard.press("ControlOrMeta+a")
            self._page.keyboard.type(action["text"])
        self._page.wait_for_load_state()
        self.actions.append({**action, "at": [x, y]})  # as JSON has it

    def screen(self) -> bytes:
        """A PNG file of the screen."""
        return self._page.screenshot(animations="disabled", caret="hide")  # type: ignore[no-any-return]

    def elements(self) -> list[dict[str, Any]]:
        """What can be used, with boxes in thousandths of the screen."""
        found = self.ask(_ELEMENTS)
        scale = 1000 / self._spec["size"]
        return [{**e, "box": [min(1000, max(0, round(edge * scale))) for edge in e["box"]]} for e in found]

    def ask(self, script: str) -> Any:
        """The value of a script on the page."""
        return self._page.evaluate(script)

    def _key(self) -> str:
        return json.dumps([self._spec, self.actions], sort_keys=True)


def _let_in(route: Any, folder: Path | None) -> None:
    """Answer a request of a page: from its own folder, or not at all. A link that leads out leaves the page as it is."""
    if _is_inside(route.request.url, folder):
        route.continue_()
    elif route.request.is_navigation_request():
        route.fulfill(status=204)  # the page of an error cannot be photographed while it comes
    else:
        route.abort()


def _is_inside(url: str, folder: Path | None) -> bool:
    """Whether a page may load this: data in itself, and files of its own folder."""
    parts = urlsplit(url)
    if parts.scheme in ("data", "about"):
        return True
    return folder is not None and parts.scheme == "file" and Path(unquote(parts.path)).resolve().is_relative_to(folder)


def _first(spec: Spec) -> dict[str, Any]:
    """The screen and the elements of a page at the beginning."""
    with _Opened(spec, []) as opened:
        return {"screen": opened.screen(), "elements": opened.elements()}


def _first_image(spec: Spec) -> Image:
    """The screen at the beginning, drawn when it is needed; known by the page."""
    text = json.dumps(spec, sort_keys=True)
    content = Path(spec["file"]).read_text(encoding="utf-8") if "file" in spec else ""
    digest = hashlib.sha256(f"browser/{text}/{content}".encode()).hexdigest()[:32]
    return Image(digest, partial(_draw, text))


def _draw(spec: str) -> bytes:
    data: bytes = _first(json.loads(spec))["screen"]
    return data


def _described(elements: list[dict[str, Any]]) -> str:
    return "\n".join(f"{e['kind']} {e['name']}: {e['box']}" for e in elements)


def _html(spec: Spec) -> str:
    rows = [f"<label>{name} <input name='{name}' size=8 autocomplete=off></label>" for name in spec["fields"]]
    rows += [f"<label><input type=checkbox name='{name}'> {name}</label>" for name in spec["ticks"]]
    buttons = "".join(f"<button onclick='window.pressed=this.textContent'>{name}</button>" for name in spec["buttons"])
    style = "body{font:14px sans-serif;margin:6px}label{display:block;margin:4px 0}button{margin:3px;padding:4px}"
    return f"<!doctype html><title>Form</title><style>{style}</style>{''.join(rows)}<div>{buttons}</div>"


def _forms(
    seed: str, goals: Any = ("field",), size: Any = 224, **unknown: Any
) -> Iterator[tuple[Spec, dict[str, Any], str]]:
    """Pages of the task `form` with their goals and questions."""
    _refuse(unknown, "form", "goals, size, show")
    _check_size(size)
    if (
        not isinstance(goals, list | tuple)
        or not set(goals) <= {"field", "tick"}
        or max(map(goals.count, goals), default=0) > 3
    ):
        raise ConfigError(
            f"data.tasks: goals of the task 'form' are field and tick, three of each at most, not {goals!r}"
        )
    for index in count():
        rng = random.Random(f"{seed}/{index}")
        spec = {
            "size": size,
            "fields": rng.sample(_FIELDS, max(1, goals.count("field"))),
            "ticks": rng.sample(_TICKS, max(2, goals.count("tick"))),
            "buttons": rng.sample(_BUTTONS, 3),
        }
        fields = dict.fromkeys(spec["fields"], "")
        ticks = dict.fromkeys(spec["ticks"], False)
        filled = rng.sample(spec["fields"], goals.count("field"))
        ticked = rng.sample(spec["ticks"], goals.count("tick"))
        fields |= {name: rng.choice(_WORDS) for name in filled}
        ticks |= dict.fromkeys(ticked, True)
        pressed = rng.choice(spec["buttons"])
        texts = [f"Set {name} to {fields[name]}." for name in filled] + [f"Tick {name}." for name in ticked]
        yield spec, {"fields": fields, "ticks": ticks, "pressed": pressed}, " ".join([*texts, f"Then press {pressed}."])


def _own_page(
    file: Any = None, question: Any = None, done: Any = None, size: Any = 448, **unknown: Any
) -> Iterator[tuple[Spec, dict[str, Any], str]]:
    """The page of the task `page`."""
    _refuse(unknown, "page", "file, question, done, size, show")
    _check_size(size)
    for name, value in (("file", file), ("question", question), ("done", done)):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"data.tasks: the task 'page' needs the parameter {name!r}, a text")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"data.tasks: file of the task 'page': there is no {path}")
    yield {"size": size, "file": str(path)}, {"done": done}, question


def _check_size(size: Any) -> None:
    if type(size) is not int or not 112 <= size <= 1024:
        raise ConfigError(f"data.tasks: size of the environment browser is 112 to 1024, not {size!r}")


def _refuse(unknown: dict[str, Any], task: str, known: str) -> None:
    for name in unknown:
        raise ConfigError(f"data.tasks: the task {task!r} has no parameter {name!r}; it has {known}")
