"""Does a long run leak? Memory, open files and processes of a run of many iterations, and what is left after its end.

    python benchmarks/soak.py [--steps 500] [--end finish|interrupt|kill] [--every 5] [--output DIR] [--set key=value ...]

Runs configs/quickstart.yaml with so many iterations and looks at every process of it each `--every` seconds. Prints for each
process that lived through half of the run: memory after warm-up (a fifth of the iterations) and at the end, the slope of a
line through it in MB an iteration, and open files; then what outlived the run: processes, and segments in /dev/shm. `--end`
interrupt sends Ctrl-C, kill sends SIGKILL to the driver, both at the last iteration but one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
SHARED = Path("/dev/shm")
WAIT_S = 90.0
"""How long what was started may take to be gone. Two agents of Ray notice only after most of a minute that their raylet is."""


@dataclass
class Track:
    """One process over time."""

    name: str
    steps: list[int] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def after(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Iterations, memory and open files from `step` on."""
        keep = np.asarray(self.steps) >= step
        return np.asarray(self.steps)[keep], np.asarray(self.megabytes)[keep], np.asarray(self.files)[keep]


def label(process: psutil.Process) -> str:
    """A name for people: of a Ray worker its actor, else the program."""
    words = process.cmdline()
    if not words:
        return process.name()
    if words[0].startswith("ray::"):
        return words[0].split()[0].partition(".")[0]
    script = next((Path(word).name for word in words[1:] if word.endswith(".py")), "")
    return f"{Path(words[0]).name} {script}".strip() if script else Path(words[0]).name


def done(run: Path) -> int:
    """Iterations that are written down."""
    try:
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20_000))
            lines = file.read().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0


def watch(
    driver: subprocess.Popen[str], run: Path, every: float, steps: int, end: str
) -> tuple[dict[int, Track], list]:
    """The tracks by process id, and every process that was seen."""
    tracks: dict[int, Track] = {}
    seen: dict[int, psutil.Process] = {}
    root, is_ended = psutil.Process(driver.pid), end == "finish"
    while driver.poll() is None:
        step = done(run)
        try:
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for process in processes:
            try:
                with process.oneshot():
                    track = tracks.setdefault(process.pid, Track(label(process)))
                    track.name = label(process)  # Ray names a worker after the call that it works on
                    track.megabytes.append(process.memory_full_info().uss / 1e6)
                    track.files.append(process.num_fds())
                    track.steps.append(step)
                seen.setdefault(process.pid, process)
            except psutil.Error:
                continue  # it ended meanwhile
        if not is_ended and step >= steps - 1:
            is_ended = True
            driver.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGKILL)
        time.sleep(every)
    return tracks, list(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--end", choices=("finish", "interrupt", "kill"), default="finish")
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--output", type=Path, help="keep the run's folder here, as soak; thrown away without it")
    parser.add_argument("--set", nargs="*", default=[], help="further settings of the run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or temporary
        run = Path(folder) / "soak"
        segments = set(SHARED.iterdir())
        command = [sys.executable, "-m", "rlcs.cli", "train", str(CONFIG), f"output_dir={folder}", "name=soak"]
        command += [f"train.steps={arguments.steps + (arguments.end != 'finish')}", *arguments.set]
        started = time.monotonic()
        with (Path(temporary) / "output").open("w") as output:
            driver = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
            tracks, seen = watch(driver, run, arguments.every, arguments.steps, arguments.end)
            code = driver.wait()
        ended = time.monotonic()
        deadline = ended + WAIT_S
        while time.monotonic() < deadline and any(process.is_running() for process in seen):
            time.sleep(0.5)
        gone_s = time.monotonic() - ended
        left = [process for process in seen if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        new = sorted(path.name for path in set(SHARED.iterdir()) - segments)
        last = done(run)
        if code and arguments.end == "finish":
            print((Path(temporary) / "output").read_text()[-2000:])
    print(f"{last} iterations in {time.monotonic() - started:.0f} s, exit code {code} ({arguments.end})")
    print("| process | MB after warm-up | MB at the end | MB an iteration | open files then | at the end |")
    print("|---|---|---|---|---|---|")
    counts: dict[str, int] = defaultdict(int)
    for track in tracks.values():
        steps, memory, files = track.after(max(1, last // 5))
        if len(steps) < 4 or steps[0] > last // 2 or steps[-1] < 0.9 * last:
            counts[track.name] += 1
            continue
        slope = np.polyfit(steps, memory, 1)[0]
        print(
            f"| {track.name} | {memory[:3].mean():.0f} | {memory[-3:].mean():.0f} | {slope:.4f} | {files[0]} | {files[-1]} |"
        )
    print(f"short-lived: {', '.join(f'{count} {name}' for name, count in sorted(counts.items())) or 'none'}")
    left_names = [label(process) for process in left] or "none"
    print(f"left behind {gone_s:.0f} s after the end: processes {left_names}, /dev/shm {new or 'nothing'}")
    for process in left:
        process.kill()


if __name__ == "__main__":
    main()
