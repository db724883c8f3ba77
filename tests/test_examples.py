"""What README and docs/ say is true: configurations load, data and rewards work, commands parse, settings and files exist.

The code that the README prints is compared with examples/ in tests/test_readme.py; a true run of the examples is in
tests/e2e/test_examples.py.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import runpy
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from rlcs.checkpoint import Progress
from rlcs.cli import app
from rlcs.config import Config
from rlcs.config_loading import load_config
from rlcs.config_reference import reference_markdown, settings
from rlcs.curricula.base import Curriculum
from rlcs.data import load_solutions, load_splits
from rlcs.envs.base import EpisodeEnvironment, build_splits, load_env, work_out
from rlcs.placement import place
from rlcs.response_format import render_response
from rlcs.reward_model_config import RewardModelRun
from rlcs.rewards.loading import LoadedReward, load_reward
from rlcs.runlog import EvaluationRow, RunLog
from rlcs.types import FinishReason, Group, Prompt, Response, Score

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- example: (?P<name>[\w-]+) -->\n)?^(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^ *```$", re.M | re.S
)
# A whole path in backticks; NAME, RUN and the like stand for the reader's own.
FILE = re.compile(
    r"(?:rlcs|rewards|curricula|envs|configs|docs|examples|benchmarks|requirements|tests|scripts)/[\w./-]*"
)
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def blocks(page: Path, language: str) -> Iterator[tuple[str | None, str]]:
    """Mark and text of every fenced block of a language."""
    for match in FENCE.finditer(page.read_text()):
        if match["language"] == language:
            yield match["name"], textwrap.dedent(match["body"])


def example(page: str, name: str) -> str:
    """The block marked `<!-- example: NAME -->`."""
    text = (ROOT / page).read_text()
    (found,) = [
        textwrap.dedent(match["body"])
        for match in FENCE.finditer(text.replace("    <!--", "<!--"))
        if match["name"] == name
    ]
    return found


def code_spans(page: Path) -> list[str]:
    """What stands in backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))


def command_lines(page: Path) -> list[list[str]]:
    """The words of every `rlcs ...` line of the shell blocks, comments and where its output goes left out."""
    lines = [line for _, block in blocks(page, "bash") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("rlcs ")]
    return [list(itertools.takewhile(lambda word: word not in (">", "|"), line)) for line in words]


def own_data_tree() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(example("README.md", "own-data"))
    return tree


def load_fragment(fragment: str, tmp_path: Path) -> Config:
    """A part of a configuration in the place of the same part of the README's."""
    path = tmp_path / "fragment.yaml"
    path.write_text(yaml.safe_dump(own_data_tree() | yaml.safe_load(fragment)))
    return load_config(path)


# Commands


def parse(words: list[str]) -> dict[str, Any]:
    """What the command line makes of the words, without running it; a mistake raises click's UsageError."""
    command: Any = typer.main.get_command(app)
    words = words[1:]
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"there is no command {' '.join(words)!r}"
        name = words.pop(0)
        command = command.commands[name]
    context = command.make_context(command.name, words)
    parameters: dict[str, Any] = context.params
    return parameters


@each_page
def test_every_command_line_is_understood(page: Path, tmp_path: Path) -> None:
    run_yaml = tmp_path / "run.yaml"
    run_yaml.write_text(example("README.md", "own-data"))
    known = {setting.key for setting in settings()}
    for words in command_lines(page):
        given = parse(words)
        if given.get("key") is not None:
            assert given["key"] in known, words
        if given.get("config") is not None:
            path = run_yaml if str(given["config"]) == "run.yaml" else given["config"]
            load_config(path, given["overrides"] or [], RewardModelRun if words[1] == "reward-model" else Config)


