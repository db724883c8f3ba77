"""What an environment is, and how its tasks become training prompts, held-out prompts and worked solutions.

An environment makes prompts for a task at a difficulty level. The level is the human difficulty label: level i of L
becomes tier `round(i * (NUM_TIERS - 1) / (L - 1))`. Everything is a function of the seed.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rlcs.config import DataConfig, TaskConfig
from rlcs.data import DataSplits, check_no_overlap, question_id
from rlcs.errors import ConfigError
from rlcs.nothink import tag_share
from rlcs.plugins import load_object
from rlcs.response_format import render_response
from rlcs.types import NUM_TIERS, Image, Prompt, Score

logger = logging.getLogger(__name__)

BUILTIN_ENVS = {
    "browser": "rlcs.envs.browser:Browser",
    "gui_episode": "rlcs.envs.visual.gui_episode:GuiEpisode",
    "reasoning_gym": "rlcs.envs.reasoning_gym:ReasoningGymEnv",
    "visual": "rlcs.envs.visual.env:VisualEnv",
}

_PATIENCE = 20
"""A level is exhausted when this many times the wanted prompts have been made without finding enough new ones."""


@dataclass(frozen=True, slots=True)
class WorkedSolution:
    """A solution to learn from in the cold start."""

    thinking: str
    answer: str


class Environment(ABC):
    """Single-turn tasks that are made by a program."""

    reward: str = "math"
    """The reward used where the config names none."""

    @abstractmethod
    def levels(self, task: str) -> list[dict[str, Any]]:
        """The built-in parameters of each difficulty level of `task`, easy to hard.

        Raises:
            ConfigError: the environment has no such task.
        """

    @abstractmethod
    def generate(self, task: str, params: dict[str, Any], *, domain: str, tier: int, seed: int) -> Iterator[Prompt]:
        """An endless stream of prompts of a task with level parameters `params`; the same seed gives the same stream.

        Raises:
            ConfigError: the parameters do not suit the task.
        """

    def solve(self, prompt: Prompt) -> WorkedSolution | None:
        """A worked solution, or None if the environment has none for this task."""
        return None


@dataclass(frozen=True, slots=True)
class Turn:
    """What an environment of several turns says to a response."""

    state: dict[str, Any]
    """JSON-like; goes into the next `step`."""
    observation: list[dict[str, Any]] | None = None
    """Parts of the next message of the user; None where the episode is over."""
    images: tuple[Image, ...] = ()
    """The pictures that the observation has parts for."""
    score: Score | None = None
    """What the whole episode is worth; only where it is over."""


@dataclass(frozen=True, slots=True)
class WorkedTurn:
    """A turn to learn from in the cold start, and what stands before it."""

    solution: WorkedSolution
    observation: tuple[dict[str, Any], ...] = ()
    """Parts of the message before it; empty for the first turn, which follows the prompt."""
    images: tuple[Image, ...] = ()


class EpisodeEnvironment(Environment):
    """Tasks of several turns. A prompt is the first observation; nothing is kept between calls but what `Turn.state` holds.

    In a run the methods are called in worker processes, with prompts whose pictures are left out; metadata, states and
    observations travel as JSON.
    """

    reward = "episode"
    """What `step` or `give_up` said at the end."""
    max_turns: int = 8
    """Responses after which whoever plays ends the episode with `give_up`."""

    def solve(self, prompt: Prompt) -> WorkedSolution | None:
        """The first turn of a worked episode."""
        return self.solve_turn(prompt, self.reset(prompt))

    def solve_turn(self, prompt: Prompt, state: dict[str, Any]) -> WorkedSolution | None:
        """A worked turn in a state, for the cold start; None if the environment has none."""
        return None

    @abstractmethod
    def reset(self, prompt: Prompt) -> dict[str, Any]:
        """The state at the beginning; JSON-like."""

    @abstractmethod
    def step(self, prompt: Prompt, state: dict[str, Any], response: str) -> Turn:
        """What follows a response of the policy (its text, special tokens kept). `state` is not changed.

        A mistake of the policy is told to it in the observation, beside what it needs to go on. Where this raises, or takes
        longer than `rollout.episodes.step_timeout_s`, the policy is told so, the state stays as it was, and
        `rollout/step_errors` counts it.
        """

    @abstractmethod
    def give_up(self, prompt: Prompt, state: dict[str, Any]) -> Score:
        """What an episode is worth that ends for want of turns or tokens."""


def work_out(env: EpisodeEnvironment, prompt: Prompt) -> list[WorkedTurn] | None:
    """A whole worked episode, played to its end; None if the environment has no worked turns.

    Raises:
        ConfigError: worked turns do not end the episode within `max_turns`.
    """
    state, before = env.reset(prompt), Turn({})
    turns: list[WorkedTurn] = []
    for _ in range(env.max_turns):
        solution = env.solve_turn(prompt, state)
        if solution is None:
            return None
        turns.append(WorkedTurn(solution, tuple(before.observation or ()), before.images))
        before = env.step(prompt, state, render_response(solution.thinking, solution.answer))
        if before.score is not None:
            return turns
        state = before.state
    raise ConfigError(f"the worked turns of prompt {prompt.id} do not end its episode within {env.max_turns} turns")


def load_env(form: str) -> Environment:
    """The environment of a name, `path/to/file.py:Class` or `package.module:Class`.

    Raises:
        ConfigError: there is none, or it is no environment.
    """
    cls = load_object(form, group="rlcs.envs", builtins=BUILTIN_ENVS, what="environment", error=ConfigError)
    if not (isinstance(cls, type) and issubclass(cls, Environment)):
        raise ConfigError(f"data.env {form!r}: {cls!r} is no subclass of rlcs.envs.base.Environment")
    try:
        env: Environment = cls()
    except TypeError as error:  # an abstract method is not written, or the constructor wants arguments
        raise ConfigError(f"data.env {form!r} cannot be made: {error}") from error
    return env


def level_tier(level: int, num_levels: int) -> int:
    """The tier of a level: levels spread evenly over the tiers, a single level is the middle one."""
    if num_levels == 1:
        return NUM_TIERS // 2
    return round(level * (NUM_TIERS - 1) / (num_levels - 1))


def levels_of(env: Environment, task: TaskConfig) -> list[dict[str, Any]]:
    """The parameters of each level of a configured task: its own levels or the built-in ones, `params` put over each."""
    return [{**level, **task.params} for level in task.levels or env.levels(task.task)]


def build_splits(env: Environment, config: DataConfig, seed: int) -> DataSplits:
    """Training and held-out prompts of every task and level, without overlap.

    A level with fewer distinct prompts than asked for gives what it has: at most a fifth of them held out. A question that
    several levels make belongs to the first of them.
    """
    train: list[Prompt] = []
    held_out: list[Prompt] = []
    taken: set[str] = set()
    for task in config.tasks:
        levels = levels_of(env, task)
        for level, params in enumerate(levels):
            tier = level_tier(level, len(levels))
            wanted = config.train_per_level + config.eval_per_level
            stream = env.generate(
                task.task,
                params,
                domain=task.domain or task.task,
                tier=tier,
                seed=_stream_seed(seed, task, level, "prompts"),
            )
            found = _distinct_prompts(stream, wanted, config.system_prompt, taken)
            num_held_out = min(config.eval_per_level, max(1, len(found) // 5))
            if len(found) < wanted:
                logger.info("%s level %d has only %d distinct prompts (asked %d)", task.task, level, len(found), wanted)
            held_out += found[:num_held_out]
            train += found[num_held_out:]
    check_no_overlap(train, held_out)
    return DataSplits(tag_share(train, config.nothink, seed), tag_share(held_out, config.nothink, seed))


def build_solutions(
    env: Environment, config: DataConfig, *, count: int, level_weights: list[float], held_out: list[Prompt], seed: int
) -> list[tuple[Prompt, WorkedSolution]]:
    """About `count` worked solutions over all tasks, shared over levels by `level_weights`, none of a held-out prompt.

    Of tasks of several turns, the first turns: `work_out` has the others. Prompts may repeat where a level has few. Raises
    ConfigError if a task has no worked solutions, or if `level_weights` does not have one entry a level.
    """
    forbidden = {question_id(prompt) for prompt in held_out}
    solutions: list[tuple[Prompt, WorkedSolution]] = []
    for task in config.tasks:
        levels = levels_of(env, task)
        weights = level_weights or [1.0] * len(levels)
        if len(weights) != len(levels):
            raise ConfigError(
                f"sft.level_weights has {len(weights)} entries, but task {task.task} has {len(levels)} levels: give one each"
            )
        for level, params in enumerate(levels):
            share = round(count / len(config.tasks) * weights[level] / sum(weights))
            domain = task.domain or task.task
            stream = env.generate(
                task.task,
                params,
                domain=domain,
                tier=level_tier(level, len(levels)),
                seed=_stream_seed(seed, task, level, "solutions"),
            )
            made = 0
            for _ in range(_PATIENCE * max(share, 1)):
                if made >= share:
                    break
                made_prompt = next(stream, None)
                if made_prompt is None:
                    break
                prompt = _with_system_prompt(made_prompt, config.system_prompt)
                if question_id(prompt) in forbidden:
                    continue
                solution = env.solve(prompt)
                if solution is None:
                    raise ConfigError(
                        f"task {task.task} has no worked solutions for a cold start: leave it out of data.tasks, "
                        "or give a dataset with a `solution` column as sft.solutions"
                    )
                solutions.append((prompt, solution))
                made += 1
    random.Random(seed).shuffle(solutions)
    return solutions


def _distinct_prompts(
    stream: Iterator[Prompt], wanted: int, system_prompt: str | None, taken: set[str]
) -> list[Prompt]:
    """The first `wanted` prompts whose questions are not `taken` yet; takes them."""
    found: list[Prompt] = []
    for prompt in itertools.islice(stream, _PATIENCE * wanted):
        prompt = _with_system_prompt(prompt, system_prompt)
        question = question_id(prompt)
        if question not in taken:
            taken.add(question)
            found.append(prompt)
            if len(found) == wanted:
                break
    return found


def _with_system_prompt(prompt: Prompt, system_prompt: str | None) -> Prompt:
    if system_prompt is None:
        return prompt
    messages = [{"role": "system", "content": system_prompt}, *prompt.messages]
    return replace(prompt, messages=messages)


def _stream_seed(seed: int, task: TaskConfig, level: int, purpose: str) -> int:
    """A 31-bit seed of its own for each task, level and purpose."""
    key = f"{seed}/{task.task}/{task.domain}/{level}/{purpose}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1
