"""Load a reward by name, and call it the same way whatever it is.

| what the name points to | is called as |
|---|---|
| a `Reward` class or instance | `score_batch(completions, answers, columns)` |
| a function, sync or async | TRL's `f(prompts=..., completions=..., **columns) -> list[float or None]` |
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rlcs.errors import RewardError, one_line
from rlcs.plugins import load_object
from rlcs.rewards.base import RESERVED_COLUMNS, Reward
from rlcs.rewards.construct import construct
from rlcs.rewards.verifier import Judge
from rlcs.types import Prompt, Score

logger = logging.getLogger(__name__)

BUILTIN_REWARDS = {
    "chart": "rlcs.rewards.chart:Chart",
    "chemistry": "rlcs.rewards.chemistry:Chemistry",
    "code": "rlcs.rewards.code:Code",
    "counting": "rlcs.rewards.counting:Counting",
    "episode": "rlcs.rewards.episode:Episode",
    "geo": "rlcs.rewards.geo:Geo",
    "grounding": "rlcs.rewards.grounding:Grounding",
    "gui": "rlcs.rewards.gui:Gui",
    "instruction": "rlcs.rewards.instruction:Instruction",
    "judge": "rlcs.rewards.judge:Judged",
    "logic": "rlcs.rewards.logic:Logic",
    "long_document": "rlcs.rewards.long_document:LongDocument",
    "math": "rlcs.rewards.math:Math",
    "multiple_choice": "rlcs.rewards.multiple_choice:MultipleChoice",
    "ocr": "rlcs.rewards.ocr:Ocr",
    "per_row": "rlcs.rewards.per_row:PerRow",
    "physics": "rlcs.rewards.physics:Physics",
    "reasoning_gym": "rlcs.rewards.reasoning_gym:ReasoningGym",
    "reward_model": "rlcs.rewards.reward_model:RewardModel",
    "spatial": "rlcs.rewards.spatial:Spatial",
    "style": "rlcs.rewards.style:Style",
    "video": "rlcs.rewards.video:Video",
    "vqa": "rlcs.rewards.vqa:Vqa",
}
"""Name of a built-in reward to the class that implements it."""


class LoadedReward:
    """A reward, ready to score prompts and responses."""

    def __init__(
        self, name: str, target: Reward | Callable[..., Any], *, builtin: bool = False, uses_judge: bool = False
    ) -> None:
        self.name = name
        self.uses_judge = uses_judge
        self._target = target
        self._builtin = builtin
        self._is_set_up = False
        self._counts: Counter[str] = Counter()

    @property
    def is_function(self) -> bool:
        """Whether it is a plain function, sync or async, and no `Reward`."""
        return not isinstance(self._target, Reward)

    @property
    def sample_limit_s(self) -> float | None:
        """The longest that one sample takes, where a `Reward` says so by an attribute of this name."""
        limit = getattr(self._target, "sample_limit_s", None)
        return float(limit) if isinstance(limit, int | float) else None

    def setup(self) -> None:
        """Load what scoring needs; `score_batch` does it if it was not done. Raises RewardError if it fails."""
        if self._is_set_up or not isinstance(self._target, Reward):
            return
        try:
            self._target.setup()
        except Exception as error:
            raise RewardError(f"reward {self.name!r} cannot be set up: {one_line(error, typed=True)}") from error
        self._is_set_up = True

    def score_batch(
        self,
        prompts: list[Prompt],
        texts: list[str],
        num_tokens: Sequence[int] | None = None,
        episodes: Sequence[Score | None] = (),
    ) -> list[Score | None]:
        """What each text is worth as a response to the prompt beside it; None where the reward does not apply.

        `num_tokens`, how many tokens each response has, reaches the reward as a column of this name; `episodes`, what an
        environment of several turns says, as the column `episode`, where there is something.

        A built-in verifier that raises gives that sample 0 and counts `verifier_errors`, since a fault of ours must not
        end a run. Anything else that raises is a mistake of its author's, and hidden it would be a run without rewards.

        Raises:
            RewardError: the reward raised, or returned a wrong number of scores, or something that is no score.
        """
        self.setup()
        rows = [columns_of(prompt) for prompt in prompts]
        if num_tokens is not None:
            for row, tokens in zip(rows, num_tokens, strict=True):
                row["num_tokens"] = tokens
        for row, episode in zip(rows, episodes, strict=False):
            if episode is not None:
                row["episode"] = asdict(episode)
        if isinstance(self._target, Reward):
            return self._score_with_class(self._target, prompts, texts, rows)
        return self._score_with_function(self._target, prompts, texts, rows)

    def validate(self, prompt: Prompt) -> str | None:
        """Why the prompt's reference answer cannot be used by this reward, or None. Needs no `setup`."""
        if not isinstance(self._target, Reward):
            return None
        try:
            return self._target.validate(prompt.answer, **columns_of(prompt))
        except Exception as error:
            raise RewardError(
                f"reward {self.name!r}: validate raised {one_line(error, typed=True)} on prompt {prompt.id}"
            ) from error

    def take_counts(self) -> dict[str, int]:
        """Events counted since the last call (time-outs, faults of the format), by name."""
        counts, self._counts = self._counts, Counter()
        if isinstance(self._target, Reward):
            counts.update(self._target.take_counts())
        return dict(counts)

    def close(self) -> None:
        """Release what the reward holds."""
        if isinstance(self._target, Reward):
            self._target.close()

    def _score_with_class(
        self, reward: Reward, prompts: list[Prompt], texts: list[str], rows: list[dict[str, Any]]
    ) -> list[Score | None]:
        answers = [prompt.answer for prompt in prompts]
        try:
            scores = reward.score_batch(texts, answers, rows)
        except RewardError:
            raise
        except Exception:
            # One by one, to find the sample that it fails on.
            scores = [
                self._score_one(reward, prompt, text, row)
                for prompt, text, row in zip(prompts, texts, rows, strict=True)
            ]
        self._check_count(scores, prompts)
        for index, score in enumerate(scores):
            if score is not None and not isinstance(score, Score):
                raise RewardError(
                    f"reward {self.name!r} returned {type(score).__name__}, not a Score or None, "
                    f"for {_where(prompts, index)}"
                )
            if score is not None:
                self._check_value(score.value, prompts, index)
        return scores

    def _score_one(self, reward: Reward, prompt: Prompt, text: str, row: dict[str, Any]) -> Score | None:
        try:
            return reward.score_batch([text], [prompt.answer], [row])[0]
        except RewardError:
            raise
        except Exception as error:
            if not self._builtin:
                raise RewardError(
                    f"reward {self.name!r} raised {one_line(error, typed=True)} on prompt {prompt.id}"
                ) from error
            logger.warning(
                "reward %s raised %s on prompt %s: scored 0", self.name, one_line(error, typed=True), prompt.id
            )
            self._counts["verifier_errors"] += 1
            return Score(0.0, correct=False, detail=f"the verifier raised {one_line(error, typed=True)}")

    def _score_with_function(
        self, function: Callable[..., Any], prompts: list[Prompt], texts: list[str], rows: list[dict[str, Any]]
    ) -> list[Score | None]:
        try:
            values = self._call(function, prompts, texts, rows)
        except Exception as error:
            index = self._find_culprit(function, prompts, texts, rows)
            where = "the batch" if index is None else _where(prompts, index)
            raise RewardError(f"reward {self.name!r} raised {one_line(error, typed=True)} on {where}") from error
        values = values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise RewardError(
                f"reward {self.name!r} returned {type(values).__name__}, not a list with a number or None for each"
            )
        self._check_count(values, prompts)
        scores: list[Score | None] = []
        for index, value in enumerate(values):
            if value is None:
                scores.append(None)
                continue
            number = self._check_value(value, prompts, index)
            scores.append(Score(number, detail=f"{self.name} returned {number:g}"))
        return scores

    def _call(
        self, function: Callable[..., Any], prompts: list[Prompt], texts: list[str], rows: list[dict[str, Any]]
    ) -> Any:
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        columns = _columns_as_lists(prompts, rows)
        result = function(prompts=[prompt.messages for prompt in prompts], completions=completions, **columns)
        return _run_coroutine(result) if inspect.iscoroutine(result) else result

    def _find_culprit(
        self, function: Callable[..., Any], prompts: list[Prompt], texts: list[str], rows: list[dict[str, Any]]
    ) -> int | None:
        """The first sample on which the function raises alone."""
        for index, (prompt, text, row) in enumerate(zip(prompts, texts, rows, strict=True)):
            try:
                self._call(function, [prompt], [text], [row])
            except Exception:  # the first error is the one that is reported
                return index
        return None

    def _check_count(self, scores: Sequence[Any], prompts: list[Prompt]) -> None:
        if len(scores) != len(prompts):
            raise RewardError(
                f"reward {self.name!r} returned {len(scores)} scores for {len(prompts)} completions: "
                "return one number or None for each"
            )

    def _check_value(self, value: Any, prompts: list[Prompt], index: int) -> float:
        where = _where(prompts, index)
        try:
            if isinstance(value, str):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError):
            raise RewardError(f"reward {self.name!r} returned {value!r}, which is no number, for {where}") from None
        if not 0.0 <= number <= 1.0 or math.isnan(number):
            raise RewardError(
                f"reward {self.name!r} returned {number:g} for {where}: rewards must lie in [0, 1], so rescale it"
            )
        return number


