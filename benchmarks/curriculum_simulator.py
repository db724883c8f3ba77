"""Rollouts that each curriculum needs until a simulated learner reaches its target accuracy.

    python benchmarks/curriculum_simulator.py                      # all scenarios x 5 seeds, minutes on a core
    python benchmarks/curriculum_simulator.py --seeds 1 --json out.json --kinds uniform,rlcs,posterior

Prints a table (rollouts as a share of uniform's, geometric means last) and, with --json, everything as JSON. The
learners, the target and the oracle are described in `rlcs.curricula.simulate` and `rlcs.curricula.simulated_learner`.
`posterior+` is `posterior` with adaptive responses.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlcs.config import CurriculumConfig
from rlcs.curricula.adaptive import AdaptivePlan
from rlcs.curricula.simulate import Simulation, simulate
from rlcs.curricula.simulated_learner import ALL_ALIKE, SCENARIOS, Scenario

KINDS = "uniform,dapo,easy_to_hard,rlcs,beta,posterior,posterior+,oracle"
MEASURES = ("rollouts", "steps", "tokens", "useful", "calibration_error", "brier", "distinct")


def run(kind: str, scenario: Scenario, seed: int, settings: dict[str, Any]) -> Simulation:
    """One simulation; `beta` is posterior with the Beta estimator, a trailing + means adaptive responses."""
    name = kind.rstrip("+")
    config = CurriculumConfig(**(settings | ({"estimator": "beta"} if name == "beta" else {})))
    plan = AdaptivePlan() if kind.endswith("+") else None
    return simulate("posterior" if name == "beta" else name, scenario, config=config, seed=seed, adaptive=plan)


def means(simulations: list[Simulation]) -> dict[str, float]:
    """Means over seeds of what is counted, and the share of runs that reached the target."""
    values = {name: float(np.mean([getattr(s, name) for s in simulations])) for name in MEASURES}
    return values | {"reached": float(np.mean([s.reached for s in simulations]))}


def geometric_mean(values: list[float]) -> float:
    """The geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def print_table(results: dict[str, dict[str, dict[str, float]]], kinds: list[str], measure: str, title: str) -> None:
    """A Markdown table: a row a scenario, a column a curriculum, values as a share of the first curriculum's."""
    print(f"\n{title}\n\n| scenario | " + " | ".join(kinds) + " |\n|---|" + "---|" * len(kinds))
    columns: dict[str, list[float]] = {kind: [] for kind in kinds}
    for scenario, by_kind in results.items():
        cells = []
        for kind in kinds:
            value = by_kind[kind][measure]
            if measure in ("rollouts", "steps", "tokens"):
                value /= by_kind[kinds[0]][measure]
            columns[kind].append(value)
            cells.append("-" if np.isnan(value) else f"{value:.3f}" + ("" if by_kind[kind]["reached"] == 1 else " (!)"))
        print(f"| {scenario} | " + " | ".join(cells) + " |")
    total = ["-" if np.isnan(v).any() else f"**{geometric_mean(v):.3f}**" for v in columns.values()]
    print("| geometric mean | " + " | ".join(total) + " |")


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=KINDS, help="curricula, the first is what the others are compared with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=100, help="the defaults were chosen on 0 and 1")
    parser.add_argument("--scenario", default="", help="only scenarios whose name contains this")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="curriculum setting, JSON value"
    )
    parser.add_argument("--json", type=Path, help="write everything to this file")
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    settings = {key: json.loads(value) for key, value in (item.split("=", 1) for item in args.set)}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    scenarios = [s for s in (*SCENARIOS, ALL_ALIKE) if args.scenario in s.name]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for scenario in scenarios:
        results[scenario.name] = {
            kind: means([run(kind, scenario, seed, settings) for seed in seeds]) for kind in kinds
        }
    print_table(results, kinds, "rollouts", f"Responses to the target, as a share of {kinds[0]}'s ({args.seeds} seeds)")
    print_table(results, kinds, "steps", f"Updates to the target, as a share of {kinds[0]}'s")
    print_table(results, kinds, "tokens", f"Tokens to the target, as a share of {kinds[0]}'s")
    print_table(results, kinds, "useful", "Share of groups with a signal, after 20 iterations")
    print_table(results, kinds, "calibration_error", "Expected calibration error of predicted pass rates")
    print_table(results, kinds, "distinct", "Distinct prompts, as a share of prompts drawn")
    print("\n(!): not every run reached the target within 1,000 updates.")
    if args.json:
        details = {"settings": settings, "seeds": list(seeds), "scenarios": [asdict(s) for s in scenarios]}
        args.json.write_text(json.dumps(details | {"results": results}, indent=1))


if __name__ == "__main__":
    main()
