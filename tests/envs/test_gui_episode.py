"""The desktop of several turns: played to its end by worked actions, robust against any response, scored by its end."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from rlcs.envs.base import EpisodeEnvironment, load_env
from rlcs.envs.visual.gui_episode import COMPLETE, GuiEpisode, next_action, screen_elements
from rlcs.errors import ConfigError
from rlcs.response_format import render_response
from rlcs.rewards.loading import load_reward
from rlcs.types import Prompt, Score

ENV = GuiEpisode()


def make(level: int, count: int, seed: int = 0) -> list[Prompt]:
    stream = ENV.generate("desktop", ENV.levels("desktop")[level], domain="desktop", tier=level, seed=seed)
    return list(itertools.islice(stream, count))


def say(action: Any) -> str:
    return render_response("", f"Action: {json.dumps(action)}")


def play(prompt: Prompt) -> tuple[Score, int]:
    """The score and number of turns of an episode with worked actions."""
    state = ENV.reset(prompt)
    for turn in range(1, ENV.max_turns + 1):
        found = ENV.step(prompt, state, say(next_action(state, prompt.metadata["goal"])))
        if found.score is not None:
            assert found.observation is None
            return found.score, turn
        assert found.observation == [{"type": "image"}], "worked actions are no mistakes"
        assert found.images[0].open().size == prompt.images[0].open().size
        state = found.state
    raise AssertionError("no end")


@pytest.mark.parametrize("level", range(5))
def test_worked_actions_reach_the_goal_and_harder_levels_take_longer(level: int) -> None:
    verifier = load_reward("per_row")
    turns = []
    for prompt in make(level, 20):
        score, count = play(prompt)
        assert score.value == 1.0 and score.correct
        turns.append(count)
        assert ENV.give_up(prompt, ENV.reset(prompt)).value == 0.0, "nothing is reached at the beginning"
        solution = ENV.solve(prompt)
        (first,) = verifier.score_batch([prompt], [render_response(solution.thinking, solution.answer)])
        assert first is not None and first.correct
    shortest, longest = [(2, 2), (3, 3), (4, 4), (4, 4), (7, 8)][level]
    assert shortest <= min(turns) and max(turns) <= longest


def test_same_seed_gives_the_same_episodes() -> None:
    assert make(4, 5) == make(4, 5) != make(4, 5, seed=1)
    assert [p.images[0].data for p in make(4, 3)] == [p.images[0].data for p in make(4, 3)]


def test_steps_do_not_change_the_state_they_are_given() -> None:
    prompt = make(0, 1)[0]
    state = ENV.reset(prompt)
    before = json.dumps(state)
    after = ENV.step(prompt, state, say(next_action(state, prompt.metadata["goal"]))).state
    assert json.dumps(state) == before != json.dumps(after)
    assert json.loads(json.dumps(after)) == after, "it can travel and be saved"


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ("", "there is no action in a box"),
        (render_response("", "click"), "the action is no JSON"),
        (render_response("", "[" * 100_000), "the action is no JSON"),
        (say([1]), "action_type must be click, input_text or status"),
        (say({"action_type": "fly"}), "action_type must be click, input_text or status"),
        (say({"action_type": "click"}), "box_2d must be"),
        (say({"action_type": "click", "box_2d": [[0, 0, 1001, 5]]}), "box_2d must be"),
        (say({"action_type": "click", "box_2d": [[True, 0, 1, "5"]]}), "box_2d must be"),
        (say({"action_type": "click", "box_2d": [[0, 0, 2, 2]]}), "nothing there can be used"),
        (say({"action_type": "input_text", "text": 7, "box_2d": [[0, 0, 2, 2]]}), "text must be a text"),
        (say({"action_type": "input_text", "text": "x" * 101, "box_2d": [[0, 0, 2, 2]]}), "text must be a text"),
    ],
)
def test_mistake_is_told_with_the_same_screen(response: str, error: str) -> None:
    prompt = make(1, 1)[0]
    state = ENV.reset(prompt)
    turn = ENV.step(prompt, state, response)
    assert turn.state == state and turn.score is None and turn.images == prompt.images
    assert turn.observation is not None
    assert turn.observation[0] == {"type": "image"} and error in turn.observation[1]["text"]


def test_episode_that_changes_something_else_is_worth_nothing() -> None:
    prompt = make(0, 1)[0]
    state = ENV.reset(prompt)
    (wanted,) = prompt.metadata["goal"]["switches"]
    for element in screen_elements(state):
        if element.get("name") in state["switches"]:
            state = ENV.step(prompt, state, say({"action_type": "click", "box_2d": [list(element["box"])]})).state
    assert state["switches"][wanted] == prompt.metadata["goal"]["switches"][wanted]
    score = ENV.step(prompt, state, say(COMPLETE)).score
    assert score is not None and score.value == 0.0 and score.correct is False


def test_behind_a_dialog_nothing_can_be_used() -> None:
    prompt = make(3, 1)[0]
    state = ENV.reset(prompt)
    for _ in range(2):
        state = ENV.step(prompt, state, say(next_action(state, prompt.metadata["goal"]))).state
    assert state["asked"] is not None
    home = next(element["box"] for element in screen_elements(state) if element.get("name") == "Home")
    turn = ENV.step(prompt, state, say({"action_type": "click", "box_2d": [list(home)]}))
    assert turn.state == state and turn.observation is not None and len(turn.observation) == 2


def test_random_play_never_fails_and_hardly_ever_succeeds() -> None:
    rng = random.Random(0)
    wins = 0
    prompts = make(4, 30)
    for prompt in prompts:
        state = ENV.reset(prompt)
        for _ in range(ENV.max_turns):
            x, y = rng.randint(0, 990), rng.randint(0, 990)
            kind = rng.choice(("click", "click", "input_text"))
            state = ENV.step(
                prompt, state, say({"action_type": kind, "box_2d": [[x, y, x + 9, y + 9]], "text": "a"})
            ).state
        wins += ENV.give_up(prompt, state).value == 1.0
    assert wins <= 1


@pytest.mark.parametrize(
    "params",
    [{"goal": ["switch"]}, {"goals": ["fly"]}, {"goals": ["switch"], "pick": 2}, {"start": "Moon"}, {"size": 5}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'desktop'"):
        next(ENV.generate("desktop", params, domain="d", tier=0, seed=0))


def test_it_is_found_by_name() -> None:
    assert isinstance(load_env("gui_episode"), EpisodeEnvironment)
    with pytest.raises(ConfigError, match="has no task 'desk'"):
        ENV.levels("desk")