@each_page
def test_every_command_named_in_the_text_exists(page: Path) -> None:
    root: Any = typer.main.get_command(app)
    for span in code_spans(page):
        words = span.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), span
        if words[0] != "rlcs" or len(words) == 1:
            continue
        command, rest = root, words[1:]
        while hasattr(command, "commands") and rest:
            assert rest[0] in command.commands, span
            command = command.commands[rest.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, span


def test_pages_have_command_lines() -> None:
    assert sum(len(command_lines(page)) for page in PAGES) > 20


@each_page
def test_every_make_target_of_the_shell_blocks_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for _, block in blocks(page, "bash"):
        for target in re.findall(r"^make (\w[\w-]*)", block, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), target


# Settings and files


@each_page
def test_every_setting_named_in_the_text_exists(page: Path) -> None:
    known = {setting.key for setting in settings()}
    sections = {key.split(".")[0] for key in known if "." in key}
    free_form = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    suffixes = {".json", ".jsonl", ".safetensors", ".parquet", ".py", ".yaml"}
    for span in code_spans(page):
        match = re.match(r"([a-z_]+)\.([a-z0-9_.]+)", span)
        if match is None or match[1] not in sections or Path(match[0]).suffix in suffixes:
            continue
        key = ".".join(part for part in match[0].split(".") if not part.isdigit())
        method = match[1] == "curriculum" and hasattr(Curriculum, match[2])
        free = any(key.startswith(f"{parent}.") for parent in known if parent in free_form)
        assert key in known or method or free, f"{page.name}: {span}"


@each_page
def test_every_yaml_block_loads(page: Path, tmp_path: Path) -> None:
    for _, block in blocks(page, "yaml"):
        load_fragment(block, tmp_path)


@each_page
def test_every_file_and_link_exists(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", text):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), link
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#([\w-]+)\)", text):
        target = page if not link else page.parent / link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor
    for span in code_spans(page):
        if FILE.fullmatch(span) and not PLACEHOLDER.search(Path(span).stem):
            assert (ROOT / span).exists(), f"{page.name}: {span}"


def test_the_table_of_settings_is_the_present_one() -> None:
    assert (ROOT / "docs/reference-config.md").read_text() == reference_markdown()


def test_the_site_has_every_page() -> None:
    nav = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(nav) == sorted(page.name for page in PAGES[1:])


# Examples


def prompts_of(config: Config) -> list[Prompt]:
    return load_splits(config.data, config.seed).train


@pytest.fixture(scope="module")
def math() -> Iterator[LoadedReward]:
    reward = load_reward("math")
    yield reward
    reward.close()


def values(reward: LoadedReward, prompts: list[Prompt], texts: list[str]) -> list[float | None]:
    return [None if score is None else score.value for score in reward.score_batch(prompts, texts)]


def test_own_data_asks_for_the_box_that_its_reward_reads(math: LoadedReward, tmp_path: Path) -> None:
    prompts = prompts_of(load_fragment("{}", tmp_path))[:3]
    asked = [prompt.messages[0]["content"] for prompt in prompts]
    answered = [
        text.partition("as ")[2].rstrip(".").replace("ANSWER", p.answer) for text, p in zip(asked, prompts, strict=True)
    ]
    assert values(math, prompts, [f"I add them up. {text}" for text in answered]) == [1.0] * 3


def test_columns_of_the_data_page_are_mapped(tmp_path: Path) -> None:
    (prompt, *_) = prompts_of(load_fragment(example("docs/howto-own-data.md", "columns"), tmp_path))
    assert prompt.domain == "sums" and prompt.answer.isdigit() and "What is" in prompt.messages[-1]["content"]


def test_solutions_of_the_cold_start_are_right(math: LoadedReward, tmp_path: Path) -> None:
    config = load_fragment(example("docs/howto-own-data.md", "cold-start"), tmp_path)
    rows = load_solutions(config.data, config.sft.solutions)
    assert len(rows) == 60
    prompts, texts = [prompt for prompt, _ in rows], [solution for _, solution in rows]
    assert set(values(math, prompts, texts)) == {1.0}


def test_tasks_of_the_data_page_make_prompts(tmp_path: Path) -> None:
    config = load_fragment(example("docs/howto-own-data.md", "environment"), tmp_path)
    data = config.data.model_copy(update={"train_per_level": 3, "eval_per_level": 1})
    assert data.env is not None
    splits = build_splits(load_env(data.env), data, seed=0)
    assert {(prompt.domain, prompt.tier) for prompt in splits.train} >= {("gcd", 0), ("sums", 0), ("sums", 4)}


def test_the_function_of_the_reward_page_is_that_of_the_readme() -> None:
    assert example("docs/howto-own-reward.md", "function") == example("README.md", "own-reward")


def test_the_function_of_the_examples_is_a_reward_of_trl() -> None:
    last_number = runpy.run_path("examples/last_number.py")["last_number"]
    completions = [[{"role": "assistant", "content": text}] for text in ("so 7, or 8", "no idea")]
    assert last_number(prompts=["?", "?"], completions=completions, answer=["8", "8"], completion_ids=[[1], [2]]) == [
        1.0,
        0.0,
    ]


def test_the_class_of_the_reward_page_scores_and_refuses(tmp_path: Path) -> None:
    path = tmp_path / "my_rewards.py"
    path.write_text(example("docs/howto-own-reward.md", "class"))
    reward = load_reward(f"{path}:WithinFivePercent")
    prompt = Prompt("a", [{"role": "user", "content": "How many?"}], "100")
    texts = [render_response("", "96"), render_response("", "94"), render_response("", "many"), "96"]
    assert values(reward, [prompt] * 4, texts) == [1.0, 0.0, 0.0, 0.0]
    assert reward.validate(prompt) is None
    assert "no number" in (reward.validate(Prompt("b", prompt.messages, "a hundred")) or "")


def test_the_environment_of_the_episodes_page_is_the_example() -> None:
    text = (ROOT / "examples/guess_number.py").read_text()
    assert example("docs/episodes.md", "guess-number").strip() == text[text.index("class GuessNumber") :].strip()
    env = load_env("examples/guess_number.py:GuessNumber")
    assert isinstance(env, EpisodeEnvironment)
    for level in env.levels("guess"):
        for prompt in itertools.islice(env.generate("guess", level, domain="guess", tier=0, seed=0), 20):
            assert work_out(env, prompt), "worked turns find the number"


@pytest.mark.parametrize(
    ("name", "gpus"), [("grpo_1.5b_1gpu", 1), ("grpo_7b_lora_1gpu", 1), ("grpo_7b_8gpu", 8), ("grpo_7b_4x8gpu", 32)]
)
def test_configuration_takes_the_gpus_that_its_name_says(name: str, gpus: int) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert len({(seat.node, gpu) for seat in place(config).seats for gpu in seat.gpus}) == gpus


# The folder of a run, and the rooms


def test_every_column_of_a_run_is_described(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    tokens = np.asarray([1], np.int32)
    response = Response(tokens, np.zeros(1, np.float32), np.ones(1, np.bool_), "5", FinishReason.STOP, 0, Score(1.0))
    group = Group(Prompt("a", [{"role": "user", "content": "2 + 3?"}], "5"), tokens, [response])
    config = load_fragment("logging: {tensorboard: false}", tmp_path)
    log = RunLog(tmp_path, config.logging, {})
    log.write_rollouts(1, [group], [0])
    log.flush()
    log.write_metrics(1, {"reward/mean": 1.0})
    text = (ROOT / "docs/run-folder.md").read_text()
    columns = [field.name for cls in (EvaluationRow, Progress) for field in fields(cls)]
    for folder in ("rollouts", "curriculum"):
        columns += pq.read_table(tmp_path / folder / "step-000001.parquet").column_names
    columns += [name for name in json.loads((tmp_path / "metrics.jsonl").read_text()) if "/" not in name]
    assert [name for name in columns if f"`{name}`" not in text] == []


def imported_rooms(file: Path) -> set[str]:
    """The rooms of RLCS that a file imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module] if node.module != "rlcs" else [f"rlcs.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("rlcs.") and name != "rlcs.__version__"}


def test_no_room_imports_from_a_higher_floor() -> None:
    rows = re.findall(r"^\| (\d) \| (.*) \|$", (ROOT / "docs/design.md").read_text(), re.M)
    floors = {room: int(floor) for floor, names in rows for room in re.findall(r"`(?:rlcs/)?(\w+)(?:\.py|/)`", names)}
    present = {
        path.stem for path in (ROOT / "rlcs").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(floors) == present - {"__init__"}
    for room, floor in floors.items():
        folder = ROOT / "rlcs" / room
        for file in folder.resolve().rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]:
            for other in imported_rooms(file) - {room}:
                assert floors[other] < floor or (floors[other] == floor and floor not in (2, 3)), (
                    f"{file} imports {other}"
                )
