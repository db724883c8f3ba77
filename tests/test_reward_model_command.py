"""`rlcs reward-model`: a model from nothing that ranks held-out answers, and nothing at all when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from rlcs.config_loading import dump_config, load_config
from rlcs.config_reference import settings
from rlcs.data_rows import RowProblem
from rlcs.errors import ConfigError, DataError, RLCSError
from rlcs.preference_data import PreferencePair, load_preferences, to_pair
from rlcs.progress import Display
from rlcs.reward_model import RewardModelSummary, train_reward_model
from rlcs.reward_model_config import PreferenceDataConfig, RewardModelRun
from rlcs.rewards.reward_model import CALIBRATION_FILE, RewardModel
from tests.conftest import ROOT

EXAMPLE = ROOT / "configs" / "reward_model.yaml"
COLUMNS = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}

Write = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration with a small model, and the pairs that it trains on."""

    def write_files(rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
        if rows is None:
            rows = [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)]
        (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        tree: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "model": {"init": "tiny", "tiny": {"hidden_size": 32, "num_layers": 1, "num_heads": 2}},
            "data": {"train": str(tmp_path / "pairs.jsonl")},
            "train": {"batch_size": 4, "max_length": 256},
        }
        for section, values in changes.items():
            tree[section] = tree.get(section, {}) | values if isinstance(values, dict) else values
        path = tmp_path / "reward.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write_files


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RewardModelSummary, str]:
    """The shipped example, trained; and what was printed."""
    output = tmp_path_factory.mktemp("example")
    printed = StringIO()
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        summary = train_reward_model(EXAMPLE, [f"output_dir={output}"], Display(Console(file=printed, highlight=False)))
    finally:
        os.chdir(before)
    return summary, printed.getvalue()


