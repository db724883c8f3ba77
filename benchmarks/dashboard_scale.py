"""The dashboard over a large run: 5,000 iterations, 1 M prompts, 2.5 M responses, made here.

    python benchmarks/dashboard_scale.py [--folder FOLDER] [--iterations 5000]

Prints the size of the run, how long the first view and each page take over HTTP (p50 and p95), the server's memory, and
how soon a new iteration is shown. With chromium and playwright also the first view in a browser, until all is drawn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from rlcs.config_loading import dump_config, load_config
from rlcs.run_files import append_lines, part_path, step_path, write_parquet
from rlcs.runlog import EvaluationRow, RunLog

GROUPS, G, NUM_PROMPTS, A_PART, TOKENS = 62, 8, 1_000_000, 200, 24
DOMAINS = np.array(["chart", "gcd", "math", "ocr", "physics", "science", "vqa"], dtype=object)
WORDS = np.array("the answer is so we add five and seven then two times three hence because number greatest".split())
VERIFIERS = ("chart", "grounding", "math", "ocr", "physics", "style", "vqa")
ACTORS = (*(f"engine-{i}" for i in range(8)), *(f"scorer-{i}" for i in range(8)), *(f"learner-{i}" for i in range(8)))
CONFIG = """
model: {init: tiny}
data: {env: reasoning_gym, tasks: [{task: gcd}]}
train: {steps: 5001}
logging: {tensorboard: false}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--iterations", type=int, default=5000)
    parser.add_argument("--requests", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        run = folder / "large"
        if not (run / "metrics.jsonl").exists():
            started = time.perf_counter()
            generate(run, options.iterations)
            print(f"made in {time.perf_counter() - started:.0f} s")
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        print(f"the run: {size / 1e6:,.0f} MB in {sum(1 for _ in run.rglob('*.parquet'))} Parquet files")
        measure(run, options.iterations, options.requests)


def generate(run: Path, iterations: int) -> None:
    rng = np.random.default_rng(0)
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG)
    (run / "config.yaml").write_text(dump_config(load_config(run / "config.yaml")))
    ids = np.array([f"{i:016x}" for i in range(NUM_PROMPTS)], dtype=object)
    domains, tiers = rng.integers(0, len(DOMAINS), NUM_PROMPTS), rng.integers(0, 5, NUM_PROMPTS)
    texts = np.array([" ".join(rng.choice(WORDS, 20)) for _ in range(2000)], dtype=object)
    table = pa.table(
        {
            "prompt_id": pa.array(ids),
            "domain": pa.array(DOMAINS[domains]).dictionary_encode(),
            "tier": pa.array(tiers, pa.int8()),
            "prompt": pa.array(texts[rng.integers(0, len(texts), NUM_PROMPTS)]),
        }
    )
    write_parquet(table, run / "curriculum" / "prompts.parquet", row_group_size=4096)
    starts = [" ".join(rng.choice(WORDS, 40)) for _ in range(4000)]
    loose = iterations - iterations % A_PART - A_PART // 2
    for first in range(1, iterations + 1, A_PART):
        last = min(iterations, first + A_PART - 1)
        rollouts, draws = tables(rng, first, last, ids, domains, tiers, starts)
        for name, whole in (("rollouts", rollouts), ("curriculum", draws)):
            if last <= loose:
                write_parquet(whole, part_path(run / name, first, last), row_group_size=4096)
            else:
                steps = whole["step"].to_numpy()
                for step in range(first, last + 1):
                    write_parquet(whole.filter(pa.array(steps == step)), step_path(run / name, step))
    lines = [{"schema": 2, "time": 1e9 + step, **metrics(rng, step)} for step in range(1, iterations + 1)]
    append_lines(run / "metrics.jsonl", lines)
    rows = [
        {"step": step, **evaluation(step, domain)}
        for step in range(0, iterations + 1, 100)
        for domain in DOMAINS.tolist()
    ]
    append_lines(run / "evaluations.jsonl", rows)


