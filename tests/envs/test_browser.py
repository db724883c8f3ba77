"""Real pages in Chromium: worked actions reach the goal, nothing from outside is loaded, any process can go on.

Without a chromium these tests are skipped, unless RLCS_REQUIRE_BROWSER is set.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest

from rlcs.envs.base import load_env, work_out
from rlcs.envs.browser import Browser, _Session, _sessions, find_chromium
from rlcs.errors import ConfigError
from rlcs.response_format import render_response
from rlcs.rewards.workers import KillablePool, WorkerOutcome
from rlcs.rollout.environment_worker import read_turn, request
from rlcs.types import Prompt

pytest.importorskip("playwright.sync_api")

if not (os.environ.get("RLCS_CHROMIUM") or shutil.which("chromium") or os.environ.get("RLCS_REQUIRE_BROWSER")):
    pytest.skip("there is no chromium here (apt install chromium, or RLCS_CHROMIUM=PATH)", allow_module_level=True)

ENV = Browser()
PAGE = """<!doctype html><title>Door</title><body style="margin:0">
<button style="position:absolute;left:0;top:0;width:100px;height:100px"
  onclick="opened = true; window.open('other.html')">Open</button>
<img id=out src="SECRET"><a href="HTTP" style="position:absolute;top:200px">away</a>"""


def prompts(level: int, number: int = 2, **params: object) -> list[Prompt]:
    stream = ENV.generate("form", {**ENV.levels("form")[level], **params}, domain="form", tier=0, seed=0)
    return list(itertools.islice(stream, number))


def say(action: object) -> str:
    return render_response("", f"Action: {json.dumps(action)}")


@pytest.mark.parametrize(("level", "turns"), [(0, 2), (4, 5)])
def test_worked_actions_reach_the_goal_on_the_real_page(level: int, turns: int) -> None:
    for prompt in prompts(level):
        worked = work_out(ENV, prompt)
        assert worked is not None and len(worked) == turns
        sizes = {image.open().size for turn in worked[1:] for image in turn.images}
        assert sizes == {(224, 224)} == {prompt.images[0].open().size}
        assert worked[1].images[0].data != prompt.images[0].data, "the screen shows what was done"
        assert ENV.give_up(prompt, ENV.reset(prompt)).value == 0.0
        state = ENV.reset(prompt)
        for turn in worked:
            last = ENV.step(prompt, state, render_response("", turn.solution.answer))
            state = last.state
        assert last.score is not None and last.score.value == 1.0


def test_another_process_goes_on_from_the_state_and_errors_are_told() -> None:
    (prompt,) = prompts(3, 1, show="both")
    first = ENV.solve_turn(prompt, ENV.reset(prompt))
    assert first is not None
    here = ENV.step(prompt, ENV.reset(prompt), render_response("", first.answer))
    assert json.loads(json.dumps(here.state)) == here.state
    pool = KillablePool("rlcs.rollout.environment_worker:answer", timeout_s=60, memory_mb=1 << 26)
    try:
        (result,) = pool.run([request("browser", prompt, here.state, "no action")])
        assert result.outcome == WorkerOutcome.OK, result.detail
    finally:
        pool.close()
    there = read_turn(result.value)
    assert there.state == here.state and there.images[0].data == here.images[0].data
    assert there.observation is not None and here.observation is not None
    assert there.observation[1]["text"] == "Error: there is no action in a box.\n" + here.observation[1]["text"]


def test_a_policy_of_text_gets_the_boxes_of_what_can_be_used() -> None:
    (prompt,) = prompts(1, 1, show="boxes")
    assert not prompt.images and isinstance(prompt.messages[0]["content"], str)
    worked = work_out(ENV, prompt)
    assert worked is not None and not any(turn.images for turn in worked)
    assert "ticked box" in worked[1].observation[0]["text"]


def test_a_page_of_ones_own_reaches_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(prompts(0, 1)[0].images[0].data)
    html = PAGE.replace("SECRET", secret.as_uri()).replace("HTTP", "http://127.0.0.1:9/")
    (folder / "door.html").write_text(html)
    (folder / "other.html").write_text("hello")
    params = {"file": str(folder / "door.html"), "question": "Open the door.", "done": "() => window.opened === true"}
    (prompt,) = ENV.generate("page", params, domain="door", tier=0, seed=0)
    state = ENV.reset(prompt)
    away = ENV.step(prompt, state, say({"action_type": "click", "box_2d": [[40, 450, 120, 485]]}))
    assert ENV.give_up(prompt, away.state).value == 0.0
    opened = ENV.step(prompt, state, say({"action_type": "click", "box_2d": [[10, 10, 200, 200]]}))
    end = ENV.step(prompt, opened.state, say({"action_type": "status", "goal_status": "complete"}))
    assert end.score is not None and end.score.value == 1.0
    session: _Session = _sessions.session
    page = session.pages[next(reversed(session.pages))]
    assert page.evaluate("document.getElementById('out').naturalWidth") == 0, "a file outside is not loaded"
    assert len(page.context.pages) == 1, "no other window stays"


def test_wrong_parameters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_env("browser"), Browser)
    for task, params in (
        ("form", {"goal": []}),
        ("form", {"goals": ["fly"]}),
        ("form", {"show": "all"}),
        ("page", {"size": 448}),
        ("page", {"file": "nothing.html", "question": "?", "done": "() => true"}),
        ("form", {"size": 5}),
    ):
        with pytest.raises(ConfigError, match=r"data\.tasks"):
            next(ENV.generate(task, params, domain="d", tier=0, seed=0))
    with pytest.raises(ConfigError, match="no task 'forms'"):
        ENV.levels("forms")
    monkeypatch.setenv("RLCS_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(ConfigError, match="/nowhere/chromium"):
        find_chromium()
