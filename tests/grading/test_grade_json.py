"""What Parquet has no common type for survives a grading: mappings of rows, items of an environment with their verifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.config import DataConfig, TaskConfig
from rlcs.data import load_splits
from rlcs.data_files import BadRow, open_rows
from rlcs.envs.base import build_splits, load_env
from rlcs.grading.dataset import PREVIOUS_TIER, dataset_source, prompts_source, write_graded
from rlcs.rewards.loading import load_reward


def test_mappings_and_columns_of_several_types_are_read_as_they_were(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1?", "answer": 1, "tests": [{"input": [1], "output": None}], "extra": {"a": 1.5}, "mixed": "x"},
        {"prompt": "2?", "answer": 1.0, "tests": [{"input": "2"}], "extra": {"b": {}}, "mixed": [1, "x"]},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "3?"}]}], "answer": "x", "mixed": 2**70},
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig(train=str(path), eval_fraction=0.0)
    before = load_splits(config, seed=0).train
    row_of = {prompt.id: row for row, prompt in enumerate(before)}
    write_graded(dataset_source(config), row_of, {"tier": np.array([4, 2, 0], np.int8)}, tmp_path / "g.parquet", {})
    after = load_splits(config.model_copy(update={"train": str(tmp_path / "g.parquet")}), seed=0).train
    assert [prompt.tier for prompt in after] == [4, 2, 0]
    for old, new in zip(before, after, strict=True):
        assert (new.id, new.messages, new.answer) == (old.id, old.messages, old.answer)
        assert {key: value for key, value in new.metadata.items() if value is not None} == old.metadata
    # Graded once more, from Parquet.
    config = DataConfig(train=str(tmp_path / "g.parquet"), eval_fraction=0.0)
    write_graded(dataset_source(config), row_of, {"tier": np.array([1, 1, 1], np.int8)}, tmp_path / "h.parquet", {})
    again = load_splits(DataConfig(train=str(tmp_path / "h.parquet"), eval_fraction=0.0), seed=0).train
    assert [prompt.metadata["tests"] for prompt in again] == [prompt.metadata.get("tests") for prompt in after]


def test_the_verifier_of_an_environment_works_on_graded_prompts(tmp_path: Path) -> None:
    tasks = [TaskConfig(task=name) for name in ("gcd", "count_primes", "letter_counting", "spell_backward")]
    made = DataConfig(
        env="reasoning_gym", tasks=tasks, train_per_level=3, eval_per_level=1, system_prompt="Answer in a box."
    )
    env = load_env("reasoning_gym")
    before = build_splits(env, made, seed=0).train
    row_of = {prompt.id: row for row, prompt in enumerate(before)}
    tiers = (np.arange(len(before)) % 5).astype(np.int8)
    write_graded(prompts_source(before, made.system_prompt), row_of, {"tier": tiers}, tmp_path / "g.parquet", {})
    config = DataConfig(train=str(tmp_path / "g.parquet"), eval_fraction=0.0, system_prompt=made.system_prompt)
    after = load_splits(config, seed=0).train
    reward = load_reward("reasoning_gym")
    for old, new, tier in zip(before, after, tiers.tolist(), strict=True):
        assert (new.id, new.messages, new.answer, new.domain) == (old.id, old.messages, old.answer, old.domain)
        assert new.tier == tier and new.metadata.pop(PREVIOUS_TIER) == old.tier
        assert new.metadata == old.metadata
        assert reward.validate(new) is None
    reward.close()


def test_a_json_column_with_a_damaged_value_spoils_its_row_only(tmp_path: Path) -> None:
    texts = pa.array(['{"x": 1}', "{", None], pa.string())
    table = pa.table({"extra": pa.ExtensionArray.from_storage(pa.json_(), texts)})
    pq.write_table(table, tmp_path / "d.parquet")
    first, second, third = open_rows(str(tmp_path / "d.parquet"), "data.train", split="train").rows
    assert first.values == {"extra": {"x": 1}} and third.values == {"extra": None}  # type: ignore[union-attr]
    assert isinstance(second, BadRow) and second.number == 2 and "extra is not JSON" in second.reason
