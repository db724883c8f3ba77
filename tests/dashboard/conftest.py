"""A small run, written with `RunLog` itself, and the dashboard over it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rlcs.config_loading import dump_config, load_config
from rlcs.faults import Fault
from rlcs.runlog import EvaluationRow, RunLog
from rlcs.scoring.metrics import latency_metrics
from rlcs.types import FinishReason, Group, Image, Prompt, Response, Score
from rlcs.vitals import ActorState, Snapshot

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=\"window.hacked=2\"><b id='bold'>&lt;x"
DOMAINS = ("gcd", "sums")
G = 4

CONFIG = """
model: {init: tiny}
data: {env: reasoning_gym, tasks: [{task: gcd}]}
train: {steps: 12}
rollout: {num_generations: 4}
logging: {tensorboard: false}
"""


def prompts() -> list[Prompt]:
    data = io.BytesIO()
    PIL.Image.new("RGB", (60, 40), (200, 220, 240)).save(data, "PNG")
    picture = (Image.of(data.getvalue()),)
    asked = [[{"role": "user", "content": f"Question {i}? {HOSTILE}"}] for i in range(40)]
    answer = "7 [100, 200, 500, 600]"
    return [
        Prompt(f"{i:016x}", messages, answer, DOMAINS[i % 2], i % 5, images=picture) for i, messages in enumerate(asked)
    ]


def response(text: str, value: float, ids: list[int]) -> Response:
    tokens = np.asarray(ids, dtype=np.int32)
    logprobs = np.linspace(-0.01, -4, len(tokens)).astype(np.float32)
    mask = np.ones(len(tokens), dtype=bool)
    mask[:1] = False
    score = Score(value, correct=value == 1, parts={"math": value, "style": 1.0}, detail=f"why <i>{value}</i>")
    spent = {"math": 0.002 + 0.001 * value, "style": 0.0001}
    return Response(tokens, logprobs, mask, text, FinishReason.STOP, 3, score, spent)


def write_steps(run_dir: Path, first: int, last: int) -> None:
    """Iterations `first` to `last` of the run."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(run_dir / "policy-init" / "tokenizer.json"))
    config = load_config(run_dir / "config.yaml")
    log = RunLog(run_dir, config.logging, {})
    every = prompts()
    log.write_prompts(every)
    for step in range(first, last + 1):
        rng = np.random.default_rng(step)
        groups = []
        for row in rng.choice(len(every), 10, replace=False):
            right = rng.random(G) < 0.3 + 0.05 * step
            texts = [
                f"<think>so {step} {HOSTILE}</think><answer><|begin_of_box|>{7 if r else 5}<|end_of_box|></answer>"
                for r in right
            ]
            responses = [response(t, float(r), tokenizer.encode(t).ids) for t, r in zip(texts, right, strict=True)]
            groups.append(Group(every[int(row)], np.asarray([1], np.int32), responses))
            groups[-1].predicted_pass_rate = float(np.clip(0.3 + 0.05 * step, 0, 1))
        log.write_rollouts(step, groups, range(6))
        log.flush()
        metrics = {"reward/mean": float(np.mean([group.rewards.mean() for group in groups])), "rollout/useful": 0.5}
        metrics |= {f"reward/{domain}": 0.5 for domain in DOMAINS} | {"time/total": 1.5, "time/generate": 1.0}
        metrics |= {f"curriculum/drawn/{domain}": 0.5 for domain in DOMAINS} | {"learner/logprob_gap_mean": 1e-6}
        metrics |= {f"curriculum/pass_rate/{d}/tier_{t}": 0.1 * t for d in DOMAINS for t in range(5)}
        metrics |= {
            "rollout/mean_length": 20.0,
            "rollout/responses": 40.0,
            "scoring/timeouts": 0.0,
            "learner/entropy": 1.0,
        }
        metrics |= {f"curriculum/ability/{d}": 0.1 * step for d in DOMAINS} | {
            f"curriculum/ability_sd/{d}": 0.2 for d in DOMAINS
        }
        metrics |= scoring_metrics(groups)
        metrics |= {
            "system/actor_memory_gib/engine-0": 1.5,
            "system/restarts/engine-0": 1.0,
            "system/queue/rollouts": 7.0,
        }
        log.write_metrics(step, metrics)
        log.note_stage("generate", step + 1)
    actors = [
        ActorState("engine-0", "rollouts", "busy", 1, 4321, "ab12cd", 1.5, None, last),
        ActorState(f"scorer-{HOSTILE}", "scoring", "dead"),
    ]
    log.note_actors(Snapshot(actors, {"rollouts": 7}))
    log.note_fault(Fault("engine_restarts", "engine-0", f"was killed {HOSTILE}"), last)
    log.close()


def scoring_metrics(groups: list[Group]) -> dict[str, float]:
    metrics = latency_metrics(groups)
    for name in ("math", "style"):
        metrics |= {f"scoring/samples/{name}": 40.0, f"scoring/mean/{name}": 0.5}
        metrics |= {f"scoring/timeouts/{name}": 0.0, f"scoring/errors/{name}": 0.0}
    return metrics


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve iterations, to be copied."""
    return write_run(tmp_path_factory.mktemp("whole") / "whole", 12)


@pytest.fixture
def make_run(tmp_path: Path, whole_run: Path) -> Callable[..., Path]:
    """Makes a run of so many iterations in the folder of runs, `tmp_path / "runs"`."""

    def make(name: str = "first", steps: int = 12) -> Path:
        run_dir = tmp_path / "runs" / name
        return Path(shutil.copytree(whole_run, run_dir)) if steps == 12 else write_run(run_dir, steps)

    return make


def write_run(run_dir: Path, steps: int) -> Path:
    """A run of so many iterations."""
    (run_dir / "policy-init").mkdir(parents=True)
    (run_dir / "config.yaml").write_text(CONFIG)
    config = load_config(run_dir / "config.yaml")
    (run_dir / "config.yaml").write_text(dump_config(config))
    _write_tokenizer(run_dir / "policy-init" / "tokenizer.json")
    if steps:
        write_steps(run_dir, 1, steps)
        log = RunLog(run_dir, config.logging, {})
        for step in (0, steps):
            log.write_evaluation(
                [EvaluationRow(step, d, 1, 20, 4, 0.4 + 0.02 * step, 0.9, 4, 0.5, 1.0) for d in DOMAINS]
            )
    return run_dir


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))
    json.loads(path.read_text())
