"""Rollouts beside the update against taking turns: seconds an iteration of the same run with `rollout.max_staleness` 0 and 1.

    python benchmarks/overlap.py [--policy FOLDER] [--steps 20] [--set key=value ...]

`--policy` is a policy in the response format, such as runs/quickstart/policy-sft; without one the quickstart's cold start
is made first. Both runs draw from configs/quickstart.yaml, one after the other; the first three iterations warm up. Prints
medians of the stages, and how much of the shorter half was hidden. On a machine whose cores both halves can fill there is
nothing to hide.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
STAGES = ("generate", "score", "learn", "wait", "sync", "total")


def rlcs(*arguments: str) -> None:
    """Run the command line; its output is shown where it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "rlcs.cli", *arguments], capture_output=True, text=True, timeout=1800, check=False
    )
    if result.returncode:
        sys.exit(result.stdout + result.stderr)


def medians(run: Path) -> dict[str, float]:
    """Median seconds of each stage, and the mean staleness, after the warm-up."""
    from rlcs.runlog import read_metrics

    lines: list[dict[str, Any]] = read_metrics(run)[3:]
    found = {stage: float(np.median([line[f"time/{stage}"] for line in lines])) for stage in STAGES}
    found["staleness"] = float(np.mean([line["rollout/staleness_mean"] for line in lines]))
    found["logprob_gap"] = float(np.mean([line["learner/logprob_gap_mean"] for line in lines]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", nargs="*", default=[], help="further settings of both runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        policy = arguments.policy
        if policy is None:
            rlcs("sft", str(CONFIG), f"output_dir={folder}", "name=cold")
            policy = Path(folder) / "cold" / "policy-sft"
        results = []
        for staleness in (0, 1):
            settings = [
                "model.init=null",
                f"model.path={policy.absolute()}",
                "sft.enabled=false",
                "data.eval_per_level=1",
                f"train.steps={arguments.steps}",
                "train.save_every=0",
                "train.eval_every=0",
                *arguments.set,
                f"rollout.max_staleness={staleness}",
                f"name=staleness-{staleness}",
                f"output_dir={folder}",
            ]
            rlcs("train", str(CONFIG), *settings)
            results.append(medians(Path(folder) / f"staleness-{staleness}"))
    turns, beside = results
    print(f"| {'| '.join(f'{name} ' for name in ('max_staleness', *turns))}|")
    print("|---" * (len(turns) + 1) + "|")
    for staleness, result in enumerate(results):
        print(f"| {staleness} | {' | '.join(f'{value:.3g}' for value in result.values())} |")
    hidden = turns["total"] - beside["total"]
    shorter = min(turns["generate"] + turns["score"], turns["learn"])
    print(
        f"an iteration takes {beside['total'] / turns['total']:.2f} times as long; {100 * hidden / shorter:.0f} % of the "
        "shorter half is hidden"
    )


if __name__ == "__main__":
    main()
