"""Rewards as verl's `compute_score(data_source, solution_str, ground_truth, extra_info)`.

In verl's settings:

    reward:
      custom_reward_function:
        path: pkg://rlcs.integrations.verl
        name: compute_score
        reward_kwargs: {reward: math}     # may be left out, see below

Which reward scores a sample: the built-in one of `extra_info["reward"]`, else `reward_kwargs.reward`, else what
`DATA_SOURCES` says of the sample's `data_source`, else the built-in reward of that very name. The keys of `extra_info`
are the reward's columns.

verl decodes responses without special tokens, so box markers that are special tokens of the tokenizer are gone when a
reward sees the text. Therefore a `\\boxed{...}` is read too, where there is no box marker; `fallbacks` changes that.

Read beside verl 0.9.1 (`trainer/ppo/reward.py`, `experimental/reward_loop/reward_manager/naive.py`): the dictionary that
is returned must hold `score`, and every key of it becomes a column of the run's records, so that all samples have the
same keys.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rlcs.errors import RewardError
from rlcs.plugins import load_object
from rlcs.response_format import render_response
from rlcs.rewards.extract import holds_format_markers
from rlcs.rewards.judge import LLMJudge, make_judge
from rlcs.rewards.loading import BUILTIN_REWARDS, LoadedReward, load_reward
from rlcs.types import Prompt, Score

logger = logging.getLogger(__name__)

_BOXED = ("boxed",)
_ANSWER_LINE = ("final_answer", "boxed")

DATA_SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "openai/gsm8k": ("math", _ANSWER_LINE),
    "lighteval/MATH": ("math", _BOXED),
    "DigitalLearningGmbH/MATH-lighteval": ("math", _BOXED),
    "HuggingFaceH4/MATH-500": ("math", _BOXED),
    "math_dapo": ("math", _ANSWER_LINE),
    "math_dapo_reasoning": ("math", _ANSWER_LINE),
    "math": ("math", _ANSWER_LINE),
    "hiyouga/geometry3k": ("math", _BOXED),
    **{
        f"numina_{kind}": ("math", _BOXED)
        for kind in ("aops_forum", "synthetic_math", "amc_aime", "synthetic_amc", "cn_k12", "olympiads")
    },
}
"""verl's data sources to a reward and the ways in which their prompts ask for the answer to be marked."""

_KEYS_OF_VERL = {
    "reward_router_address", "reward_model_tokenizer", "sandbox_fusion_url", "concurrent_semaphore", "memory_limit_mb",
}  # fmt: skip
"""Arguments that verl itself may hand over; not read."""

_HASH_ANSWER = re.compile(r"^####[ \t]*(\S.*)$", re.MULTILINE)
"""GSM8K's mark of the final answer."""


@dataclass(frozen=True, slots=True)
class ComputeScore:
    """verl's `compute_score` with settings of its own. Can be called from any thread, and be pickled."""

    reward: str | None = None
    """The reward of every sample, in one of the four forms of naming; chosen by the sample if None."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of its constructor."""
    fallbacks: tuple[str, ...] | None = None
    """Ways of marking the answer beside the box; the data source's own, else `boxed`, if None."""
    judge: Mapping[str, Any] = field(default_factory=dict)
    """An LLM judge for what no rule settles, as in `rlcs.config.JudgeConfig`: `base_url`, `model`, ...; none if empty."""
    timeout_s: float = 2.0

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What a response is worth.

        Args:
            ground_truth: text or a number; of a list, or a mapping with a list `target`, the best match counts.
            extra_info: columns of the sample.
            kwargs: not read.

        Returns:
            `score` in [0, 1]; `acc`, 1 if right and 0 if not (the score where right and wrong do not apply); `detail`.

        Raises:
            RewardError: no reward is known for the sample, it cannot be loaded, or a reward that is not ours raised.
        """
        columns = dict(extra_info or {})
        loaded = self._load(*self._choose(str(data_source), columns.pop("reward", None)))
        text = _mark_hash_answer(solution_str) if data_source == "openai/gsm8k" else solution_str
        question = columns.get("question")
        messages = [{"role": "user", "content": question}] if isinstance(question, str) else []
        prompts = [
            Prompt(
                f"of {data_source}, index {columns.get('index', '?')}",
                messages,
                answer,
                str(data_source),
                None,
                columns,
            )
            for answer in _answers(ground_truth)
        ]
        scores = [score for score in loaded.score(prompts, text) if score is not None]
        best = max(scores, key=lambda score: score.value, default=Score(0.0, detail="the reward does not apply"))
        acc = best.value if best.correct is None else float(best.correct)
        return {"score": best.value, "acc": acc, "detail": best.detail}

    def _choose(self, data_source: str, asked: Any) -> tuple[str, tuple[str, ...]]:
        """The reward of a sample and the fallbacks of its responses."""
        form, fallbacks = DATA_SOURCES.get(data_source, (None, _BOXED))
        if data_source.startswith("aime"):
            form, fallbacks = "math", _ANSWER_LINE
        if asked is not None and asked not in BUILTIN_REWARDS:
            # Data must not be able to name a file that is then imported.
            raise RewardError(
                f"extra_info['reward'] of data source {data_source!r} is {asked!r}, which is no built-in reward: "
                f"take one of {', '.join(BUILTIN_REWARDS)}, or name a reward of your own in reward_kwargs.reward"
            )
        chosen = asked or self.reward or form or (data_source if data_source in BUILTIN_REWARDS else None)
        if chosen is None:
            raise RewardError(
                f"no reward is known for verl's data source {data_source!r}: name one in the sample's "
                "extra_info['reward'] or in custom_reward_function.reward_kwargs.reward"
            )
        return str(chosen), fallbacks if self.fallbacks is None else self.fallbacks

    def _load(self, form: str, fallbacks: tuple[str, ...]) -> _SharedReward:
        options, judge = (json.dumps(_plain(value), sort_keys=True) for value in (self.options, self.judge))
        return _load(form, fallbacks, self.timeout_s, options, judge)


def make_compute_score(
    reward: str,
    *,
    options: Mapping[str, Any] | None = None,
    fallbacks: Sequence[str] = _BOXED,
    judge: Mapping[str, Any] | None = None,
    timeout_s: float = 2.0,
) -> ComputeScore:
    """A `compute_score` that scores every sample with one reward: `compute_score = make_compute_score("math")`.

    Raises:
        RewardError: there is no such reward or fallback, or it cannot be made with these options.
    """
    made = ComputeScore(reward, dict(options or {}), tuple(fallbacks), dict(judge or {}), timeout_s)
    made._load(reward, tuple(fallbacks))  # so that a mistake is told here
    return made


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward: str | None = None,
    options: Mapping[str, Any] | None = None,
    fallbacks: Sequence[str] | None = None,
    judge: Mapping[str, Any] | None = None,
    timeout_s: float = 2.0,
    **kwargs: Any,
) -> dict[str, Any]:
    """What a response is worth: see `ComputeScore`. The arguments after `extra_info` are verl's `reward_kwargs`."""
    for name in kwargs.keys() - _KEYS_OF_VERL:
        _warn_once(name)
    marks = None if fallbacks is None else tuple(fallbacks)
    settings = ComputeScore(reward, options or {}, marks, judge or {}, timeout_s)
    return settings(data_source, solution_str, ground_truth, extra_info)


