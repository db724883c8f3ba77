"""Procedural reasoning tasks of the `reasoning-gym` package, with its own verifiers.

Any of its tasks can be named in `data.tasks` with `levels` of its config parameters. A few tasks have built-in levels
and worked solutions (`rlcs.envs.worked_solutions`), enough for a cold start from nothing.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from typing import Any

from rlcs.envs.base import Environment, WorkedSolution
from rlcs.envs.worked_solutions import SOLVERS
from rlcs.errors import ConfigError, one_line
from rlcs.types import Prompt, prompt_id

_CHUNK = 256
"""Items made by one dataset object; its indices are seeds, so that streams with distant seeds do not meet."""

HASH_SEEDED = frozenset({"isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder"})
"""Tasks whose items come from walking a set of text: another process makes others from the same seed."""

_SIGNS = {"operators": ["+", "-"], "allow_parentheses": False, "allow_negation": False}


def _one_digit_terms(**params: Any) -> list[dict[str, Any]]:
    """Levels of two to six terms of one digit."""
    return [
        {"min_terms": terms, "max_terms": terms, "min_digits": 1, "max_digits": 1, **params} for terms in range(2, 7)
    ]


LEVELS: dict[str, list[dict[str, Any]]] = {
    "chain_sum": _one_digit_terms(),
    "gcd": [
        {"min_value": 1, "max_value": 20},
        {"min_value": 1, "max_value": 30},
        {"min_value": 1, "max_value": 45},
        {"min_value": 1, "max_value": 80},
        {"min_value": 1, "max_value": 80, "min_numbers": 3, "max_numbers": 3},
    ],
    "lcm": [
        {"min_value": 1, "max_value": largest, "min_numbers": numbers, "max_numbers": numbers}
        for numbers, largest in ((3, 5), (3, 6), (3, 8), (3, 10), (4, 10))
    ],
    "basic_arithmetic": _one_digit_terms(**_SIGNS),
    "products": _one_digit_terms(),
    "count_primes": [{"min_n": 1, "max_n": largest} for largest in (12, 24, 40, 65, 99)],
    "spell_backward": [
        {"min_word_len": 3, "max_word_len": 3},
        {"min_word_len": 4, "max_word_len": 4},
        {"min_word_len": 5, "max_word_len": 6},
        {"min_word_len": 7, "max_word_len": 8},
        {"min_word_len": 9, "max_word_len": 10},
    ],
    "letter_counting": [
        {"min_words": 1, "max_words": 1},
        {"min_words": 2, "max_words": 2},
        {"min_words": 3, "max_words": 3},
        {"min_words": 5, "max_words": 5},
        {"min_words": 8, "max_words": 8},
    ],
}


class ReasoningGymEnv(Environment):
    """Tasks of reasoning-gym; a prompt's metadata holds the `task` and the package's own `entry` for its verifier."""

    reward = "reasoning_gym"

    def levels(self, task: str) -> list[dict[str, Any]]:
        """Built-in levels of the tasks in `LEVELS`; any other task of the package has one level, its defaults."""
        _check_task(task)
        return LEVELS.get(task, [{}])

    def generate(self, task: str, params: dict[str, Any], *, domain: str, tier: int, seed: int) -> Iterator[Prompt]:
        """See `Environment.generate`. Raises ConfigError if the package does not know the task or the parameters."""
        _check_task(task)
        start = seed
        while True:
            answered = 0
            for item in _items(task, params, start):
                if item["answer"] is None:
                    continue
                answered += 1
                # Some metadata holds tuples, sets or dates: kept as JSON knows them, so that it can travel and be saved.
                entry = json.loads(json.dumps(item, default=str))
                messages = [{"role": "user", "content": item["question"]}]
                answer = str(item["answer"])
                yield Prompt(
                    id=prompt_id(messages, answer),
                    messages=messages,
                    answer=answer,
                    domain=domain,
                    tier=tier,
                    metadata={"task": task, "entry": entry},
                )
            if not answered:
                raise ConfigError(
                    f"data.tasks: reasoning-gym task {task!r} has no reference answers: choose another task"
                )
            start += _CHUNK

    def solve(self, prompt: Prompt) -> WorkedSolution | None:
        """A worked solution of the tasks in `rlcs.envs.worked_solutions.SOLVERS`."""
        solver = SOLVERS.get(prompt.metadata["task"])
        return solver(prompt.metadata["entry"]) if solver else None


def _items(task: str, params: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """The `_CHUNK` items of one dataset object."""
    import reasoning_gym

    try:
        dataset = reasoning_gym.create_dataset(task, size=_CHUNK, seed=seed, **params)
        for index in range(_CHUNK):
            yield dataset[index]
    except Exception as error:  # a task checks its parameters when it is made, or fails on them in ways of its own
        raise ConfigError(f"data.tasks: reasoning-gym task {task!r} refuses {params}: {one_line(error)}") from error


def _check_task(task: str) -> None:
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ConfigError(f"data.env: the package reasoning-gym is not installed ({error})") from error

    if task not in DATASETS:
        near = difflib.get_close_matches(task, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"data.tasks: reasoning-gym has no task {task!r}{hint}")
    if task in HASH_SEEDED and os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise ConfigError(
            f"data.tasks: the items of reasoning-gym task {task!r} change with Python's hash seed, so a resumed run would "
            "see others: set the environment variable PYTHONHASHSEED=0, or choose another task"
        )
