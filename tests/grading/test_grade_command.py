"""What a mistake in `rlcs grade` gets: one line, before anything starts, and nothing written."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rlcs.config import Config, DataConfig
from rlcs.config_loading import load_config
from rlcs.curricula.grading import TierRule
from rlcs.data import load_splits
from rlcs.errors import ConfigError, DataError, RLCSError
from rlcs.evaluation import pass_at_k
from rlcs.grading.display import GradeDisplay, tier_table
from rlcs.grading.job import grade, pass_at_ks
from rlcs.grading.journal import Graded, Journal, journal_path
from rlcs.grading.plan import GradePlan, GradeRequest, fixed_settings, model_names, parse_edges, prepare

ROWS = [
    {"prompt": f"What is {i} + {i}?", "answer": str(2 * i), "domain": "ab"[i % 2], "level": ["easy", "", 4][i % 3]}
    for i in range(12)
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "run.yaml").write_text(
        f"model: {{init: tiny}}\ndata: {{train: {tmp_path / 'data.jsonl'}}}\n"
        "rollout: {max_prompt_length: 60, max_completion_length: 16}\n"
    )
    return load_config(tmp_path / "run.yaml")


@pytest.fixture
def request_of(config: Config, tiny_policy: Path, tmp_path: Path) -> Callable[..., GradeRequest]:
    """A request that is well, with some of it changed."""

    def make(**changes: Any) -> GradeRequest:
        request = GradeRequest(config, models=(str(tiny_policy),), samples=4, output=tmp_path / "g.parquet")
        return dataclasses.replace(request, **changes)

    return make


def display() -> GradeDisplay:
    return GradeDisplay(Console(width=120, quiet=True))


def saved(request: GradeRequest, correct: dict[int, list[int]]) -> None:
    """A journal of `request` with so many right responses of each model to the first prompts."""
    plan = prepared(dataclasses.replace(request, resume=True))
    journal = Journal.begin(plan.output, fixed_settings(plan))
    for model, counts in correct.items():
        for prompt, count in zip(plan.prompts, counts, strict=False):
            journal.append([Graded(model, prompt.id, count, count / plan.samples, 10)])
    journal.close()


def prepared(request: GradeRequest) -> GradePlan:
    return prepare(request, display())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ()}, ["--model"]),
        ({"models": ("/no/such/folder",)}, ["--model", "/no/such/folder"]),
        ({"data": "no-such.jsonl"}, ["--data", "no-such.jsonl"]),
        ({"output": Path("graded.jsonl")}, ["--output", ".parquet"]),
        ({"output": Path("/no/such/g.parquet")}, ["--output", "/no/such"]),
        ({"label": "levle"}, ["--label", "'levle'", "level"]),
        ({"label": "prompt"}, ["--label", "'prompt'", "must be 0 (very easy)"]),
        ({"resume": True}, ["nothing to resume"]),
        ({"resume": True, "overwrite": True}, ["either --resume"]),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(
    request_of: Callable[..., GradeRequest], tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RLCSError) as caught:
        grade(request_of(**changes), display())
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_given_twice_is_refused(request_of: Callable[..., GradeRequest], tiny_policy: Path) -> None:
    with pytest.raises(ConfigError, match="given twice"):
        prepared(request_of(models=(str(tiny_policy), f"{tiny_policy}/")))


def test_the_dataset_itself_is_no_output(request_of: Callable[..., GradeRequest], tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from pyarrow import Table

    data = tmp_path / "data.parquet"
    pq.write_table(Table.from_pylist([{"prompt": "1?", "answer": "1"}]), data)
    with pytest.raises(ConfigError, match="is the dataset that is graded"):
        prepared(request_of(data=str(data), output=data, overwrite=True))


def test_nothing_is_overwritten_unasked(request_of: Callable[..., GradeRequest], tmp_path: Path) -> None:
    (tmp_path / "g.parquet").write_text("mine")
    with pytest.raises(ConfigError, match="exists already: .* --overwrite"):
        prepared(request_of())
    prepared(request_of(overwrite=True))
    (tmp_path / "g.parquet").unlink()
    Journal.begin(tmp_path / "g.parquet", {}).close()
    with pytest.raises(ConfigError, match="--resume goes on, --overwrite begins anew"):
        prepared(request_of())
    prepared(request_of(resume=True))


def test_prompts_that_are_too_long_are_named(request_of: Callable[..., GradeRequest], config: Config) -> None:
    short = config.model_copy(update={"rollout": config.rollout.model_copy(update={"max_prompt_length": 5})})
    with pytest.raises(DataError, match="more than rollout.max_prompt_length"):
        prepared(request_of(config=short))


def test_labels_are_read_by_row(request_of: Callable[..., GradeRequest]) -> None:
    plan = prepared(request_of(label="level"))
    assert plan.labels is not None and plan.labels.tolist() == [1, -1, 4] * 4
    assert prepared(request_of()).labels is None


def test_nothing_is_held_out_of_a_grading(request_of: Callable[..., GradeRequest], tmp_path: Path) -> None:
    assert len(prepared(request_of()).prompts) == len(ROWS)
    (tmp_path / "other.csv").write_text("prompt,answer\n1?,1\n2?,2\n1?,1\n")
    assert len(prepared(request_of(data=str(tmp_path / "other.csv"))).prompts) == 2


def test_what_changes_the_responses_changes_the_settings_and_what_does_not_does_not(
    request_of: Callable[..., GradeRequest], config: Config, tmp_path: Path
) -> None:
    def settings(**changes: Any) -> dict[str, Any]:
        return fixed_settings(prepared(request_of(**changes)))

    first = settings()
    assert first == settings(label="level", rule=TierRule((0.9, 0.8, 0.7, 0.6)), chunk=1)
    more = config.rollout.model_copy(update={"num_engines": 1, "max_num_seqs": 7})
    assert first == settings(config=config.model_copy(update={"rollout": more}))
    assert first != settings(samples=5)
    hot = config.rollout.model_copy(update={"temperature": 0.3})
    assert first != settings(config=config.model_copy(update={"rollout": hot}))
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    assert first != settings()


def test_going_on_with_other_settings_is_refused_and_loses_nothing(
    request_of: Callable[..., GradeRequest], config: Config, tmp_path: Path
) -> None:
    saved(request_of(), {0: [1, 2, 3]})
    content = journal_path(tmp_path / "g.parquet").read_bytes()
    hot = config.model_copy(update={"rollout": config.rollout.model_copy(update={"temperature": 0.5})})
    with pytest.raises(ConfigError, match=r"another rollout\.temperature \(1\.0, now 0\.5\)"):
        grade(request_of(config=hot, resume=True), display())
    with pytest.raises(ConfigError, match="another number of samples"):
        grade(request_of(samples=5, resume=True), display())
    assert journal_path(tmp_path / "g.parquet").read_bytes() == content


def test_two_models_and_a_label_are_merged_into_the_dataset(
    request_of: Callable[..., GradeRequest], tiny_policy: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_policy, tmp_path / "second")
    rule = TierRule((0.8, 0.6, 0.4, 0.2), label_weight=0.5)
    models = (str(tiny_policy), str(tmp_path / "second"))
    request = request_of(models=models, resume=True, label="level", rule=rule)
    saved(request, {0: [4] * 12, 1: [4, 4, 4, 2, 2, 2, 0, 0, 0, 0, 0, 0]})
    recorded = GradeDisplay(Console(width=200, record=True, file=StringIO()))
    assert grade(request, recorded) == tmp_path / "g.parquet"
    splits = load_splits(DataConfig(train=str(tmp_path / "g.parquet"), eval_fraction=0.0), seed=0)
    # Difficulties 0, 1/4, 1/2 and labels `easy` (0.3), none, `very hard` (0.9), half and half.
    assert [prompt.tier for prompt in splits.train] == [0, 0, 2, 1, 1, 2] + [1, 2, 3] * 2
    assert [prompt.metadata["pass_rate"] for prompt in splits.train] == [1.0] * 3 + [0.75] * 3 + [0.5] * 6
    assert splits.train[6].metadata["pass_rate_second"] == 0.0
    assert not journal_path(tmp_path / "g.parquet").exists()
    printed = recorded.console.export_text()
    assert "very hard" in printed and f"data.train={tmp_path / 'g.parquet'}" in printed


def test_names_of_models_are_short_and_different() -> None:
    assert model_names(["org/Model-7B", "/a/b/policy"]) == ["Model-7B", "policy"]
    assert model_names(["/r/step-1/policy", "/r/step-2/policy/"]) == ["step-1_policy", "step-2_policy"]
    assert model_names(["a b/x", "a_b/x"]) == ["a_b_x_1", "a_b_x_2"]


def test_edges_are_quantile_or_pass_rates() -> None:
    assert parse_edges("quantile") is None
    assert parse_edges("0.8, 0.6,0.4,0.2") == (0.8, 0.6, 0.4, 0.2)
    with pytest.raises(ConfigError, match="--edges"):
        parse_edges("0.8;0.2")


def test_pass_at_k_is_the_mean_over_models() -> None:
    correct = np.array([[0, 3, 6], [6, 2, 6]])
    values = pass_at_ks(correct, 6)
    assert list(values) == ["pass_at_1", "pass_at_2", "pass_at_4", "pass_at_6"]
    assert values["pass_at_1"] == pytest.approx(correct.mean(axis=0) / 6)
    for k in (2, 4, 6):
        expected = [np.mean([pass_at_k(6, int(c), k) for c in column]) for column in correct.T]
        assert values[f"pass_at_{k}"] == pytest.approx(expected)


@given(num_samples=st.integers(1, 24), rate=st.floats(0, 1))
def test_pass_at_k_is_unbiased_for_every_pass_rate(num_samples: int, rate: float) -> None:
    counts = np.arange(num_samples + 1)
    chances = [math.comb(num_samples, c) * rate**c * (1 - rate) ** (num_samples - c) for c in counts.tolist()]
    for name, values in pass_at_ks(counts[None], num_samples).items():
        k = int(name.removeprefix("pass_at_"))
        assert np.dot(chances, values) == pytest.approx(1 - (1 - rate) ** k, abs=1e-9)
        assert values[0] == 0 and values[-1] == 1 and (np.diff(values) >= 0).all()


def test_the_table_counts_prompts_by_domain_and_tier() -> None:
    console = Console(width=140, record=True, file=StringIO())
    rates = np.array([0.9, 0.5, 0.1, 0.5])
    console.print(tier_table(["a", "b", "b", "b"], np.array([0, 2, 4, 2], np.int8), {"pass rate": rates}))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]
    assert ["a", "1", "1", "0", "0", "0", "0", "90.0 %"] in cells
    assert ["b", "3", "0", "0", "2", "0", "1", "36.7 %"] in cells
    assert ["all", "4", "1", "0", "2", "0", "1", "50.0 %"] in cells


def test_the_command_line_tells_of_a_mistake_in_one_line(
    config: Config, run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    result = run_cli("grade", tmp_path / "run.yaml", "--edges", "0.2,0.4,0.6,0.8", cwd=tmp_path)
    assert result.code == 2 and "must fall" in result.stderr and "Traceback" not in result.stderr
    assert len(list(tmp_path.iterdir())) == 2
