"""Exact resume: with `train.deterministic` a run that was stopped has the bits of one that was not; Ray and vLLM are real."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from rlcs.checkpoint import find_damage, list_checkpoints
from rlcs.runlog import read_evaluations, read_metrics

STEPS = 6
CLASSES = {"engine": "EngineActor", "learner": "LearnerActor", "scorer": "ScoringActor"}
MEASURED = ("time", "system/", "sync/", "faults/", "checkpoint/", "scoring/seconds", "scoring/latency_")
"""Metrics that are times, of the machine, or of what went wrong; and those named below."""
SPEEDS = {"progress/seconds", "rollout/tokens_per_s", "learner/seconds", "learner/tokens_per_second"}
REWARD = '''
import random

def odd_but_for_luck(completions, **columns):
    """Right where the response has an odd number of bytes, and by luck."""
    return [float(len(c[0]["content"].encode()) % 2 or random.random() < 0.1) for c in completions]
'''
SETTINGS = [
    "model.init=null",
    "sft.enabled=false",
    "data.train_per_level=20",
    "data.eval_per_level=1",
    "curriculum.kind=dapo",
    "curriculum.leftover_age=1",
    "rollout.num_engines=2",
    "rollout.num_generations=4",
    "rollout.max_prompt_length=192",
    "rollout.max_completion_length=24",
    "rollout.thinking_budget=8",
    "learner.threads=1",
    "learner.num_minibatches=2",
    "reward.num_actors=1",
    "eval.num_samples=2",
    "train.deterministic=true",
    "train.batch_size=4",
    "train.eval_every=2",
    "logging.report=false",
]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlcs.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 600) -> str:
    try:
        output, _ = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return output


def train(folder: Path, name: str, policy: Path, reward: str, *settings: str) -> subprocess.Popen[str]:
    common = [f"output_dir={folder}", f"name={name}", f"model.path={policy}", f"reward.functions=[{reward}]"]
    return start("train", "configs/quickstart.yaml", *common, *SETTINGS, *settings)


def resume(run: Path) -> None:
    if (run / "summary.json").exists():  # it ended before the fault came
        return
    process = start("train", "--resume", run)
    output = finish(process)
    assert process.returncode == 0, output


def wait_for(run: Path, process: subprocess.Popen[str], lines: int) -> None:
    """Until so many iterations are done."""
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + 600
    while not (metrics.exists() and metrics.read_text().count("\n") >= lines):
        assert process.poll() is None and time.monotonic() < deadline, "no iteration was finished"
        time.sleep(0.01)


def actors_of(process: subprocess.Popen[str]) -> list[tuple[str, psutil.Process]]:
    """The run's actors, with the names of their classes."""
    found = []
    for member in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [(name, member) for name in CLASSES.values() if name in member.name()]
    return found


def wait_for_end(actors: list[tuple[str, psutil.Process]]) -> None:
    """The actors of a run whose driver was killed end by themselves; Ray's agents may take a minute longer."""
    _, alive = psutil.wait_procs([actor for _, actor in actors], timeout=60)
    assert not alive, f"left behind: {alive}"


