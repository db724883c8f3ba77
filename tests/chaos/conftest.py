"""True runs into which faults are injected from outside, and what must hold of them afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from rlcs.checkpoint import latest_checkpoint, list_checkpoints, load_arrays
from rlcs.curricula.coverage import Coverage
from rlcs.runlog import read_actors, read_faults, read_metrics, read_prompts, step_files
from rlcs.vitals import ActorState

ROOT = Path(__file__).resolve().parent.parent.parent
POISON_TOKENS = 60
"""Prompts of more tokens than this kill the engine that takes them (`POISONED`)."""

REWARD = '''
import os, random, time

def odd(completions, **columns):
    """Right where a response has an odd number of bytes; now and then it raises, or hangs."""
    draw = random.Random(os.urandom(8)).random()
    if draw < {raises}:
        raise RuntimeError("a fault of the reward")
    if draw < {raises} + {hangs}:
        time.sleep(1000)
    return [float(len(completion[0]["content"].encode()) % 2) for completion in completions]
'''

# Python runs this as it starts, in every worker: an engine that takes a long prompt ends like one that crashed.
POISONED = f"""
import importlib.abc, importlib.util, os, sys, time

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "rlcs.rollout.engine":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            generate = module.Engine.generate
            def poisoned(self, prompts, counts, settings, take, *rest, **named):
                def taking(most):
                    while os.path.exists(os.environ["RLCS_TEST_SLOW"]):
                        time.sleep(0.1)
                    taken = take(most)
                    if any(len(prompts[index]) > {POISON_TOKENS} for index in taken):
                        os.kill(os.getpid(), 9)
                    return taken
                return generate(self, prompts, counts, settings, taking, *rest, **named)
            module.Engine.generate = poisoned
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@dataclass
class Injected:
    """A fault, and how long its actor was away."""

    kind: str
    who: str
    recovery_s: float | None = None


