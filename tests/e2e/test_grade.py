"""`rlcs grade` as a user runs it: two models, Ctrl-C, `--resume`; Ray and vLLM are real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlcs.config import DataConfig
from rlcs.data import load_splits
from rlcs.grading.journal import journal_path

NUM_PROMPTS, SAMPLES, CHUNK = 45, 4, 3

REWARD = '''"""Right if the response has an even number of characters: true of some responses of any policy."""


def even(prompts, completions, **columns):
    return [float(len(completion[0]["content"]) % 2 == 0) for completion in completions]
'''


def test_a_stopped_grading_goes_on_and_gives_a_dataset_with_tiers(
    tiny_policy: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    rows = [{"question": f"What is {i} + {i}?", "answer": 2 * i, "source": "made"} for i in range(NUM_PROMPTS)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "even.py").write_text(REWARD)
    (tmp_path / "run.yaml").write_text(
        "model: {init: tiny}\ndata: {train: none.jsonl, columns: {prompt: question}}\n"
        "rollout: {max_prompt_length: 100, max_completion_length: 12}\nreward: {functions: [even.py:even]}\n"
    )
    shutil.copytree(tiny_policy, tmp_path / "second")
    output = tmp_path / "graded.parquet"
    models = ["--model", str(tiny_policy), "--model", "second"]
    arguments = ["grade", "run.yaml", "--data", "sums.jsonl", *models, "--output", "graded.parquet"]
    arguments += ["--samples", str(SAMPLES), "--chunk", str(CHUNK)]

    stdout, records = stopped_at_two_chunks(arguments, tmp_path)
    assert 2 * CHUNK <= records < NUM_PROMPTS and records % CHUNK == 0
    assert f"{records} of {2 * NUM_PROMPTS} prompts are graded" in stdout
    command = re.search(r"Go on with:  rlcs (.*)", stdout)
    assert command is not None and command[1].split() == [*arguments, "--resume"]
    assert not output.exists()

    result = run_cli(*command[1].split(), cwd=tmp_path)
    assert result.code == 0, result.stdout + result.stderr
    assert "very hard" in result.stdout and f"{NUM_PROMPTS} rows" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "even.py", "graded.parquet", "run.yaml", "second", "sums.jsonl"
    ]  # fmt: skip

    graded = pq.read_table(output).to_pylist()
    assert [{name: row[name] for name in rows[0]} for row in graded] == rows
    for row in graded:
        of_models = [row[f"pass_rate_{name}"] for name in (tiny_policy.name, "second")]
        assert all(rate * SAMPLES == int(rate * SAMPLES) for rate in of_models)
        assert row["pass_rate"] == row["pass_at_1"] == pytest.approx(sum(of_models) / 2)
        assert row["pass_at_1"] <= row["pass_at_2"] <= row["pass_at_4"]
    assert len({row["pass_rate"] for row in graded}) > 2
    config = DataConfig(train=str(output), columns={"prompt": "question"}, eval_fraction=0.0)
    assert [prompt.tier for prompt in load_splits(config, seed=0).train] == [row["tier"] for row in graded]


def stopped_at_two_chunks(arguments: list[str], folder: Path) -> tuple[str, int]:
    """Start the command, press Ctrl-C when two chunks are saved; what it printed, and how many prompts are saved."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rlcs.cli", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    journal = journal_path(folder / "graded.parquet")
    try:
        deadline = time.monotonic() + 150
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 2 * CHUNK):
            assert process.poll() is None and time.monotonic() < deadline, "no chunk was saved"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Ray's processes as well
        stdout, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, stdout
    return stdout, len(journal.read_text().splitlines()) - 1