class _SharedReward:
    """A loaded reward that verl's threads share."""

    def __init__(self, reward: LoadedReward, judge: LLMJudge | None) -> None:
        self._reward = reward
        self._judge = judge
        # One at a time, since verifiers keep caches and counters; but nobody waits for another's question to a judge.
        self._lock = threading.Lock() if judge is None else nullcontext()

    def score(self, prompts: list[Prompt], text: str) -> list[Score | None]:
        with self._lock:
            scores = self._reward.score_batch(prompts, [text] * len(prompts))
            self._reward.take_counts()
            return scores

    def close(self) -> None:
        with self._lock:
            self._reward.close()
            if self._judge is not None:
                self._judge.close()


_loading = threading.Lock()
_loaded: dict[tuple[Any, ...], _SharedReward] = {}
"""Rewards by the arguments of `_load`; they live as long as the process."""


def close() -> None:
    """Release what the rewards hold (worker processes, connections). They end with the process anyway."""
    with _loading:
        for reward in _loaded.values():
            reward.close()
        _loaded.clear()


def _load(form: str, fallbacks: tuple[str, ...], timeout_s: float, options: str, judge: str) -> _SharedReward:
    """The reward of these settings, made once; options and the judge's settings are JSON."""
    key = (form, fallbacks, timeout_s, options, judge)
    with _loading:
        if key not in _loaded:
            arguments, settings = json.loads(options), json.loads(judge)
            if fallbacks and _takes_extract(form):
                arguments.setdefault("extract", {"fallbacks": list(fallbacks)})
            asked = make_judge(**settings) if settings else None
            reward = load_reward(form, timeout_s=timeout_s, options=arguments, judge=asked)
            reward.setup()
            _loaded[key] = _SharedReward(reward, asked)
        return _loaded[key]


def _takes_extract(form: str) -> bool:
    """Whether the reward is a class that can be told how to read responses."""
    target = load_object(form, group="rlcs.rewards", builtins=BUILTIN_REWARDS, what="reward", error=RewardError)
    return inspect.isclass(target) and "extract" in inspect.signature(target).parameters


@lru_cache(maxsize=64)
def _warn_once(name: str) -> None:
    logger.warning("compute_score has no argument %r: it is not read", name)


def _plain(value: Any) -> Any:
    """OmegaConf's mappings and lists as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _answers(ground_truth: Any) -> list[str]:
    """The reference answers of a sample as texts."""
    if isinstance(ground_truth, Mapping) and "target" in ground_truth:
        ground_truth = ground_truth["target"]
    if hasattr(ground_truth, "tolist"):  # Parquet's lists and numbers come as numpy's
        ground_truth = ground_truth.tolist()
    if isinstance(ground_truth, str):
        return [ground_truth]
    if isinstance(ground_truth, list | tuple) and all(isinstance(item, str) for item in ground_truth):
        return list(ground_truth)
    return [json.dumps(ground_truth, ensure_ascii=False, default=str)]


def _mark_hash_answer(text: str) -> str:
    """GSM8K's one `#### answer` as a boxed answer."""
    found = _HASH_ANSWER.findall(text)
    if len(found) != 1 or holds_format_markers(text):
        return text
    return render_response("", found[0].strip())
