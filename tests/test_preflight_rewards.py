"""Checks of the rewards before a run starts: settings, references, functions, the judge."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlcs.config import Config
from rlcs.data import DataSplits, load_splits
from rlcs.errors import ConfigError, DataError, RewardError, RLCSError
from rlcs.preflight import check_before_start
from rlcs.preflight_rewards import check_rewards
from tests.rewards.scripted_server import serving, verdict

ROWS = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n), "domain": "sums"} for n in range(8)]
OPEN_ROW = {"prompt": "What is on the table?", "answer": "a red cup", "domain": "open"}
BAD_ROW = {"prompt": "What is 1 / 0?", "answer": "1/0", "domain": "sums"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "train.jsonl", [*ROWS, OPEN_ROW])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(data: Path, reward: dict[str, Any], **settings: Any) -> Config:
    return Config(model={"init": "tiny"}, data={"train": str(data), "eval_fraction": 0, **settings}, reward=reward)


def check(config: Config) -> DataSplits:
    return check_rewards(config, "math", load_splits(config.data, 0))


def refusal(config: Config, kind: type[RLCSError]) -> str:
    with pytest.raises(kind) as caught:
        check(config)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


# References that cannot be used


def test_a_bad_reference_is_refused_with_its_file_and_row(data: Path) -> None:
    message = refusal(config_of(write(data, [*ROWS[:2], BAD_ROW, *ROWS[2:]]), {}), DataError)
    assert message.startswith(f"{data}, line 3 (data.on_bad_row=skip leaves such rows out): reward 'math' cannot use")


def test_a_bad_reference_is_skipped_where_bad_rows_are(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS[:2], BAD_ROW, {"prompt": 3}, *ROWS[2:], {**BAD_ROW, "answer": "nan"}]
    with caplog.at_level(logging.WARNING, logger="rlcs.preflight_rewards"):
        kept = check(config_of(write(data, rows), {}, on_bad_row="skip"))
    assert [prompt.answer for prompt in kept.train] == [row["answer"] for row in ROWS]
    first, second = [record.message for record in caplog.records if record.name == "rlcs.preflight_rewards"]
    assert first.startswith(f"{data}, line 3: skipped: reward 'math' cannot use the reference") and "1/0" in first
    assert second.startswith(f"{data}, line 11: skipped")


def test_held_out_references_are_skipped_too(data: Path, tmp_path: Path) -> None:
    held_out = write(tmp_path / "eval.jsonl", [{"prompt": "a?", "answer": "1"}, {"prompt": "b?", "answer": "nan"}])
    kept = check(config_of(write(data, ROWS), {}, eval=str(held_out), on_bad_row="skip"))
    assert [prompt.answer for prompt in kept.eval] == ["1"] and len(kept.train) == len(ROWS)


def test_data_of_bad_references_alone_is_refused(data: Path) -> None:
    message = refusal(config_of(write(data, [BAD_ROW]), {}, on_bad_row="skip"), DataError)
    assert "no training prompt has a reference that can be used" in message


def test_a_reference_is_shown_only_to_the_rewards_of_its_domain(data: Path) -> None:
    config = config_of(data, {"domains": {"sums": {"functions": ["math"]}, "open": {"functions": ["style"]}}})
    assert len(check(config).train) == len(ROWS) + 1


# Settings


@pytest.mark.parametrize(
    ("reward", "kind", "words"),
    [
        ({"domains": {"sum": {}}}, ConfigError, ["reward.domains.sum", "did you mean 'sums'"]),
        ({"functions": ["mth"]}, RewardError, ["mth", "math"]),
        ({"options": {"math": {"timeouts": 1}}}, RewardError, ["'math'", "'timeouts'", "timeout_s"]),
        ({"options": {"chart": {}}}, ConfigError, ["reward.options", "'chart'"]),
        ({"style": {"weights": {"boxes": 1}}}, RewardError, ["style", "'boxes'", "'box'"]),
        ({"domains": {"open": {"style": {"windw": 9}}}}, RewardError, ["style", "'windw'", "'window'"]),
        ({"options": {"math": {"extract": {"fallback": []}}}}, RewardError, ["'extract'", "fallbacks"]),
        ({"options": {"math": {"extract": {"fallbacks": ["box"]}}}}, RewardError, ["fallbacks", "'box'", "'boxed'"]),
        ({"functions": ["judge"]}, ConfigError, ["reward.judge.base_url"]),
        ({"functions": ["reward_model"]}, ConfigError, ["reward.model.path"]),
        (
            {"functions": ["reward_model"], "model": {"path": "/no/such"}},
            RewardError,
            ["reward.model.path", "/no/such"],
        ),
    ],
)
def test_wrong_settings_are_one_clear_line(
    data: Path, reward: dict[str, Any], kind: type[RLCSError], words: list[str]
) -> None:
    message = refusal(config_of(write(data, ROWS + [OPEN_ROW | {"answer": "3"}]), reward), kind)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("reward.domains={sum: {functions: [math]}}", ["reward.domains.sum", "sums"]),
        ("reward.domains={sums: {functions: [math], weights: [1, 2]}}", ["reward.domains.sums.weights", "2 entries"]),
        ("reward.domains={sums: {functions: [math], options: {math: {timeout: 1}}}}", ["'timeout'", "timeout_s"]),
    ],
)
def test_the_command_line_tells_it_before_anything_starts(
    run_cli: Callable[..., Any], tmp_path: Path, data: Path, override: str, words: list[str]
) -> None:
    write(data, ROWS)
    config = tmp_path / "run.yaml"
    config.write_text(f"name: run\noutput_dir: {tmp_path / 'runs'}\nmodel: {{init: tiny}}\ndata: {{train: {data}}}\n")
    result = run_cli("train", config, override)
    assert result.code == 2 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("rlcs: error:")]
    for word in words:
        assert word in line
    assert not (tmp_path / "runs" / "run").exists()


# The judge and the reward model


def test_a_judge_that_is_used_must_answer(data: Path) -> None:
    judge = {"base_url": "http://127.0.0.1:9/v1", "model": "judge", "max_retries": 0, "timeout_s": 2}
    domains = {"open": {"functions": ["judge"]}}
    assert "127.0.0.1:9" in refusal(config_of(data, {"judge": judge, "domains": domains}), RewardError)
    check(config_of(write(data, ROWS), {"judge": judge}))  # math asks no judge
    with serving(verdict("right")) as server:
        check(
            config_of(write(data, [*ROWS, OPEN_ROW]), {"judge": judge | {"base_url": server.url}, "domains": domains})
        )
        assert not server.bodies, "nothing is judged yet"


def test_the_reward_models_gpu_counts(data: Path) -> None:
    reward = {"model": {"path": "some/model", "num_gpus": 1}, "domains": {"open": {"functions": ["reward_model"]}}}
    config = config_of(data, reward)
    check_before_start(config, num_cpus=1, num_gpus=1)
    with pytest.raises(ConfigError, match=r"need 1 GPUs \(1 engines x 0, learner 0, reward model 1\)"):
        check_before_start(config, num_cpus=1, num_gpus=0)
