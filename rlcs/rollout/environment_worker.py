"""One step of an environment, in a worker process that can be killed (`rlcs.rewards.workers`).

Requests and answers are JSON. A request names the environment and holds the prompt, without its pictures, and the state;
pictures of the answer are encoded files. A state of None is that of the beginning.
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from functools import cache
from typing import Any

from rlcs.envs.base import EpisodeEnvironment, Turn, load_env
from rlcs.errors import ConfigError
from rlcs.types import Image, Prompt, Score


def request(form: str, prompt: Prompt, state: dict[str, Any] | None, response: str | None) -> dict[str, Any]:
    """What `answer` takes: the step that follows `response`, or without one the score of an episode that is given up."""
    fields = {name: getattr(prompt, name) for name in ("id", "messages", "answer", "domain", "tier", "metadata")}
    return {"env": form, "prompt": fields, "state": state, "response": response}


def answer(wanted: dict[str, Any]) -> dict[str, Any]:
    """The next turn, or the score, of a request."""
    env = _environment(wanted["env"])
    prompt = Prompt(**wanted["prompt"])
    state = env.reset(prompt) if wanted["state"] is None else wanted["state"]
    if wanted["response"] is None:
        return {"score": asdict(env.give_up(prompt, state))}
    turn = env.step(prompt, state, wanted["response"])
    check_turn(turn)
    images = [[image.digest, base64.b64encode(image.data).decode("ascii")] for image in turn.images]
    score = None if turn.score is None else asdict(turn.score)
    return {"state": turn.state, "observation": turn.observation, "images": images, "score": score}


def read_turn(found: dict[str, Any]) -> Turn:
    """The turn that `answer` wrote."""
    images = tuple(Image(digest, base64.b64decode(data)) for digest, data in found["images"])
    return Turn(found["state"], found["observation"], images, read_score(found["score"]))


def read_score(found: dict[str, Any] | None) -> Score | None:
    """A score that `answer` wrote."""
    return None if found is None else Score(**found)


def check_turn(turn: Turn) -> None:
    """Raises ValueError if an environment's turn has neither observation nor score, or other pictures than parts."""
    if turn.score is not None:
        if not 0 <= turn.score.value <= 1:
            raise ValueError(f"the score of an episode must lie in [0, 1], not {turn.score.value!r}")
        return
    if not turn.observation:
        raise ValueError("a turn needs an observation, or a score where the episode is over")
    kinds = [part.get("type") for part in turn.observation]
    if not set(kinds) <= {"text", "image"}:
        raise ValueError(f"an observation has parts of the types text and image, not {kinds}")
    if kinds.count("image") != len(turn.images):
        raise ValueError(f"an observation has {kinds.count('image')} image parts and {len(turn.images)} images")


def load_episodes(form: str) -> EpisodeEnvironment:
    """The environment of several turns of a name. Raises ConfigError if it is none."""
    env = load_env(form)
    if not isinstance(env, EpisodeEnvironment):
        raise ConfigError(f"data.env {form!r} has tasks of a single turn")
    return env


@cache
def _environment(form: str) -> EpisodeEnvironment:
    return load_episodes(form)