def tables(rng, first, last, ids, domains, tiers, starts):  # type: ignore[no-untyped-def]
    """Responses and draws of iterations `first` to `last`."""
    steps = np.repeat(np.arange(first, last + 1), GROUPS)
    rows = rng.integers(0, NUM_PROMPTS, len(steps))
    right = rng.binomial(G, np.clip(0.9 - 0.18 * tiers[rows] + steps / 20_000, 0.02, 0.98))
    draws = pa.table(
        {
            "step": steps,
            "prompt_id": pa.array(ids[rows]),
            "domain": pa.array(DOMAINS[domains[rows]]),
            "tier": pa.array(tiers[rows], pa.int64()),
            "pass_rate": right / G,
            "predicted_pass_rate": np.clip(right / G + rng.normal(0, 0.15, len(steps)), 0, 1),
            "num_responses": np.full(len(steps), G),
            "degenerate": (right == 0) | (right == G),
            "kept": rng.random(len(steps)) < 0.5,
        }
    )
    many = np.repeat(np.arange(len(steps)), G)
    correct = np.tile(np.arange(G), len(steps)) < right[many]
    texts = [
        f"<think>{starts[a]} {i}</think><answer><|begin_of_box|>{b}<|end_of_box|></answer>"
        for i, (a, b) in enumerate(
            zip(rng.integers(0, len(starts), len(many)), rng.integers(0, 90, len(many)), strict=True)
        )
    ]
    has_tokens = (many % GROUPS) < 32
    offsets = np.concatenate([[0], np.cumsum(has_tokens * TOKENS)]).astype(np.int32)
    missing = pa.array(~has_tokens)

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(offsets), values, mask=missing)

    n = int(offsets[-1])
    rollouts = pa.table(
        {
            "step": steps[many],
            "prompt_id": pa.array(ids[rows][many]),
            "domain": pa.array(DOMAINS[domains[rows]][many]),
            "tier": pa.array(tiers[rows][many], pa.int64()),
            "prompt": pa.array([f"Question {row}" for row in rows[many]]),
            "answer": pa.array(["7"] * len(many)),
            "sample": np.tile(np.arange(G), len(steps)),
            "response": pa.array(texts),
            "num_tokens": rng.integers(20, 400, len(many)),
            "finish_reason": pa.array(["stop"] * len(many)),
            "policy_version": steps[many] - 1,
            "reward": correct.astype(np.float64),
            "correct": correct,
            "parts": pa.array(['{"math": 1.0}' if c else '{"math": 0.0}' for c in correct]),
            "detail": pa.array(["the same number" if c else "another number" for c in correct]),
            "kept": rng.random(len(many)) < 0.5,
            "reward_seconds": pa.array([f'{{"math": {s:.3g}}}' for s in rng.exponential(0.01, len(many))]),
            "token_ids": lists(pa.array(rng.integers(0, 500, n).astype(np.int32))),
            "logprobs": lists(pa.array(-rng.exponential(0.3, n).astype(np.float32))),
            "loss_mask": lists(pa.array(np.ones(n, dtype=bool))),
        }
    )
    return rollouts, draws


def metrics(rng: np.random.Generator, step: int) -> dict[str, float]:
    names = ["reward/mean", "rollout/useful", "rollout/useful_learned", "rollout/mean_length", "rollout/tokens_per_s"]
    names += ["learner/entropy", "learner/grad_norm", "learner/clip_high", "learner/clip_low", "rollout/truncated"]
    names += [f"reward/{domain}" for domain in DOMAINS] + [f"curriculum/drawn/{domain}" for domain in DOMAINS]
    names += [f"curriculum/pass_rate/{domain}/tier_{tier}" for domain in DOMAINS for tier in range(5)]
    for verifier in VERIFIERS:
        names += [
            f"scoring/{what}/{verifier}" for what in ("latency_p50_ms", "latency_p95_ms", "latency_max_ms", "mean")
        ]
        names += [f"scoring/{what}/{verifier}" for what in ("samples", "timeouts", "errors")]
    names += [f"curriculum/{what}/{domain}" for what in ("ability", "ability_sd") for domain in DOMAINS]
    names += [f"system/{what}/{actor}" for what in ("actor_memory_gib", "restarts") for actor in ACTORS]
    names += ["system/queue/rollouts", "system/queue/scoring", "curriculum/prompts/retired"]
    names += [f"time/{stage}" for stage in ("generate", "score", "learn", "sync", "select", "draw", "write")]
    values = {name: round(float(rng.random()), 6) for name in names}
    values |= {"learner/logprob_gap_mean": 1e-4, "learner/logprob_gap_max": 1e-2, "curriculum/expansion": 1.7}
    return {"step": step, **values, "time/total": 8.0, "rollout/responses": float(GROUPS * G), "scoring/timeouts": 0.0}


