"""Checks of tasks of several turns before a run starts: the environment begins one, and the chat template goes on with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rlcs.config import Config
from rlcs.data import DataSplits
from rlcs.envs.base import EpisodeEnvironment, load_env
from rlcs.errors import ConfigError, one_line
from rlcs.turns import TurnTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_episodes(config: Config, data: DataSplits, tokenizer: PreTrainedTokenizerBase) -> None:
    """Begin an episode of each domain; does nothing where tasks have a single turn.

    Raises:
        ConfigError: `reset` raises, or gives a state that is no plain data, or metadata are none.
        DataError: the policy's chat template has no room for a second turn.
    """
    env = load_env(config.data.env) if config.data.env is not None else None
    if not isinstance(env, EpisodeEnvironment):
        return
    template = TurnTemplate(tokenizer)
    for prompt in {prompt.domain: prompt for prompt in [*data.eval, *data.train]}.values():
        where = f"data.env {config.data.env!r}: prompt {prompt.id} (domain {prompt.domain})"
        try:
            state = env.reset(prompt)
        except Exception as error:  # somebody's code
            raise ConfigError(f"{where}: reset raised {one_line(error, typed=True)}") from error
        try:
            json.dumps([state, prompt.metadata])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: its state and metadata must be plain data, as JSON has it: {error}") from error
        template.between(prompt.messages, [{"type": "text", "text": "?"}], None)