def load_reward(
    form: str,
    *,
    timeout_s: float = 2.0,
    options: Mapping[str, Any] | None = None,
    judge: Judge | None = None,
) -> LoadedReward:
    """The reward of a built-in name, `path/to/file.py:attr`, `package.module:attr` or entry point of `rlcs.rewards`.

    Args:
        form: the name; what it points to may be a `Reward` class or instance, or a function with TRL's signature.
        timeout_s: limit of one sample's work, handed to classes whose constructor has an argument of this name.
        options: other arguments of the constructor (`reward.options`).
        judge: handed to classes whose constructor has an argument of this name.

    Raises:
        RewardError: there is no such reward, or it is none of the things above, or it has no such option, or its
            constructor fails.
    """
    target = load_object(form, group="rlcs.rewards", builtins=BUILTIN_REWARDS, what="reward", error=RewardError)
    builtin = form in BUILTIN_REWARDS
    uses_judge = False
    if inspect.isclass(target):
        if not issubclass(target, Reward):
            raise RewardError(f"reward {form!r} is a class, but not a subclass of rlcs.rewards.base.Reward")
        uses_judge = judge is not None and "judge" in inspect.signature(target).parameters
        target = construct(form, target, {"timeout_s": timeout_s, "judge": judge}, options or {})
    elif options:
        raise RewardError(f"reward {form!r} is no class, so it has no options: remove {', '.join(map(repr, options))}")
    if isinstance(target, Reward):
        name = form if builtin else target.name
        return LoadedReward(name, target, builtin=builtin, uses_judge=uses_judge)
    if not callable(target):
        raise RewardError(
            f"reward {form!r} is a {type(target).__name__}: give a Reward class, or a function "
            "`reward(prompts, completions, **columns)`"
        )
    return LoadedReward(getattr(target, "__name__", type(target).__name__), target)


def columns_of(prompt: Prompt) -> dict[str, Any]:
    """The columns of one prompt besides its answer: `domain`, `tier`, `messages` (the conversation) and its metadata."""
    columns = {name: value for name, value in prompt.metadata.items() if name not in RESERVED_COLUMNS}
    return {**columns, "domain": prompt.domain, "tier": prompt.tier, "messages": prompt.messages}


def _columns_as_lists(prompts: list[Prompt], rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The columns of many prompts, as TRL hands them over; None where a row has no such key."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    columns["answer"] = [prompt.answer for prompt in prompts]
    return columns


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, also where an event loop is running in this thread already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:  # raised again below, in the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _where(prompts: list[Prompt], index: int) -> str:
    prompt = prompts[index]
    return f"sample {index} (prompt {prompt.id}, domain {prompt.domain})"
