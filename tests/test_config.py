"""Configurations: what a YAML file may say, where a mistake is, and the checks that need only the numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rlcs.config import Config
from rlcs.config_loading import dump_config, explain, load_config, reference_markdown
from rlcs.config_reference import settings as all_settings
from rlcs.errors import ConfigError, RLCSError

BASE = """\
name: trial
model:
  init: tiny
data:
  env: reasoning_gym
  tasks:
    - task: chain_sum
learner:
  learning_rate: 1e-3
train:
  steps: 5
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""

    def write_text(text: str) -> Path:
        path = tmp_path / "x.yaml"
        path.write_text(text)
        return path

    return write_text


def refusal(path: Path, *overrides: str) -> str:
    """The error of loading, its path cut to the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value).replace(f"{path.parent}/", "")
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


# Reading


def test_file_gives_values_and_defaults(write: Write) -> None:
    config = load_config(write(BASE))
    assert config.learner.learning_rate == 1e-3, "YAML 1.1 would read 1e-3 as text"
    assert config.data.tasks[0].task == "chain_sum"
    assert config.rollout.num_generations == 8


def test_overrides_win_over_the_file_and_later_over_earlier(write: Write) -> None:
    config = load_config(
        write(BASE), ["train.steps=7", "train.steps=50", "curriculum.kind=uniform", "learner.learning_rate=2e-5"]
    )
    assert (config.train.steps, config.curriculum.kind, config.learner.learning_rate) == (50, "uniform", 2e-5)


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("train.max_generated_tokens=null", lambda c: c.train.max_generated_tokens, None),
        ("logging.wandb=true", lambda c: c.logging.wandb, True),
        ("curriculum.domain_mix={sums: 2, words: 1}", lambda c: c.curriculum.domain_mix, {"sums": 2, "words": 1}),
        ("reward.functions=[math, 'a.py:f']", lambda c: c.reward.functions, ["math", "a.py:f"]),
        ("data.tasks.0.domain=sums", lambda c: c.data.tasks[0].domain, "sums"),
        ("data.tasks.0.levels=[{min_terms: 2}]", lambda c: c.data.tasks[0].levels, [{"min_terms": 2}]),
        ("data.system_prompt=Answer: yes or no #1", lambda c: c.data.system_prompt, "Answer: yes or no #1"),
        ("data.system_prompt='5'", lambda c: c.data.system_prompt, "5"),
        ("output_dir=/some/where", lambda c: c.output_dir, Path("/some/where")),
        ("train.steps=1_000", lambda c: c.train.steps, 1000),
        ("name=2024-01-01", lambda c: c.name, "2024-01-01"),
        ("data.tasks.0.domain=no", lambda c: c.data.tasks[0].domain, "no"),
        ("train.steps=010", lambda c: c.train.steps, 10),
    ],
)
def test_override_values(write: Write, override: str, read: Callable[[Config], Any], expected: Any) -> None:
    assert read(load_config(write(BASE), [override])) == expected


def test_override_of_a_section_replaces_it_whole(write: Write) -> None:
    assert load_config(write(BASE), ["learner={epsilon: 0.1}"]).learner.learning_rate == 1e-6


def test_section_with_all_its_settings_commented_out_means_its_defaults(write: Write) -> None:
    assert load_config(write(f"{BASE}rollout:\n  # num_engines: 2\n")).rollout.num_engines == 1


def test_anchors_may_repeat_a_value(write: Write) -> None:
    text = BASE.replace("steps: 5", "steps: &n 5\n  batch_size: *n")
    assert load_config(write(text)).train.batch_size == 5


def test_home_folder_is_meant_by_a_tilde(write: Write) -> None:
    config = load_config(write(BASE), ["model.init=null", "model.path=~/m", "output_dir=~/runs"])
    assert config.model.path == str(Path.home() / "m")
    assert config.output_dir == Path.home() / "runs"


def test_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_config(path).name == "trial"


# Where a mistake is


def test_misspelt_key_has_file_line_and_the_nearest_right_key(write: Write) -> None:
    message = refusal(write(BASE.replace("learning_rate", "learning_rte")))
    assert message == "x.yaml, line 9: learner.learning_rte is no setting; did you mean learning_rate?"


def test_misspelt_section_is_told_before_what_it_leaves_missing(write: Write) -> None:
    message = refusal(write(BASE.replace("model:", "modle:")))
    assert message == "x.yaml, line 2: modle is no setting; did you mean model? (and 1 more)"


def test_key_of_another_section_is_found_there(write: Write) -> None:
    message = refusal(write(BASE.replace("steps: 5", "num_generations: 4")))
    assert "line 11: train.num_generations is no setting; did you mean rollout.num_generations?" in message


def test_misspelt_key_in_a_list_item(write: Write) -> None:
    message = refusal(write(BASE.replace("- task: chain_sum", "- task: chain_sum\n      levls: []")))
    assert message == "x.yaml, line 8: data.tasks.0.levls is no setting; did you mean levels?"


def test_key_like_none_lists_what_there_is(write: Write) -> None:
    assert "zzz is no setting; the file may have name, output_dir" in refusal(write(f"{BASE}zzz: 1\n"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("steps: 5", "steps: many", "line 11: train.steps should be a whole number, not 'many'"),
        ("steps: 5", "steps: 5.5", "line 11: train.steps should be a whole number, not 5.5"),
        ("steps: 5", "steps: true", "line 11: train.steps should be a whole number, not true"),
        ("steps: 5", "steps: '5'", "line 11: train.steps should be a whole number, not '5'"),
        ("steps: 5", "steps: 0", "line 11: train.steps should be greater than 0, not 0"),
        ("steps: 5", "steps: [5]", "line 11: train.steps should be a whole number, not [5]"),
        ("rate: 1e-3", "rate: .inf", "line 9: learner.learning_rate should be a finite number, not Infinity"),
        ("rate: 1e-3", "rate: .nan", "line 9: learner.learning_rate should be a finite number, not NaN"),
        ("name: trial", "name: 5", "line 1: name should be text, not 5; quote it"),
        ("name: trial", "name: ../x", "line 1: name should match pattern"),
        ("init: tiny", "init: huge", "line 3: model.init should be 'tiny' or 'tiny-glm4v', not 'huge'"),
        ("- task: chain_sum", "- chain_sum", "line 7: data.tasks.0 should be a mapping (key: value), not 'chain_sum'"),
        ("- task: chain_sum", "- domain: x", "line 7: data.tasks.0.task is missing"),
        ("steps: 5", "5", "line 10: train should be a mapping (key: value), not 5"),
    ],
)
def test_wrong_value_has_its_line(write: Write, old: str, new: str, expected: str) -> None:
    assert f"x.yaml, {expected}" in refusal(write(BASE.replace(old, new)))


def test_first_problem_of_the_file_and_how_many_more(write: Write) -> None:
    text = BASE.replace("1e-3", "fast").replace("steps: 5", "steps: many\n  batch_size: -1")
    assert refusal(write(text)) == "x.yaml, line 9: learner.learning_rate should be a number, not 'fast' (and 2 more)"


def test_mistake_in_an_override_names_the_override(write: Write) -> None:
    assert refusal(write(BASE), "learner.learning_rte=1").startswith("override 'learner.learning_rte=1': learner.")
    assert refusal(write(BASE), "train.steps=x").startswith("override 'train.steps=x': train.steps should be")
    assert refusal(write(BASE), "learner={a: 1}").startswith("override 'learner={a: 1}': learner.a is no setting")


def test_file_still_names_its_line_when_an_override_is_beside_it(write: Write) -> None:
    assert "x.yaml, line 11: train.steps" in refusal(write(BASE.replace("steps: 5", "steps: x")), "train.batch_size=4")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps", "write it as key.sub=value"),
        ("=5", "write it as key.sub=value"),
        ("train..steps=5", "write it as key.sub=value"),
        ("name.x=5", "name holds a value, not settings"),
        ("data.tasks.3.task=x", "data.tasks has 1 items"),
        ("data.tasks.x.task=x", "data.tasks has 1 items"),
        ("reward.functions=[math", "not valid YAML"),
    ],
)
def test_malformed_override(write: Write, override: str, expected: str) -> None:
    message = refusal(write(BASE), override)
    assert f"override '{override}'" in message and expected in message


def test_override_may_add_a_section_that_the_file_lacks(write: Write) -> None:
    assert load_config(write(BASE), ["sft.enabled=true"]).sft.enabled


def test_duplicate_key_names_both_lines(write: Write) -> None:
    message = refusal(write(f"{BASE}learner:\n  beta: 1\n"))
    assert message == "x.yaml, line 12: key 'learner' is given twice, first on line 8"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "line 1: not valid YAML"),
        ("a: b\n\tc: d", "line 2: not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("- 1\n- 2", "the file must hold settings (key: value), not a list"),
        ("a: !!python/object/apply:os.system [echo]", "the tag"),
        ("a: !x 1", "the tag"),
        ("1: x", "line 1: a key must be text, but 1 is not: quote it"),
        ("? [a]\n: b", "a key must be text"),
        ("a: &a [*a]", "too large or nested too deeply"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "number of 5000 characters"),
        ("a: !!int x", "is not of type int"),
        ('a: "\\ud800"', "not valid Unicode"),
        ("a: \x01", "line 1: character #x0001 is not allowed"),
    ],
)
def test_what_is_no_configuration_says_where(write: Write, text: str, expected: str) -> None:
    message = refusal(write(text))
    assert message.startswith("x.yaml") and expected in message


def test_aliases_that_repeat_each_other_do_not_fill_the_memory(write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "too large" in refusal(write("\n".join(lines)))


def test_missing_file_names_a_near_one(write: Write, tmp_path: Path) -> None:
    write(BASE)
    assert refusal(tmp_path / "xx.yaml") == "there is no configuration file xx.yaml; did you mean x.yaml?"
    assert "is a folder" in refusal(tmp_path)


def test_file_that_is_no_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: x\nmodel: \xff\n")
    assert refusal(path) == "x.yaml, line 2: not UTF-8 text; save the file as UTF-8"


# Checks over several settings


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["rollout.num_generations=1"], "rollout.num_generations should be greater than or equal to 2, not 1"),
        (
            ["train.batch_size=30", "learner.num_minibatches=4"],
            "train.batch_size (30) must be divisible by learner.num_minibatches (4)",
        ),
        (["model.path=x"], "give exactly one of model.path (a folder or hub name) and model.init (tiny or tiny-glm4v)"),
        (["model.init=null"], "give exactly one of model.path"),
        (["data.train=x.jsonl"], "give exactly one of data.env (an environment) and data.train (a dataset)"),
        (["data.tasks=[]"], "data.env needs data.tasks"),
        (["data.env=null", "data.train=x.jsonl"], "data.tasks are tasks of an environment"),
        (["data.eval=x.jsonl"], "data.eval goes with data.train"),
        (
            ["data.columns={promt: question}"],
            "data.columns has no 'promt' (only prompt, answer, domain, tier, solution, images, videos)",
        ),
        (["data.columns={prompt: x, answer: x}"], "takes two of ours from one column 'x'"),
        (["rollout.max_completion_length=1000"], "is more than the model's context"),
        (["rollout.gpus_per_engine=1", "rollout.tensor_parallel_size=2"], "is more than rollout.gpus_per_engine (1"),
        (["reward.functions=[math]", "reward.weights=[1, 2]"], "reward.weights has 2 entries for 1 functions"),
        (["model.tiny.num_heads=5"], "hidden_size (192) must be a multiple of 2 x num_heads (10)"),
        (["sft.level_weights=[0, 0]"], "sft.level_weights are all 0"),
        (["sft.level_weights=[-1, 2]"], "sft.level_weights.0 should be greater than or equal to 0"),
        (["data.eval_fraction=1"], "data.eval_fraction should be less than 1"),
        (["learner.epsilon=0"], "learner.epsilon should be greater than 0"),
        (["learner.gpus=1.5"], "learner.gpus (1.5) must be learner.num_ranks (1), a GPU a rank"),
        (["learner.gpus=4", "learner.num_ranks=2"], "learner.gpus (4) must be learner.num_ranks (2), a GPU a rank"),
        (["learner.num_ranks=300"], "learner.num_ranks (300) is more than the 256 responses of a minibatch"),
    ],
)
def test_impossible_combinations(write: Write, overrides: list[str], expected: str) -> None:
    message = refusal(write(BASE), *overrides)
    assert expected in message
    assert message.startswith("override")


def test_check_over_several_settings_names_the_line_of_one(write: Write) -> None:
    text = BASE.replace("steps: 5", "batch_size: 30").replace("learning_rate: 1e-3", "num_minibatches: 4")
    assert refusal(write(text)).startswith("x.yaml, line 11: train.batch_size (30) must be divisible")


def test_settings_do_not_change_after_loading(write: Write) -> None:
    config = load_config(write(BASE))
    with pytest.raises(ValidationError):
        config.train.steps = 3  # type: ignore[misc]


# Writing

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_yaml_traps = st.sampled_from(
    [
        "yes",
        "no",
        "null",
        "~",
        "",
        "1e3",
        "1e-3",
        "0x1f",
        "010",
        "1:30",
        "2024-01-01",
        ".inf",
        "<<",
        "=",
        "- a",
        "a: b",
        "\x85",
        "a \u2028 b",
        "\ufeff",
        "a\n\n b\n",
        " a ",
        "#a",
        "a #b",
        "é\x07\t",
    ]
)
_texts = _text | _yaml_traps
_floats = st.floats(min_value=1e-300, max_value=1e300)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Configurations with values of every kind."""
    levels = draw(st.lists(st.dictionaries(_texts, _json, max_size=3), max_size=3))
    tree: dict[str, Any] = {
        "name": draw(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z")),
        "output_dir": Path(draw(_texts.filter(lambda text: "\0" not in text and not text.startswith("~")))),
        "seed": draw(st.integers(min_value=0)),
        "model": {"init": "tiny"} if draw(st.booleans()) else {"path": draw(_texts)},
        "data": {
            "env": draw(_texts),
            "tasks": [{"task": draw(_texts), "levels": levels}],
            "columns": {"prompt": draw(_texts)},
            "system_prompt": draw(st.none() | _texts),
        },
        "curriculum": {"domain_mix": draw(st.dictionaries(_texts, _floats, max_size=4))},
        "learner": {
            "learning_rate": draw(st.floats(min_value=1e-300, max_value=1)),
            "gradient_checkpointing": draw(st.booleans()),
        },
        "reward": {"functions": draw(st.lists(_texts, max_size=3))},
    }
    return Config(**tree)


@settings(deadline=None)
@given(config=configs())
def test_what_is_written_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8", newline="")
    assert load_config(path) == config


@settings(deadline=None)
@given(config=configs())
def test_other_readers_of_yaml_see_the_same_text(config: Config) -> None:
    other = yaml.safe_load(dump_config(config))
    assert other["data"]["env"] == config.data.env
    assert other["reward"]["functions"] == config.reward.functions


# Hostile files


def _load_any(path: Path, overrides: list[str]) -> None:
    try:
        load_config(path, overrides)
    except RLCSError as error:
        assert "\n" not in str(error) and str(error)


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_bytes(data)
    _load_any(path, [])


_yaml_pieces = st.sampled_from(
    [*"{}[]:,-?&*!|>'\"%@`#\n\t ~", "  ", ": ", "- ", "\n  ", "a", "model", "data", "1e5", "!!int ", "!!binary ",
     "!!timestamp ", "<<: ", "&a ", "*a", "\\u", "\\UFFFFFFFF", "\\x", "---\n", "...", "\ufeff", "\x85", "\u2028", "%YAML 1.1\n"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(pieces=st.lists(_yaml_pieces, max_size=25), at_start=st.booleans())
def test_any_yaml_like_text_is_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], at_start: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    text = "".join(pieces)
    path.write_text(f"{text}\n{BASE}" if at_start else f"{BASE}{text}", encoding="utf-8")
    _load_any(path, [])


@settings(deadline=None)
@given(
    key=st.sampled_from(["train.steps", "data.tasks", "data.tasks.0.levels", "name", "curriculum.domain_mix"]) | _text,
    value=_json.map(str) | _text,
)
def test_any_override_is_taken_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_text(BASE)
    _load_any(path, [f"{key}={value}"])


# Explaining


def test_explain_gives_type_default_and_description() -> None:
    text = explain("learner.learning_rate")
    assert text.splitlines()[0] == "learner.learning_rate"
    assert "number > 0" in text and "1e-06" in text and "AdamW learning rate" in text


def test_explain_a_section_and_a_list_item() -> None:
    assert "rollout.num_generations" in explain("rollout")
    assert "required" in explain("data.tasks.0.task") and explain("data.tasks.task") == explain("data.tasks.0.task")


def test_explain_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean learner\.learning_rate\?"):
        explain("learner.lerning_rate")
    with pytest.raises(ConfigError, match="there are: "):
        explain("")


def test_every_setting_has_a_description_and_a_line_in_the_reference() -> None:
    table = reference_markdown()
    for setting in all_settings():
        assert setting.description, f"{setting.key} has no description"
        assert f"`{setting.key}`" in table
    for line in table.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5, line


def test_defaults_in_the_reference_are_the_models() -> None:
    defaults = {setting.key: setting.default for setting in all_settings()}
    assert defaults["rollout.num_generations"] == "8"
    assert defaults["train.max_generated_tokens"] == "null"
    assert math.isclose(float(defaults["learner.epsilon_high"]), 0.28)


def test_loading_a_configuration_imports_nothing_heavy() -> None:
    program = (
        "import sys, rlcs.config_loading, rlcs.preflight, rlcs.plugins\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'ray', 'vllm', 'sympy', 'trl'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