def evaluation(step: int, domain: str) -> dict[str, object]:
    row = EvaluationRow(step, domain, 2, 50, 4, 0.3 + step / 20_000, 0.8, 4, 0.4, 1.0)
    return {name: getattr(row, name) for name in EvaluationRow.__slots__ if name != "step"}


def measure(run: Path, iterations: int, requests: int) -> None:
    command = [sys.executable, "-m", "rlcs.cli", "dashboard", str(run.parent), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split("127.0.0.1:")[1].split("/")[0])
        print(f"first view of the overview: {ask(port, '/runs/large/overview'):.2f} s")
        rng = np.random.default_rng(1)
        steps = rng.integers(1, iterations + 1, 1000).tolist()
        prompts = [f"{i:016x}" for i in rng.integers(0, NUM_PROMPTS, 1000)]
        sorts = ["draws", "hardest", "easiest", "unsure", "newest", "surprise", "least_draws"]
        pages = {
            "runs": lambda i: "/",
            "overview": lambda i: "/runs/large/overview",
            "curriculum": lambda i: (
                f"/runs/large/curriculum?a={min(steps[i], steps[i + 1])}&b={max(steps[i], steps[i + 1])}"
            ),
            "prompts": lambda i: f"/runs/large/prompts?sort={sorts[i % 7]}&domain={DOMAINS[i % 7]}&page={i % 3}",
            "one prompt": lambda i: f"/runs/large/prompts?id={prompts[i]}",
            "rollouts": lambda i: f"/runs/large/rollouts?step={steps[i]}",
            "search in one iteration": lambda i: f"/runs/large/rollouts?step={steps[i]}&text=hence+because",
            "search in all, frequent": lambda i: "/runs/large/rollouts?text=answer&everywhere=1",
            "search in all, in none": lambda i: "/runs/large/rollouts?text=not+there&everywhere=1",
            "rewards": lambda i: "/runs/large/rewards",
            "system": lambda i: "/runs/large/system",
        }
        for name, path in pages.items():
            first = ask(port, path(0))
            times = sorted(ask(port, path(i + 1)) for i in range(requests))
            p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
            print(
                f"{name:24s} first {first:5.2f} s   p50 {statistics.median(times):5.2f} s   p95 {p95:5.2f} s",
                flush=True,
            )
        memory = psutil.Process(server.pid).memory_info().rss / 1e6
        print(f"memory of the server: {memory:.0f} MB")
        print(f"a new iteration is shown after {fresh(port, run, iterations + 1):.2f} s")
        in_browser(port)
    finally:
        server.terminate()
        server.wait(10)


def ask(port: int, path: str) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == 200, (path, answer.status, data[:300])
    return time.perf_counter() - started


def fresh(port: int, run: Path, step: int) -> float:
    """Seconds from the write of an iteration until its event, and the page that has it, are there."""
    log = RunLog(run, load_config(run / "config.yaml").logging, {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/runs/large/events")
    answer = connection.getresponse()
    while not answer.readline().startswith(b"data:"):
        pass
    line = metrics(np.random.default_rng(step), step)
    log.write_metrics(step, {name: value for name, value in line.items() if name != "step"})
    started = time.perf_counter()
    while f"data: {step}-".encode() not in answer.readline():
        pass
    ask(port, "/runs/large/overview")
    return time.perf_counter() - started


def in_browser(port: int) -> None:
    chromium = os.environ.get("RLCS_CHROMIUM", "/usr/bin/chromium")
    if not Path(chromium).exists():
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for name in ("overview", "curriculum"):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            started = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/runs/large/{name}")
            while not page.evaluate("document.querySelectorAll('.chart[data-drawn]').length >= 3"):
                time.sleep(0.02)
            print(f"{name} in a browser, what is on the screen drawn after {time.perf_counter() - started:.2f} s")
            page.close()
        browser.close()


if __name__ == "__main__":
    print(json.dumps({"cpus": os.cpu_count()}))
    main()
