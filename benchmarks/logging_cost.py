"""What its records cost a run: the time that the training loop spends in the run's log, as a share of its iterations.

    python benchmarks/logging_cost.py [--steps 100] [SETTING=VALUE ...]

Trains configs/quickstart.yaml for so many iterations, with the methods of `RunLog` timed. Prints for each what an iteration waits
for it in the loop's thread, and the processor time of those that work beside the loop.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlcs.config_loading import load_config
from rlcs.launch import train
from rlcs.progress import Display
from rlcs.runlog import RunLog, read_metrics

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "quickstart.yaml"
IN_LOOP = ("note_stage", "write_rollouts", "flush", "write_metrics")
BESIDE = ("_write_tables", "note_actors")


class Times:
    """Seconds by method; of a method that calls another, each second once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = threading.local()

    def timed(self, name: str, method: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
        """`method`, whose time by `clock` is counted under `name`."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            outer, self._inner.seconds = getattr(self._inner, "seconds", 0.0), 0.0
            start = clock()
            try:
                return method(*args, **kwargs)
            finally:
                took = clock() - start
                self.seconds[name] += took - self._inner.seconds
                self._inner.seconds = outer + took

        return call


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("settings", nargs="*")
    arguments = parser.parse_args()
    times = Times()
    for name in IN_LOOP:
        setattr(RunLog, name, times.timed(name, getattr(RunLog, name), time.perf_counter))
    for name in BESIDE:
        setattr(RunLog, name, times.timed(name, getattr(RunLog, name), time.thread_time))
    with tempfile.TemporaryDirectory() as folder:
        own = [f"output_dir={folder}", "name=logging", f"train.steps={arguments.steps}"]
        config = load_config(CONFIG, [*own, *arguments.settings])
        train(config, Display())
        metrics = read_metrics(config.run_dir)
    iteration = (metrics[-1]["time"] - metrics[0]["time"]) / (len(metrics) - 1)
    print(f"\n{len(metrics)} iterations of {iteration:.3f} s, by the clock from one line of metrics to the next")
    for title, names in (("in the loop", IN_LOOP), ("beside it, processor time", BESIDE)):
        for name in names:
            print(f"  {title}: {name} {1e3 * times.seconds[name] / len(metrics):.2f} ms an iteration")
        total = sum(times.seconds[name] for name in names) / len(metrics)
        print(f"  {title}: {1e3 * total:.2f} ms, {100 * total / iteration:.2f} % of an iteration")


if __name__ == "__main__":
    main()
