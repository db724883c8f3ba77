"""How well the estimators of `posterior` foresee real rollouts: runs that were made, replayed an iteration at a time.

    python benchmarks/curriculum_replay.py runs/quickstart [RUN ...] [--set difficulty_drift=0.01]

Each iteration's groups are predicted before they are shown, whatever curriculum drew them, so that estimators and settings
are compared on the same groups. Prints for each run and estimator the squared error of the predicted pass rates, their
expected calibration error, the mean logarithm of the probability given to what came (8 of 8 right, say), and the share of
groups with a signal: expected, observed, and how well they are told from the others (area under the ROC curve).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import UNGRADED, PromptTable
from rlcs.curricula.posterior_sampler import ESTIMATORS
from rlcs.curricula.quadrature import Floats, expect
from rlcs.curricula.simulate import calibration_error
from rlcs.curricula.state import PromptState

Iteration = tuple[np.ndarray[Any, Any], Floats, Floats]
"""Rows, numbers of right responses, and numbers of responses."""


def read(run: Path) -> tuple[PromptTable, list[Iteration]]:
    """The training prompts of a run and its iterations."""
    prompts = pq.read_table(run / "curriculum" / "prompts.parquet").to_pydict()
    row_of = {id_: row for row, id_ in enumerate(prompts["prompt_id"])}
    names = sorted(set(prompts["domain"]))
    tiers = [UNGRADED if tier is None else tier for tier in prompts["tier"]]
    domains = [names.index(name) for name in prompts["domain"]]
    iterations: list[Iteration] = []
    for path in sorted((run / "curriculum").glob("step-*.parquet")):
        drawn = pq.read_table(path, columns=["prompt_id", "pass_rate", "num_responses"]).to_pydict()
        counts = np.asarray(drawn["num_responses"], dtype=np.float64)
        rows = np.asarray([row_of[id_] for id_ in drawn["prompt_id"]])
        iterations.append((rows, np.asarray(drawn["pass_rate"]) * counts, counts))
    return PromptTable(np.asarray(tiers, np.int8), np.asarray(domains, np.int16), names), iterations


def replay(table: PromptTable, iterations: list[Iteration], config: CurriculumConfig) -> dict[str, float]:
    """The figures of one estimator on one run."""
    state = PromptState(len(table))
    estimator = ESTIMATORS[config.estimator](table, config, state)
    found: list[list[Floats]] = []
    for rows, right, counts in iterations:
        k, n = right[:, None], counts[:, None]

        def like(s: Floats, k: Floats = k, n: Floats = n) -> Floats:
            p = np.clip(s, 1e-9, 1 - 1e-9)
            return np.asarray(p**k * (1 - p) ** (n - k))

        logits = estimator.row_logits(rows)
        chance = expect(lambda s, n=n: 1 - s**n - (1 - s) ** n, *logits)  # type: ignore[misc]
        surprise = np.log(np.maximum(expect(like, *logits), 1e-30))
        useful = ((right > 0) & (right < counts)).astype(np.float64)
        found.append([estimator.predict(rows), right / counts, surprise, chance, useful])
        unique, inverse = np.unique(rows, return_inverse=True)
        state.step += 1
        estimator.observe(unique, np.bincount(inverse, right), np.bincount(inverse, counts).astype(np.int64))
    predicted, observed, surprise, chance, useful = (np.concatenate(x) for x in zip(*found, strict=True))
    ranks = np.argsort(np.argsort(chance))[useful == 1]
    area = (ranks.mean() - (len(ranks) - 1) / 2) / max(len(useful) - len(ranks), 1)
    return {
        "squared error": float(np.mean((predicted - observed) ** 2)),
        "calibration error": calibration_error(predicted, observed),
        "log probability": float(surprise.mean()),
        "useful (expected)": float(chance.mean()),
        "useful (observed)": float(useful.mean()),
        "area": float(area),
    }


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="curriculum setting, JSON value"
    )
    args = parser.parse_args()
    settings = {key: json.loads(value) for key, value in (item.split("=", 1) for item in args.set)}
    for run in args.runs:
        for estimator in ESTIMATORS:
            figures = replay(*read(run), CurriculumConfig(**(settings | {"estimator": estimator})))
            print(f"{run.name} {estimator}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