def refusal(error: type[RLCSError], *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        train_reward_model(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# A whole training


def test_the_example_learns_from_nothing(trained: tuple[RewardModelSummary, str]) -> None:
    summary, printed = trained
    assert summary.accuracy_before < 0.8
    assert summary.accuracy_after > 0.95
    assert f"held-out accuracy before training {100 * summary.accuracy_before:.1f} %" in printed
    assert f"{100 * summary.accuracy_after:.1f} % after" in printed


def test_the_folder_is_an_ordinary_model_folder_and_all_there_is(trained: tuple[RewardModelSummary, str]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    summary, _ = trained
    assert [path.name for path in summary.folder.parent.iterdir()] == [summary.folder.name]
    model, info = AutoModelForSequenceClassification.from_pretrained(summary.folder, output_loading_info=True)
    assert model.config.num_labels == 1
    assert not info["missing_keys"]
    assert model.config.pad_token_id == AutoTokenizer.from_pretrained(summary.folder).pad_token_id
    assert not list(summary.folder.glob("*.bin"))
    kept = load_config(summary.folder / "config.yaml", (), RewardModelRun)
    assert kept.train.epochs == 2
    assert json.loads((summary.folder / "summary.json").read_text())["accuracy_after"] == summary.accuracy_after


def test_the_trained_model_rewards_good_answers_and_is_calibrated(trained: tuple[RewardModelSummary, str]) -> None:
    folder = trained[0].folder
    reward = RewardModel(str(folder))
    rows = [json.loads(line) for line in (ROOT / "examples" / "preferences.jsonl").read_text().splitlines()[:100]]
    columns = [{"question": row["prompt"]} for row in rows]
    values = [
        [score.value for score in reward.score_batch([row[kind] for row in rows], ["-"] * len(rows), columns) if score]
        for kind in ("chosen", "rejected")
    ]
    assert sum(a > b for a, b in zip(*values, strict=True)) >= 95
    everything = values[0] + values[1]
    assert 0.3 < sum(everything) / len(everything) < 0.7
    assert min(everything) < 0.3
    assert max(everything) > 0.7
    assert json.loads((folder / CALIBRATION_FILE).read_text())["scale"] > 0


def test_a_reward_model_can_be_trained_further(trained: tuple[RewardModelSummary, str], write: Write) -> None:
    shape = {"init": None, "path": str(trained[0].folder), "tiny": {}}
    rows = [json.loads(line) for line in (ROOT / "examples" / "preferences.jsonl").read_text().splitlines()[:40]]
    summary = train_reward_model(write(rows, model=shape))
    assert summary.accuracy_before > 0.9  # its head was kept


# Nothing is written when something is wrong


def test_an_existing_folder_is_an_error(write: Write, tmp_path: Path) -> None:
    (tmp_path / "out" / "reward-model").mkdir(parents=True)
    assert "exists already: choose another" in refusal(ConfigError, write())


def test_a_folder_that_cannot_be_made_is_an_error(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written to" in refusal(ConfigError, write(), [f"output_dir={tmp_path}/file/x"])


def test_a_failing_training_leaves_nothing(write: Write, tmp_path: Path) -> None:
    message = refusal(DataError, write(train={"max_length": 2}))
    assert "no training pair fits into train.max_length (2 tokens)" in message
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_none_is_an_error(write: Write, tmp_path: Path, tiny_policy: Path) -> None:
    shape = {"init": None, "tiny": {}}
    assert "there is no folder" in refusal(DataError, write(model=shape | {"path": str(tmp_path / "no")}))
    assert "more than the model's context (256)" in refusal(
        ConfigError, write(model=shape | {"path": str(tiny_policy)}, train={"max_length": 500})
    )
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_policy, damaged)
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"model_type": "whisper_of_the_heart"}))
    refusal(DataError, write(model=shape | {"path": str(damaged)}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_leaves_nothing(write: Write, tmp_path: Path, times: int) -> None:
    config = write(train={"epochs": 10_000})
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "rlcs.cli", "reward-model", str(config)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "step 10/" in line:
            break
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".partial"]
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    if times == 1:  # a second one may come when Python is on its way out
        assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


# Configuration


def test_mistakes_in_the_configuration_name_line_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("model:\n  init: tiny\ndata:\n  trian: pairs.jsonl\n")
    message = refusal(ConfigError, path)
    assert message.startswith(f"{path}, line 4: data.trian is no setting; did you mean train?")
    path.write_text("model:\n  init: tiny\ndata:\n  train: pairs.jsonl\ntrain:\n  epochs: many\n")
    assert "line 6: train.epochs should be a number" in refusal(ConfigError, path)
    assert "override 'train.epochs=-1'" in refusal(ConfigError, path, ["train.epochs=-1"])
    assert "data.columns has no 'chosn'" in refusal(ConfigError, path, ["train.epochs=1", "data.columns.chosn=a"])
    assert "more than the model's context" in refusal(ConfigError, path, ["train.epochs=1", "train.max_length=5000"])
    # Settings of a run are none of these, and are not offered either.
    assert "rollout is no setting" in refusal(ConfigError, path, ["rollout.num_engines=2"])
    assert "rollout." not in refusal(ConfigError, path, ["num_generations=2"])


def test_every_setting_has_a_description_and_the_example_loads() -> None:
    assert all(setting.description for setting in settings(RewardModelRun))
    config = load_config(EXAMPLE, (), RewardModelRun)
    assert (ROOT / config.data.train).is_file()
    assert dump_config(config)


# Pairs


def test_pairs_are_texts_or_conversations() -> None:
    user = [{"role": "user", "content": "q"}]
    good, bad = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
    expected = PreferencePair(user, "good", "bad")
    for row in (
        {"prompt": "q", "chosen": "good", "rejected": " bad\n"},
        {"prompt": user, "chosen": good, "rejected": bad},
        {"prompt": user, "chosen": "good", "rejected": bad},
        {"chosen": user + good, "rejected": user + bad},
        {"prompt": "q", "chosen": "<think>so</think><answer>good</answer>", "rejected": "<think></think>bad"},
    ):
        assert to_pair(row, COLUMNS) == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"chosen": "a", "rejected": "b"}, "prompt is missing"),
        ({"prompt": "q", "rejected": "b"}, "chosen is missing"),
        ({"prompt": "q", "chosen": "a"}, "rejected is missing"),
        ({"prompt": "q", "chosen": " ", "rejected": "b"}, "chosen is empty"),
        ({"prompt": "q", "chosen": 1, "rejected": "b"}, "chosen must be text"),
        ({"prompt": "q", "chosen": "a", "rejected": "a "}, "the same answer"),
        ({"prompt": "q", "chosen": "\ud800", "rejected": "a"}, "not valid Unicode"),
        ({"prompt": "q", "chosen": "<think>a", "rejected": "b"}, "in the response format, but broken"),
        (
            {"prompt": "q", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"},
            "one message of the assistant",
        ),
        ({"chosen": [{"role": "user", "content": "q"}, {}], "rejected": [{}]}, "differ before"),
        ({"chosen": [], "rejected": []}, "empty list"),
    ],
)
def test_bad_pairs_say_why(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(RowProblem, match=problem):
        to_pair(row, COLUMNS)


def pairs_file(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_bad_row_is_named_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [json.dumps({"prompt": f"q{n}", "chosen": "a", "rejected": "b"}) for n in range(4)]
    name = pairs_file(tmp_path, good[0], "{", *good[1:])
    with pytest.raises(DataError, match=r"data\.train: .*pairs\.jsonl, line 2: not JSON"):
        load_preferences(PreferenceDataConfig(train=name), 0)
    splits = load_preferences(PreferenceDataConfig(train=name, on_bad_row="skip"), 0)
    assert len(splits.train) + len(splits.eval) == 4
    assert "skipped 1 bad rows of 5" in caplog.text


def test_empty_and_missing_data_are_errors(tmp_path: Path) -> None:
    for lines, problem in (
        ([], "has no rows"),
        (['{"prompt": "q", "chosen": "a", "rejected": "b"}'], "single prompt"),
    ):
        with pytest.raises(DataError, match=problem):
            load_preferences(PreferenceDataConfig(train=pairs_file(tmp_path, *lines)), 0)
    with pytest.raises(DataError, match="there is no file"):
        load_preferences(PreferenceDataConfig(train=str(tmp_path / "none.jsonl")), 0)


def test_columns_can_be_renamed_and_parquet_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "pairs.parquet"
    table = {"question": ["q1", "q2"], "win": ["a", "a"], "lose": ["b", "b"]}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    with pytest.raises(DataError, match=r"no column 'chosen'; it has question, win, lose.*data\.columns\.chosen="):
        load_preferences(PreferenceDataConfig(train=str(path)), 0)
    columns = {"prompt": "question", "chosen": "win", "rejected": "lose"}
    splits = load_preferences(PreferenceDataConfig(train=str(path), columns=columns), 0)
    assert len(splits.train) == len(splits.eval) == 1


def test_no_prompt_is_on_both_sides(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"q{n % 10}", "chosen": f"a{n}", "rejected": "b"}) for n in range(50)]
    name = pairs_file(tmp_path, *lines)
    splits = load_preferences(PreferenceDataConfig(train=name, eval_fraction=0.3), 1)
    sides = [{pair.messages[0]["content"] for pair in side} for side in (splits.train, splits.eval)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 3
    assert load_preferences(PreferenceDataConfig(train=name, eval_fraction=0.3), 1) == splits
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text(lines[0] + "\n")
    splits = load_preferences(PreferenceDataConfig(train=name, eval=str(held_out)), 1)
    assert (len(splits.train), len(splits.eval)) == (45, 1)
