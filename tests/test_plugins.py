"""Objects named in a configuration: the four forms, and what is said when one cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from rlcs.errors import ConfigError, RewardError
from rlcs.plugins import absolute_form, load_object

BUILTINS = {"join": "os.path:join", "math": "math:sqrt"}


def load(form: str) -> Any:
    return load_object(form, group="rlcs.rewards", builtins=BUILTINS, what="reward", error=RewardError)


def refusal(form: str) -> str:
    with pytest.raises(RewardError) as caught:
        load(form)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the import path is put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_builtin_name() -> None:
    assert load("math")(9) == 3


def test_installed_module_and_dotted_attribute() -> None:
    assert load("pathlib:Path.cwd") == Path.cwd


def test_module_in_the_working_folder(folder: Path) -> None:
    package = folder / "my_plugin_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "rewards.py").write_text("def reward():\n    return 'mine'\n")
    assert load("my_plugin_package.rewards:reward")() == "mine"


def test_file_may_be_relative_absolute_or_reached_through_a_link_and_is_one_module(folder: Path) -> None:
    (folder / "mine.py").write_text("class Reward:\n    pass\n")
    (folder / "link.py").symlink_to(folder / "mine.py")
    first = load("mine.py:Reward")
    assert first is load(f"{folder}/mine.py:Reward") is load("./link.py:Reward")
    assert sys.modules[first.__module__].Reward is first


def test_files_of_the_same_name_are_different_modules(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text(f"VALUE = {name!r}\n")
    assert (load("a/mine.py:VALUE"), load("b/mine.py:VALUE")) == ("a", "b")


def test_file_may_import_its_neighbours_and_hold_dataclasses(folder: Path) -> None:
    (folder / "neighbour_of_plugin.py").write_text("BASE = 2\n")
    (folder / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom neighbour_of_plugin import BASE\n"
        "@dataclass\nclass Thing:\n    value: int = BASE\n"
    )
    assert load("mine.py:Thing")().value == 2


def test_neighbours_of_a_file_shadow_nothing(folder: Path) -> None:
    (folder / "json.py").write_text("raise RuntimeError('shadowed')\n")
    (folder / "mine.py").write_text("import json\ndumps = json.dumps\n")
    assert load("mine.py:dumps")([1]) == "[1]"


def test_entry_point_of_an_installed_package(folder: Path) -> None:
    (folder / "their_plugin_package.py").write_text("def reward():\n    return 'theirs'\n")
    info = folder / "their_plugin_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-plugin-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rlcs.rewards]\ntheirs = their_plugin_package:reward\nbroken = no_such_module_at_all:x\n"
    )
    sys.path.append(str(folder))
    assert load("theirs")() == "theirs"
    assert "no_such_module_at_all" in refusal("broken")
    assert "did you mean theirs?" in refusal("theirz")


def test_unknown_name_lists_near_ones_and_the_other_forms() -> None:
    message = refusal("maths")
    assert "there is no reward 'maths'; did you mean math?" in message
    assert "path/to/file.py:name" in message and "rlcs.rewards" in message


def test_the_error_class_is_the_callers() -> None:
    with pytest.raises(ConfigError, match="no curriculum 'x'"):
        load_object("x", group="rlcs.curricula", builtins={}, what="curriculum", error=ConfigError)


def test_missing_file_says_where_it_was_looked_for(folder: Path) -> None:
    assert f"no file gone.py (looked for {folder / 'gone.py'})" in refusal("gone.py:reward")


def test_file_without_an_object_asks_for_one(folder: Path) -> None:
    assert "mine.py:NAME" in refusal("mine.py")


def test_missing_attribute_names_what_there_is(folder: Path) -> None:
    (folder / "mine.py").write_text("def my_reward():\n    pass\n")
    message = refusal("mine.py:my_rewrad")
    assert "has no 'my_rewrad'; it has my_reward" in message


def test_missing_module_is_named() -> None:
    assert "there is no module no_such_pkg to import" in refusal("no_such_pkg.sub:reward")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\nraise ValueError('first\\nsecond')\n", "ValueError: first second"),
        ("x = 1\nimport no_such_pkg\n", "No module named 'no_such_pkg'"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_import_that_raises_is_one_line_with_the_line_in_the_file(folder: Path, source: str, said: str) -> None:
    (folder / "bad.py").write_text(source)
    message = refusal("bad.py:reward")
    assert said in message and "bad.py, line 2)" in message
    (folder / "bad.py").write_text("reward = 1\n# mended\n")
    assert load("bad.py:reward") == 1, "a failed import leaves nothing behind"


def test_syntax_error_names_the_line(folder: Path) -> None:
    (folder / "bad.py").write_text("x = 1\ndef reward(:\n")
    assert "SyntaxError" in refusal("bad.py:reward") and "line 2" in refusal("bad.py:reward")


@pytest.mark.parametrize(
    "form", ["", ":", "x:", ":x", "a b:c", "a:b c", "..x:y", "x.py:1", "\0.py:x", "/:x", "a/b:c", "é ü"]
)
def test_malformed_forms_are_refused(form: str) -> None:
    refusal(form)


def test_absolute_form_changes_files_only(folder: Path) -> None:
    assert absolute_form("sub/mine.py:Reward") == f"{folder}/sub/mine.py:Reward"
    for form in ("math", "package.module:reward"):
        assert absolute_form(form) == form