@dataclass
class Injector:
    """Kills and stops actors of a run at random moments from a thread; it waits for each to be back, but not for ever."""

    run: Path
    kinds: list[str]
    """`kill engine`, `stop engine`, `kill scoring`, `stop scoring`, `kill learner`, `stop learner`, `kill worker`."""
    seed: int
    pause_s: tuple[float, float] = (0.2, 2.0)
    wait_s: float = 120.0
    """How long the next fault waits for the last one's end."""
    after_checkpoint: bool = False
    """Whether the first fault waits for a checkpoint."""
    patience_s: float = 600.0
    watchers: list[threading.Thread] = field(default_factory=list)
    hit: set[int] = field(default_factory=set)
    done: list[Injected] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        rng = random.Random(self.seed)
        for kind in self.kinds:
            while not self.stop.wait(rng.uniform(*self.pause_s)):
                if self._inject(kind, rng):
                    break
        for watcher in self.watchers:
            watcher.join(self.patience_s)

    def _inject(self, kind: str, rng: random.Random) -> bool:
        if kind in ("kill head", "kill queue"):
            return self._kill(kind, {"kill head": "gcs_server", "kill queue": "ray::WorkQueue"}[kind])
        action, what = kind.split()
        role = {"engine": "rollouts", "worker": "scoring"}.get(what, what)
        snapshot = read_actors(self.run)
        if snapshot is None or not (self.run / "metrics.jsonl").exists():
            return False
        if self.after_checkpoint and not list_checkpoints(self.run):
            return False
        actors = [actor for actor in snapshot.actors if actor.role == role and actor.pid is not None]
        actors = [actor for actor in actors if actor.state != "dead" and actor.pid not in self.hit]
        if not actors:
            return False
        actor = rng.choice(actors)
        pid = actor.pid
        if what == "worker":
            try:
                workers = [child.pid for child in psutil.Process(pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                return False
            if not workers:
                return False
            pid = rng.choice(workers)
        begun = time.monotonic()
        try:
            os.kill(pid, signal.SIGSTOP if action == "stop" else signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.hit.add(pid)
        injected = Injected(kind, actor.name)
        self.done.append(injected)
        if what == "worker":
            return True
        watcher = threading.Thread(target=self._watch, args=(injected, pid, begun), daemon=True)
        watcher.start()
        self.watchers.append(watcher)
        watcher.join(self.wait_s)
        return True

    def _watch(self, injected: Injected, pid: int, begun: float) -> None:
        """Wait until another process stands in for the one that failed, and does its work."""
        seen = None
        while time.monotonic() - begun < self.patience_s and not self.stop.wait(0.1):
            snapshot = read_actors(self.run)
            for actor in snapshot.actors if snapshot is not None else ():
                if actor.name == injected.who and actor.pid not in (None, pid) and actor.state != "dead":
                    seen = seen or time.time()
                    if self._works(actor, seen):
                        injected.recovery_s = time.monotonic() - begun
                        return

    def _works(self, actor: ActorState, since: float) -> bool:
        """Whether an engine has weights, or a learner that is there `since` then has made an update."""
        if actor.role == "learner":
            lines = read_metrics(self.run)
            return bool(lines) and lines[-1]["time"] > since
        return actor.role != "rollouts" or actor.version is not None

    def _kill(self, kind: str, name: str) -> bool:
        """Kill a process of the run that is no watched actor, by the beginning of its command line."""
        snapshot = read_actors(self.run)
        if snapshot is None or not (self.run / "metrics.jsonl").exists():
            return False
        try:
            pid = next(actor.pid for actor in snapshot.actors if actor.pid is not None)
            driver = psutil.Process(pid).parents()[1]  # the actor's raylet, and who started that
            for child in driver.children(recursive=True):
                if name in child.cmdline()[0] and child.pid not in self.hit:
                    child.kill()
                    self.hit.add(child.pid)
                    self.done.append(Injected(kind, name))
                    return True
        except (psutil.NoSuchProcess, IndexError):
            pass
        return False


@dataclass
class Outcome:
    """A run that was tried, and what was done to it."""

    run: Path
    output: str
    code: int
    injected: list[Injected]
    orphans: list[str]
    shared_memory: list[str]
    seconds: float
    terminated: float | None = None
    """When it got a SIGTERM, in seconds since 1970."""

    def report(self) -> dict[str, Any]:
        """Figures for docs/reliability.md."""
        metrics, by_kind = read_metrics(self.run), Counter(each.kind for each in self.injected)
        events = ("scoring/retries", "scoring/crashes", "scoring/timeouts")
        report: dict[str, Any] = {"seconds": round(self.seconds), "iterations": metrics[-1]["step"]}
        for kind, count in sorted(by_kind.items()):
            seconds = [e.recovery_s for e in self.injected if e.kind == kind and e.recovery_s is not None]
            report[kind] = {"injected": count, "recovered": len(seconds)}
            if seconds:
                report[kind] |= {"median_s": round(float(np.median(seconds)), 1), "max_s": round(max(seconds), 1)}
        report |= {name: sum(line.get(name, 0.0) for line in metrics) for name in events}
        return report | dict(Counter(fault["kind"] for fault in read_faults(self.run)))


RunWithFaults = Callable[..., Outcome]


@pytest.fixture
def run_with_faults(tmp_path: Path, tiny_policy: Path) -> RunWithFaults:
    """Train the tiny policy while `faults` are injected; for `steps` iterations, or until the last fault is over."""

    def run(
        *settings: str,
        steps: int = 1_000_000,
        faults: list[str],
        seed: int = 0,
        poison: int = 0,
        raises: float = 0.0,
        hangs: float = 0.0,
        timeout_s: float = float(os.environ.get("RLCS_CHAOS_TIMEOUT_S", "280")),
        pause_s: tuple[float, float] = (0.2, 2.0),
        terminate_after: int | None = None,
        wait_s: float = 120.0,
        after_checkpoint: bool = False,
    ) -> Outcome:
        (tmp_path / "odd.py").write_text(REWARD.format(raises=raises, hangs=hangs))
        rows = [{"prompt": f"{i} + 1 = ?", "answer": str(i + 1), "domain": "ab"[i % 2]} for i in range(60)]
        rows += [{"prompt": "0123456789 " * 8 + str(i), "answer": "1", "domain": "a"} for i in range(poison)]
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "sitecustomize.py").write_text(POISONED)
        path = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [
            *(
                sys.executable,
                "-m",
                "rlcs.cli",
                "train",
                "configs/quickstart.yaml",
                f"output_dir={tmp_path}",
                "name=run",
            ),
            *("model.init=null", f"model.path={tiny_policy}", "sft.enabled=false", "data.env=null", "data.tasks=[]"),
            *(f"data.train={tmp_path / 'train.jsonl'}", f"reward.functions=[{tmp_path / 'odd.py'}:odd,math]"),
            *(
                "reward.weights=[1,0.1]",
                "reward.timeout_s=1",
                "rollout.max_prompt_length=150",
                "rollout.max_completion_length=24",
            ),
            *("rollout.num_engines=2", "rollout.num_generations=4", "rollout.heartbeat_s=5", "curriculum.kind=uniform"),
            *("train.batch_size=8", f"train.steps={steps}", "train.save_every=2", "cluster.max_restarts=10"),
            *("cluster.num_cpus=8", "logging.monitor_every_s=0.2", "learner.timeout_s=15", *settings),
        ]
        before, begun = shared_memory(), time.monotonic()
        log = (tmp_path / "log.txt").open("w+")
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "RLCS_TEST_SLOW": str(tmp_path / "slow")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        injector = Injector(tmp_path / "run", faults, seed, pause_s, wait_s, after_checkpoint)
        thread = threading.Thread(target=injector, daemon=True)
        thread.start()
        family: dict[int, psutil.Process] = {}
        terminated = None
        try:
            while process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    family.setdefault(child.pid, child)
                if terminate_after is not None:
                    metrics = tmp_path / "run" / "metrics.jsonl"
                    if (
                        terminated is None
                        and metrics.exists()
                        and len(read_metrics(tmp_path / "run")) >= terminate_after
                    ):
                        (tmp_path / "slow").touch()  # from now on generation takes for ever
                        time.sleep(1)
                        process.send_signal(signal.SIGTERM)
                        terminated = time.time()
                elif not thread.is_alive() and steps == 1_000_000:
                    process.send_signal(signal.SIGINT)
                    steps = 0
                assert time.monotonic() - begun < timeout_s, (log.seek(0), log.read())[1][-3000:]
                time.sleep(0.25)
        finally:
            injector.stop.set()
            process.kill()
            process.wait()
            thread.join(10)
        seconds = time.monotonic() - begun
        orphans = [child for child in family.values() if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        _, orphans = psutil.wait_procs(orphans, timeout=10)
        log.seek(0)
        return Outcome(
            tmp_path / "run",
            log.read(),
            process.returncode,
            injector.done,
            [" ".join(orphan.cmdline())[:100] for orphan in orphans],
            sorted(shared_memory() - before - mapped()),
            seconds,
            terminated,
        )

    return run


def shared_memory() -> set[str]:
    """Segments in /dev/shm."""
    return {entry.name for entry in Path("/dev/shm").iterdir()}


def mapped() -> set[str]:
    """Those that living processes use, be they of this run or of another."""
    names = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except (OSError, UnicodeDecodeError):
            continue
        names |= {line.split("/dev/shm/")[1].split()[0] for line in text.splitlines() if "/dev/shm/" in line}
    return names


@pytest.fixture
def assert_nothing_is_lost() -> Callable[..., None]:
    """See `check`."""
    return check


def check(outcome: Outcome, *, batch: int = 8, size: int = 4, staleness: int = 0) -> None:
    """The run ended well, no sample is missing or there twice, no update was made twice, nothing is left behind."""
    run = outcome.run
    assert outcome.code == 0, outcome.output[-3000:]
    metrics = read_metrics(run)
    steps = len(metrics)
    assert [line["step"] for line in metrics] == list(range(1, steps + 1))
    row_of = {prompt: row for row, prompt in enumerate(read_prompts(run)["prompt_id"].to_pylist())}
    coverage = Coverage(len(row_of))
    tokens = 0
    rollouts_of, drawn_of = (by_step(run / folder) for folder in ("rollouts", "curriculum"))
    assert set(rollouts_of) == set(drawn_of) == set(range(1, steps + 1))
    for line in metrics:
        step = int(line["step"])
        rollouts, drawn = rollouts_of[step], drawn_of[step]
        assert {row["policy_version"] for row in rollouts} <= set(range(max(0, step - 1 - staleness), step))
        groups = Counter(row["prompt_id"] for row in rollouts)
        assert groups == {row["prompt_id"]: size for row in drawn}
        assert len({(row["prompt_id"], row["sample"]) for row in rollouts}) == len(rollouts)
        assert line["rollout/groups"] == len(drawn) and line["rollout/responses"] == len(rollouts)
        assert line["learner/sequences"] <= batch * size and line["learner/optimizer_steps"] == 1
        coverage.observe(
            np.asarray([row_of[row["prompt_id"]] for row in drawn]), np.asarray([row["pass_rate"] for row in drawn])
        )
        tokens += sum(row["num_tokens"] for row in rollouts)
    assert metrics[-1]["progress/generated_tokens"] == tokens
    last = latest_checkpoint(run)
    assert last.name == f"step-{steps:06d}"
    assert json.loads((last / "learner" / "learner.json").read_text())["counters"]["updates"] == steps
    np.testing.assert_array_equal(load_arrays(last / "curriculum")["coverage"], coverage.state_dict()["coverage"])
    assert outcome.orphans == []
    assert outcome.shared_memory == []


def by_step(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """The rows of the run's tables by iteration."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for file in step_files(folder):
        for row in pq.read_table(file.path).to_pylist():
            rows.setdefault(row["step"], []).append(row)
    return rows
