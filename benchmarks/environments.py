"""Samples a second a core of the visual tasks, scene to PNG file: `python benchmarks/environments.py [--seconds 2]`.

A sample is a question with all its pictures, drawn and encoded. Times are CPU time of this process, which has one thread;
loading fonts and digits is not counted. `--matplotlib` adds charts drawn by matplotlib.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

from rlcs.envs.visual.env import TASKS, VisualEnv

TARGETS = {"video": 30, "document": 30}
DEFAULT_TARGET = 200


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the visual tasks.")
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds for each level")
    parser.add_argument("--matplotlib", action="store_true", help="charts by matplotlib too")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    env = VisualEnv()
    runs: list[tuple[str, dict[str, Any]]] = [(task, {}) for task in options.tasks]
    if options.matplotlib:
        runs.append(("chart", {"renderer": "matplotlib"}))
    print(f"{'task':12} {'target':>6}  {'level 0':>8} {'1':>6} {'2':>6} {'3':>6} {'4':>6}  {'all':>6}  bytes a sample")
    for task, params in runs:
        rates, sizes = zip(
            *(measure(env, task, {**level, **params}, options.seconds) for level in env.levels(task)), strict=True
        )
        # Every level makes as many samples: the rate over all is the harmonic mean.
        overall = statistics.harmonic_mean(rates)
        name = f"{task} (mpl)" if params else task
        shown = " ".join(f"{rate:6.0f}" for rate in rates)
        print(
            f"{name:12} {TARGETS.get(task, DEFAULT_TARGET):6}    {shown}  {overall:6.0f}  {statistics.mean(sizes):8.0f}"
        )


def measure(env: VisualEnv, task: str, params: dict[str, Any], seconds: float) -> tuple[float, float]:
    """Samples a second of CPU time, and bytes a sample."""
    stream = env.generate(task, params, domain=task, tier=0, seed=1)
    for _ in range(5):
        draw(next(stream))
    count = size = 0
    start = time.process_time()
    while (passed := time.process_time() - start) < seconds:
        size += draw(next(stream))
        count += 1
    return count / passed, size / count


def draw(prompt: Any) -> int:
    """Draw all pictures of a prompt; how many bytes they are."""
    frames = [frame for video in prompt.videos for frame in video.frames]
    return sum(len(image.data) for image in (*prompt.images, *frames))


if __name__ == "__main__":
    main()