def fingerprint(run: Path, steps: int) -> dict[str, Any]:
    """All of a finished run that must be equal."""
    newest = list_checkpoints(run)[-1]
    assert newest.name == f"step-{steps:06d}" and find_damage(newest) is None
    files = json.loads((newest / "manifest.json").read_text())["sha256"]
    del files["state.json"]  # holds seconds
    metrics = read_metrics(run)
    assert [line["step"] for line in metrics] == list(range(1, steps + 1))
    kept = [
        {name: value for name, value in line.items() if not name.startswith(MEASURED) and name not in SPEEDS}
        for line in metrics
    ]
    rollouts = [
        pq.read_table(
            run / "rollouts" / f"step-{step:06d}.parquet", columns=["prompt_id", "response", "reward", "kept"]
        )
        for step in range(1, steps + 1)
    ]
    return {
        "files": files,
        "generated_tokens": json.loads((newest / "state.json").read_text())["generated_tokens"],
        "metrics": kept,
        "evaluations": read_evaluations(run),
        "rollouts": [table.to_pylist() for table in rollouts],
    }


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for line, other in zip(found["metrics"], expected["metrics"], strict=True):
        assert line == other, f"iteration {line['step']} differs in {[n for n in line if line[n] != other.get(n)]}"
    for name in expected:
        assert found[name] == expected[name], name


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny_policy: Path) -> tuple[Path, str, dict[str, Any]]:
    """The folder of a run that was never stopped, its reward, and its fingerprint."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "odd.py").write_text(REWARD)
    reward = f"{folder / 'odd.py'}:odd_but_for_luck"
    process = train(folder, "straight", tiny_policy, reward, f"train.steps={STEPS}", "train.save_every=2")
    output = finish(process)
    assert process.returncode == 0, output
    return folder, reward, fingerprint(folder / "straight", STEPS)


@pytest.mark.timeout(900)
def test_a_run_whose_driver_is_killed_resumes_to_the_same_bits(
    straight: tuple[Path, str, dict[str, Any]], tiny_policy: Path
) -> None:
    folder, reward, expected = straight
    assert any(line["rollout/leftovers"] for line in expected["metrics"])  # there is something to forget
    assert any(row["reward"] > 0 for table in expected["rollouts"] for row in table)
    process = train(folder, "killed", tiny_policy, reward, f"train.steps={STEPS}", "train.save_every=2")
    wait_for(folder / "killed", process, 3)
    strike(process, "driver")
    resume(folder / "killed")
    assert_equal(fingerprint(folder / "killed", STEPS), expected)


FAULTS = ["stop", "driver", "engine", "driver", "learner", "scorer", "driver", "engine", "learner", "stop"]


def strike(process: subprocess.Popen[str], fault: str) -> None:
    """Do to a run what `fault` says."""
    actors = actors_of(process)
    if fault == "stop":
        os.killpg(process.pid, random.choice([signal.SIGINT, signal.SIGTERM]))
    elif fault == "driver":
        os.kill(process.pid, signal.SIGKILL)
    else:
        random.choice([actor for name, actor in actors if name == CLASSES[fault]]).kill()
    finish(process)
    wait_for_end(actors)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_faults_at_random_moments_change_no_bit(
    straight: tuple[Path, str, dict[str, Any]], tiny_policy: Path
) -> None:
    folder, reward, expected = straight
    seconds = read_metrics(folder / "straight")
    longest = seconds[-1]["time"] - seconds[0]["time"] + seconds[0]["time/total"]
    seed = random.randrange(10**6)
    random.seed(seed)
    print(f"seed {seed}; training takes {longest:.1f} s")
    for index, fault in enumerate(FAULTS):
        run = folder / f"fault-{index}"
        process = train(folder, run.name, tiny_policy, reward, f"train.steps={STEPS}", "train.save_every=2")
        while not list_checkpoints(run):
            assert process.poll() is None, finish(process)
            time.sleep(0.01)
        time.sleep(random.uniform(0, longest))
        strike(process, fault)
        done = len(read_metrics(run)) if (run / "metrics.jsonl").exists() else 0
        print(f"{fault} struck after iteration {done}")
        resume(run)
        assert_equal(fingerprint(run, STEPS), expected)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_whose_folder_is_gone_resumes_from_its_copy_to_the_same_bits(
    straight: tuple[Path, str, dict[str, Any]], tiny_policy: Path
) -> None:
    folder, reward, expected = straight
    run, copies = folder / "away", folder / "copies"
    settings = [f"train.steps={STEPS}", "train.save_every=2", f"train.checkpoint_url=file://{copies}"]
    process = train(folder, run.name, tiny_policy, reward, *settings)
    wait_for(run, process, 5)
    strike(process, "driver")
    shutil.rmtree(run)
    process = start("train", "--resume", f"file://{copies}/away")
    output = finish(process)
    assert process.returncode == 0, output
    files = json.loads((list_checkpoints(run)[-1] / "manifest.json").read_text())["sha256"]
    assert {name: files[name] for name in expected["files"]} == expected["files"]
    copied = {path.name for path in (copies / "away" / "checkpoints").iterdir()}
    assert copied >= {path.name for path in list_checkpoints(run)}
