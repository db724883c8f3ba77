"""The whole thing, as a user runs it: `rlcs train`, Ctrl-C, `--resume`, `rlcs eval`; Ray and vLLM are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlcs.checkpoint import find_damage, list_checkpoints
from rlcs.runlog import read_actors, read_evaluations, read_metrics, read_prompts

SMALL = [
    "data.train_per_level=30",
    "data.eval_per_level=2",
    "sft.steps=40",
    "sft.batch_size=4",
    "sft.num_solutions=1500",
    "rollout.num_engines=1",
    "eval.num_samples=2",
    "train.batch_size=8",
    "rollout.num_generations=4",
]


def rlcs(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rlcs.cli", *arguments]


SECRETS = {name: f"hunter2-{name}" for name in ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY")}
"""In the environment of every command here."""


def run(*arguments: str, code: int = 0) -> str:
    environment = {**os.environ, **SECRETS}
    result = subprocess.run(rlcs(*arguments), capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run of three iterations from nothing, and what it printed."""
    folder = tmp_path_factory.mktemp("runs")
    config = str(Path("configs/quickstart.yaml").absolute())
    output = run("train", config, f"output_dir={folder}", "name=small", "train.steps=3", *SMALL)
    return folder / "small", output


def test_a_run_writes_its_folder(finished: tuple[Path, str]) -> None:
    folder, output = finished
    metrics = read_metrics(folder)
    assert [line["step"] for line in metrics] == [1, 2, 3]
    for line in metrics:
        assert line["time/generate"] > 0
        assert line["time/learn"] > 0
        assert line["learner/optimizer_steps"] == 1
    rows = pq.read_table(folder / "rollouts" / "step-000003.parquet").to_pylist()
    assert len(rows) == metrics[-1]["rollout/groups"] * 4
    assert {row["policy_version"] for row in rows} == {2}
    assert sum(row["kept"] for row in rows) == 8 * 4
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finished"] and summary["steps"] == 3
    assert "Held-out accuracy" in output and "letter_counting" in output
    assert {row.step for row in read_evaluations(folder)} == {0, 3}


def test_no_secret_of_the_environment_is_in_the_folder_or_printed(finished: tuple[Path, str]) -> None:
    folder, output = finished
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20 and any(path.suffix == ".html" for path in files)
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []
    assert "hunter2" not in output


def test_actors_verifiers_and_prompts_are_written_down(finished: tuple[Path, str]) -> None:
    folder = finished[0]
    snapshot = read_actors(folder)
    assert snapshot is not None and set(snapshot.queues) == {"rollouts", "scoring"}
    assert {"engine-0", "scorer-0", "learner-0"} <= {actor.name for actor in snapshot.actors}
    assert all(actor.restarts == 0 and actor.state != "dead" for actor in snapshot.actors)
    last = read_metrics(folder)[-1]
    assert last["scoring/latency_p95_ms/reasoning_gym"] > 0 and last["scoring/errors/reasoning_gym"] == 0
    states = ("never", "wrong", "between", "mastered", "forgotten")
    assert sum(last[f"curriculum/prompts/{state}"] for state in states) == read_prompts(folder).num_rows


def test_the_engines_sample_from_the_learners_policy_after_every_sync(finished: tuple[Path, str]) -> None:
    for line in read_metrics(finished[0]):
        assert line["learner/logprob_gap_mean"] <= 1e-4


