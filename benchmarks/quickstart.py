"""The quickstart over several seeds: time in all, what RL adds over the cold start, where the time goes, and other
samplers beside it, from the same cold start and with the same number of generated tokens.

    python benchmarks/quickstart.py [--seeds 0 1 2] [--others uniform posterior ...] [--output runs/bench] [SETTING=VALUE ...]
    python benchmarks/quickstart.py --vision --others      that of pictures, RLCS alone

Runs that are finished in the output folder are not run again. Times need a quiet machine: about eight minutes a seed
and sampler on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from rlcs.config_loading import load_config
from rlcs.curricula.calibration import calibration_error
from rlcs.evaluation import mean_accuracy
from rlcs.runlog import EvaluationRow, mean_over_prompts, read_draws, read_evaluations, read_metrics

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SAMPLERS = {
    "uniform": ["curriculum.kind=uniform"],
    "posterior": ["curriculum.kind=posterior"],
    "adaptive": ["curriculum.kind=posterior", "rollout.first_generations=4"],
    "dapo": ["curriculum.kind=dapo"],
    "easy_to_hard": ["curriculum.kind=easy_to_hard"],
}
STAGES = ("generate", "score", "learn", "sync", "draw", "select", "write")


def run(config: Path, folder: Path, name: str, settings: list[str]) -> Path:
    """Train unless a finished run is there; the wall-clock seconds go to wall.json."""
    run_dir = folder / name
    if not (run_dir / "wall.json").exists():
        print(f"-- {name}: {' '.join(settings)}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", "rlcs.cli", "train", str(config), f"output_dir={folder}", f"name={name}"]
        subprocess.run([*command, *settings], check=True, stdout=subprocess.DEVNULL)
        (run_dir / "wall.json").write_text(json.dumps({"seconds": time.monotonic() - start}))
    return run_dir


def before_and_after(run_dir: Path) -> tuple[list[EvaluationRow], list[EvaluationRow]]:
    rows = read_evaluations(run_dir)
    return [row for row in rows if row.step == rows[0].step], [row for row in rows if row.step == rows[-1].step]


def prediction_error(run_dir: Path) -> float:
    """Expected calibration error of the pass rates predicted for all groups of a run; NaN where none were predicted."""
    draws = read_draws(run_dir)
    if "predicted_pass_rate" not in draws.column_names or draws["predicted_pass_rate"].null_count:
        return float("nan")
    return calibration_error(draws["predicted_pass_rate"].to_numpy(), draws["pass_rate"].to_numpy())


def report(runs: list[Path], title: str) -> None:
    pairs = [before_and_after(folder) for folder in runs]
    starts = [100 * mean_accuracy(before) for before, _ in pairs]
    ends = [100 * mean_accuracy(after) for _, after in pairs]
    gains = [end - start for start, end in zip(starts, ends, strict=True)]
    print(f"\n{title}")
    print("  held-out pass@1 by seed:", ", ".join(f"{a:.1f} -> {b:.1f}" for a, b in zip(starts, ends, strict=True)))
    print(f"  gain: mean {statistics.mean(gains):+.1f} points, by seed {', '.join(f'{gain:+.1f}' for gain in gains)}")
    rewards = [[100 * mean_over_prompts(rows, "mean_reward") for rows in pair] for pair in pairs]
    print("  held-out mean reward by seed:", ", ".join(f"{a:.1f} -> {b:.1f} ({b - a:+.1f})" for a, b in rewards))
    for tier in range(5):
        cells = [[100 * mean_accuracy([row for row in rows if row.tier == tier]) for rows in pair] for pair in pairs]
        first, last = (statistics.mean(column) for column in zip(*cells, strict=True))
        print(f"  tier {tier}: {first:.1f} -> {last:.1f} ({last - first:+.1f})")
    for domain in sorted({row.domain for row in pairs[0][0]}):
        cells = [
            [100 * mean_accuracy([row for row in rows if row.domain == domain]) for rows in pair] for pair in pairs
        ]
        first, last = (statistics.mean(column) for column in zip(*cells, strict=True))
        print(f"  {domain}: {first:.1f} -> {last:.1f} ({last - first:+.1f})")
        scores = [
            [100 * mean_over_prompts([r for r in rows if r.domain == domain], "mean_reward") for rows in pair]
            for pair in pairs
        ]
        print("    mean reward by seed:", ", ".join(f"{a:.1f} -> {b:.1f} ({b - a:+.1f})" for a, b in scores))
    print("  parsed after the cold start:", ", ".join(f"{statistics.mean(r.parsed for r in b):.3f}" for b, _ in pairs))
    metrics = [line for folder in runs for line in read_metrics(folder)[1:]]
    total = sum(line["time/total"] for line in metrics)
    shares = {stage: sum(line[f"time/{stage}"] for line in metrics) / total for stage in STAGES}
    print("  time by stage:", ", ".join(f"{stage} {100 * share:.1f} %" for stage, share in shares.items()))
    rest = 100 * (1 - shares["generate"] - shares["learn"])
    print(f"  all but generation and learning: {rest:.1f} % of an iteration of {total / len(metrics):.2f} s")
    print("  useful groups, mean:", f"{statistics.mean(line['rollout/useful'] for line in metrics):.2f}")
    print("  updates:", ", ".join(f"{read_metrics(folder)[-1]['step']:,.0f}" for folder in runs))
    errors = [prediction_error(folder) for folder in runs]
    if not np.isnan(errors).any():
        print("  calibration error of predicted pass rates:", ", ".join(f"{error:.3f}" for error in errors))
    tokens = [read_metrics(folder)[-1]["progress/generated_tokens"] for folder in runs]
    print("  generated tokens:", ", ".join(f"{value:,.0f}" for value in tokens))
    print("  wall clock:", ", ".join(f"{json.loads((f / 'wall.json').read_text())['seconds']:.0f} s" for f in runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--others", choices=list(SAMPLERS), nargs="*", default=["uniform"])
    parser.add_argument("--vision", action="store_true", help="configs/quickstart_vision.yaml")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"))
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    config = CONFIGS / ("quickstart_vision.yaml" if options.vision else "quickstart.yaml")
    name = "vision" if options.vision else "rlcs"
    load_config(config, options.settings)
    ours: list[Path] = []
    others: dict[str, list[Path]] = {name: [] for name in options.others}
    for seed in options.seeds:
        ours.append(run(config, options.output, f"{name}-{seed}", [f"seed={seed}", *options.settings]))
    report(ours, "RLCS")
    for sampler, folders in others.items():
        for seed, first in zip(options.seeds, ours, strict=True):
            tokens = int(read_metrics(first)[-1]["progress/generated_tokens"])
            same_start = ["model.init=null", f"model.path={first / 'policy-sft'}", "sft.enabled=false"]
            budget = [f"train.max_generated_tokens={tokens}", "train.steps=100000"]
            settings = [f"seed={seed}", *same_start, *budget, *SAMPLERS[sampler], *options.settings]
            folders.append(run(config, options.output, f"{sampler}-{seed}", settings))
        report(folders, f"{sampler}, same cold start, same generated tokens")


if __name__ == "__main__":
    main()
