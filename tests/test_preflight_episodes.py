"""What is wrong with tasks of several turns is told in one line before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rlcs.config import Config
from rlcs.config_loading import load_config
from rlcs.data import DataSplits
from rlcs.envs.base import build_splits, load_env
from rlcs.errors import ConfigError, DataError
from rlcs.models import build_tokenizer, load_tokenizer
from rlcs.preflight_episodes import check_episodes

ENVIRONMENT = """
import itertools
from rlcs.envs.base import EpisodeEnvironment
from rlcs.types import Prompt

class Env(EpisodeEnvironment):
    def levels(self, task): return [{{}}]
    def generate(self, task, params, *, domain, tier, seed):
        for n in itertools.count():
            yield Prompt(f"{{seed}}-{{n}}", [{{"role": "user", "content": str(n)}}], "1", domain, tier)
    def reset(self, prompt): {reset}
    def step(self, prompt, state, response): ...
    def give_up(self, prompt, state): ...
"""


def given(tmp_path: Path, reset: str) -> tuple[Config, DataSplits]:
    path = tmp_path / "env.py"
    path.write_text(ENVIRONMENT.format(reset=reset))
    data = {"env": f"{path}:Env", "tasks": [{"task": "a"}], "train_per_level": 3, "eval_per_level": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"model": {"init": "tiny"}, "data": data}))
    config = load_config(tmp_path / "run.yaml")
    assert config.data.env is not None
    return config, build_splits(load_env(config.data.env), config.data, 0)


@pytest.mark.parametrize(
    ("reset", "told"),
    [("raise KeyError('start')", "reset raised KeyError"), ("return {'a': {1, 2}}", "must be plain data")],
)
def test_an_environment_that_cannot_begin_is_named(tmp_path: Path, tiny_policy: Path, reset: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"Env.*domain a.*{told}"):
        check_episodes(*given(tmp_path, reset), load_tokenizer(str(tiny_policy)))


def test_a_template_for_one_turn_is_refused_and_one_for_more_is_not(tmp_path: Path, tiny_policy: Path) -> None:
    config, data = given(tmp_path, "return {}")
    check_episodes(config, data, load_tokenizer(str(tiny_policy)))
    with pytest.raises(DataError, match="leaves out earlier responses"):
        check_episodes(config, data, build_tokenizer(["a"] * 60, 330, (), "{{ messages[-1].content }}"))


def test_tasks_of_a_single_turn_are_left_alone(tiny_policy: Path) -> None:
    config = load_config(Path(__file__).parent.parent / "configs" / "quickstart.yaml")
    check_episodes(config, DataSplits([], []), load_tokenizer(str(tiny_policy)))
