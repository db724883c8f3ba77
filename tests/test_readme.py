"""The worked examples of the README are true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from rlcs.config import Config, CurriculumConfig
from rlcs.config_loading import load_config
from rlcs.curricula.base import PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.data import load_splits
from rlcs.response_format import render_response
from rlcs.reward_model_config import RewardModelRun
from rlcs.rewards.loading import load_reward

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def example(name: str) -> str:
    """The fenced block after `<!-- example: NAME -->`."""
    match = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", README, flags=re.S)
    assert match is not None, f"the README has no example {name}"
    return match.group(1)


def test_own_data_is_loaded_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(example("own-data"))
    config = load_config(path, ["name=other", "curriculum.kind=uniform", "train.steps=50"])
    splits = load_splits(config.data, config.seed)
    assert len(splits.train) + len(splits.eval) == 60 and splits.eval
    assert {prompt.domain for prompt in splits.train} == {"sums"}
    texts = [render_response("", prompt.answer) for prompt in splits.train[:3]]
    scores = load_reward(config.reward.functions[0]).score_batch(splits.train[:3], texts)
    assert [score.value for score in scores if score] == [1.0] * 3


@pytest.mark.parametrize(
    ("name", "file"), [("own-reward", "examples/last_number.py"), ("own-curriculum", "examples/hardest_tier.py")]
)
def test_the_printed_code_is_that_of_the_file(name: str, file: str) -> None:
    def body(text: str) -> str:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("#", '"""'))]
        return "\n".join(line for line in lines if line != '"""See `Curriculum.draw`."""')

    assert body(example(name)) == body((ROOT / file).read_text())


def test_own_reward_scores_the_last_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(example("own-data"))
    prompts = load_splits(load_config(path).data, 0).train[:2]
    reward = load_reward("examples/last_number.py:last_number")
    scores = reward.score_batch(prompts, [f"so it is {prompts[0].answer}", "no idea"])
    assert [score.value for score in scores if score] == [1.0, 0.0]


def test_own_curriculum_draws_from_the_hardest_tier() -> None:
    table = PromptTable(np.asarray([0, 4, 1, 4], np.int8), np.zeros(4, np.int16), ["a"])
    curriculum = load_curriculum("examples/hardest_tier.py:HardestTier", table, CurriculumConfig(), 0)
    assert set(curriculum.draw(2).tolist()) == {1, 3}


def test_every_command_line_exists() -> None:
    import click
    import typer

    from rlcs.cli import app

    root = typer.main.get_command(app)
    lines = re.findall(r"^rlcs .*$", README, flags=re.M)
    assert len(lines) > 5
    for line in lines:
        command: object = root
        words = shlex.split(line, comments=True)[1:]
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        assert isinstance(command, click.Command) or hasattr(command, "params"), line
        options = {option for parameter in command.params for option in parameter.opts}  # type: ignore[attr-defined]
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_loads(path: Path) -> None:
    load_config(path, model=RewardModelRun if path.stem == "reward_model" else Config)