def test_a_checkpoint_is_an_ordinary_model_folder(finished: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    newest = list_checkpoints(finished[0])[-1]
    assert newest.name == "step-000003" and find_damage(newest) is None
    tokenizer = AutoTokenizer.from_pretrained(newest / "policy")
    model = AutoModelForCausalLM.from_pretrained(newest / "policy")
    assert model.config.vocab_size >= len(tokenizer)
    assert len(tokenizer.encode("<think></think><|begin_of_box|>", add_special_tokens=False)) == 3


def test_eval_prints_the_table_of_a_run(finished: tuple[Path, str]) -> None:
    output = run("eval", str(finished[0]), "--num-samples", "3")
    assert "pass@3" in output and "letter_counting" in output


def test_eval_draws_a_curve_over_thinking_budgets(finished: tuple[Path, str]) -> None:
    output = run("eval", str(finished[0]), "--json", "--thinking-budget", "60", "--thinking-budget", "2")
    short, long = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    assert short["thinking_budget"] == 2 and long["thinking_budget"] == 60
    assert short["forced"] > 0.9 > 0.5 > long["forced"]
    assert short["mean_tokens"] < long["mean_tokens"] or short["forced"] == long["forced"]


def test_a_run_folder_that_exists_is_refused_untouched(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = sorted(path.name for path in folder.iterdir())
    config = str(Path("configs/quickstart.yaml").absolute())
    output = run("train", config, f"output_dir={folder.parent}", "name=small", code=2)
    assert output.count("rlcs: error:") == 1 and "--resume" in output
    assert sorted(path.name for path in folder.iterdir()) == before


def test_weight_syncs_are_measured(finished: tuple[Path, str]) -> None:
    assert "weights go to the engines by object_store" in finished[1]
    for line in read_metrics(finished[0]):
        assert line["sync/bytes"] > 1e6 and line["sync/gb_per_s"] > 0
        assert line["rollout/staleness_max"] == 0


def test_rollouts_made_ahead_of_the_update_survive_ctrl_c_and_resume(finished: tuple[Path, str]) -> None:
    folder = finished[0].parent
    policy = finished[0] / "policy-sft"
    config = str(Path("configs/quickstart.yaml").absolute())
    arguments = [
        "model.init=null",
        f"model.path={policy}",
        "sft.enabled=false",
        "train.steps=8",
        "train.save_every=6",
        "rollout.max_staleness=1",
        "learner.num_ranks=2",
        "rollout.thinking_budget=6",
        *SMALL,
    ]
    process = subprocess.Popen(
        rlcs("train", config, f"output_dir={folder}", "name=stopped", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        metrics = folder / "stopped" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
            assert process.poll() is None and time.monotonic() < deadline, "no iteration was finished"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Ray's processes as well
        output, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert f"rlcs train --resume {folder / 'stopped'}" in output
    stopped_at = len(read_metrics(folder / "stopped"))
    assert 2 <= stopped_at < 8
    assert list_checkpoints(folder / "stopped")[-1].name == f"step-{stopped_at:06d}"

    output = run("train", "--resume", str(folder / "stopped"))
    lines = read_metrics(folder / "stopped")
    assert [line["step"] for line in lines] == list(range(1, 9))
    # The learner has two ranks here, before and after.
    assert all(line["learner/rank_spread"] < 1 for line in lines)
    assert "Held-out accuracy" in output
    # Nothing is made ahead over a checkpoint: the first round after one is of the policy that it holds.
    fresh = {1, stopped_at + 1, 7}
    assert {line["step"] for line in lines if line["rollout/staleness_max"] == 0} == fresh
    assert {line["rollout/staleness_max"] for line in lines if line["step"] not in fresh} == {1}
    assert all(line["learner/logprob_gap_mean"] <= 1e-4 for line in lines if line["step"] in fresh)
    for step in (stopped_at + 1, 8):
        rows = pq.read_table(folder / "stopped" / "rollouts" / f"step-{step:06d}.parquet")
        sampled_by = step - 1 if step in fresh else step - 2
        assert set(rows.column("policy_version").to_pylist()) == {sampled_by}
    assert all(line["time/wait"] >= 0 and line["learner/skipped_steps"] == 0 for line in lines)
    assert all(line["rollout/forced"] > 0 for line in lines)  # inserted tokens, of which nothing is learned


def test_lora_trains_syncs_only_the_adapter_goes_on_and_merges(finished: tuple[Path, str]) -> None:
    folder, policy = finished[0].parent, finished[0] / "policy-sft"
    config = str(Path("configs/quickstart.yaml").absolute())
    common = ["model.init=null", "sft.enabled=false", "learner.learning_rate=1e-3", *SMALL]
    first = [f"model.path={policy}", "model.lora.r=8", "model.lora.engine_mode=adapter", "learner.beta=0.01"]
    run("train", config, f"output_dir={folder}", "name=lora", "train.steps=3", *first, *common)
    adapter = list_checkpoints(folder / "lora")[-1] / "policy"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in adapter.iterdir()}
    assert not (adapter / "config.json").exists()
    assert read_metrics(folder / "lora")[-1]["learner/kl_reference"] > 0

    # From the adapter's folder, with nothing said of LoRA; on a CPU engines then merge each version.
    run("train", config, f"output_dir={folder}", "name=lora2", "train.steps=3", f"model.path={adapter}", *common)
    for name in ("lora", "lora2"):
        for line in read_metrics(folder / name):
            assert line["learner/logprob_gap_mean"] <= 1e-4 and line["learner/optimizer_steps"] == 1
    assert "pass@1" in run("eval", str(folder / "lora2"), "--num-samples", "1")

    output = run("merge", str(folder / "lora2"), "-o", str(folder / "merged"))
    assert str(folder / "merged") in output and not (folder / "merged" / "adapter_config.json").exists()
