"""A reward chosen on the command line: its name, its options, how it reads responses, and its judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rlcs.errors import ConfigError, RewardError
from rlcs.rewards.loading import LoadedReward, load_reward
from rlcs.rewards.verifier import Judge
from rlcs.yaml_text import YAMLProblem, parse


@dataclass(frozen=True, slots=True)
class RewardChoice:
    """What the options of a command say about the reward."""

    form: str
    """One of the four forms of `rlcs.plugins`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the reward's constructor."""
    fallbacks: Sequence[str] = ()
    """Ways of marking the answer beside the box: `boxed`, `final_answer`."""
    thinking_is_open: bool = False
    """Responses start inside of the thinking, since the chat template ends with `<think>`."""
    timeout_s: float = 2.0
    judge_url: str | None = None
    judge_model: str | None = None
    judge_key_env: str | None = None
    """Environment variable that holds the judge's key."""

    @contextmanager
    def load(self) -> Iterator[LoadedReward]:
        """The reward, closed at the end.

        Raises:
            RewardError: there is no such reward, or it cannot be made with these options.
            ConfigError: the judge's settings are wrong, or the reward asks no judge.
        """
        options = dict(self.options)
        if self.fallbacks or self.thinking_is_open:
            options["extract"] = {"fallbacks": list(self.fallbacks), "thinking_is_open": self.thinking_is_open}
        if self.judge_url is None and self.judge_model is None:
            reward = self._load(options, None)
            try:
                yield reward
            finally:
                reward.close()
            return
        with self._judge() as judge:
            reward = self._load(options, judge)
            if not reward.uses_judge:
                raise ConfigError(f"reward {self.form!r} asks no judge: remove --judge-url and --judge-model")
            try:
                yield reward
            finally:
                reward.close()

    def _load(self, options: Mapping[str, Any], judge: Judge | None) -> LoadedReward:
        try:
            return load_reward(self.form, timeout_s=self.timeout_s, options=options, judge=judge)
        except RewardError as error:
            if re.search(r"reward\.(options|judge|model)\.", str(error)) is None:
                raise
            # It speaks of settings of a run.
            raise RewardError(f"{error} (here: --option KEY=VALUE, --judge-url, --judge-model)") from error

    @contextmanager
    def _judge(self) -> Iterator[Any]:
        from rlcs.config import JudgeConfig
        from rlcs.rewards.judge import make_judge

        if self.judge_url is None or self.judge_model is None:
            raise ConfigError("a judge needs both its address and its name: give --judge-url and --judge-model")
        settings = JudgeConfig(base_url=self.judge_url, model=self.judge_model).model_dump()
        if self.judge_key_env is not None:
            settings["api_key_env"] = self.judge_key_env
        judge = make_judge(**settings)
        assert judge is not None
        try:
            yield judge
        finally:
            judge.close()


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options written `key=value`, the value as in YAML. Raises ConfigError if one is not written so."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ConfigError(f"--option {text!r}: write it as key=value, such as tolerance=0.01")
        try:
            options[key.strip()] = parse(value).value
        except YAMLProblem as problem:
            raise ConfigError(f"--option {text!r}: {problem}") from problem
    return options
