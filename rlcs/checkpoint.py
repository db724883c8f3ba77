"""Checkpoints: written beside and renamed, with checksums; the newest whole one is found again.

checkpoints/step-000025/
  policy/           an ordinary Hugging Face model folder
  learner/          optimizer state (safetensors, JSON)
  curriculum.safetensors, curriculum.json   beliefs, expansion, position in the data, random state
  leftovers.safetensors, leftovers.json     groups that wait for the next update, where there are any
  rollouts.safetensors, rollouts.json       how long responses are expected to be
  state.json        counters
  manifest.json     SHA-256 of every file; its presence means that the checkpoint is whole
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlcs.errors import CheckpointError, first_line, one_line
from rlcs.json_text import parse_json

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ODD_CONTENT = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What reading a file raises whose content is not what was written."""
_ALWAYS = ("curriculum.json", "curriculum.safetensors", "state.json")
"""Files of every checkpoint."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SPARE_BYTES = 16 * 2**20
"""Left free for what else a run writes."""


@dataclass(slots=True)
class Progress:
    """The counters of a run."""

    step: int = 0
    """Iterations done."""
    generated_tokens: int = 0
    seconds: float = 0.0
    """Time spent in iterations, over all starts of the run."""
    learning_rate_factor: float = 1.0
    """What roll-backs (`health`) made of the learning rates."""
    roll_backs: int = 0


def save_checkpoint(
    run_dir: Path,
    progress: Progress,
    parts: Mapping[str, Mapping[str, Any]],
    write_policy: Callable[[Path], None],
    write_learner: Callable[[Path], None],
    *,
    keep_last: int,
) -> Path:
    """Write a checkpoint of this step whole or not at all, then remove all but the `keep_last` newest.

    `parts`: states of arrays and JSON values by the name of their files, `curriculum` among them. `write_policy` and
    `write_learner` fill a folder that does not exist yet.
    """
    staged = stage_checkpoint(run_dir, progress.step)
    write_policy(staged / "policy")
    write_learner(staged / "learner")
    target = complete_checkpoint(staged, progress, parts)
    remove_checkpoints(list_checkpoints(run_dir)[:-keep_last])
    return target


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint of an iteration; names are in the order of iterations."""
    return f"step-{step:06d}"


def stage_checkpoint(run_dir: Path, step: int) -> Path:
    """An empty folder to write a checkpoint to; what a crash left of others is removed."""
    folder = run_dir / "checkpoints"
    for left in folder.glob(".*-step-*"):
        shutil.rmtree(left, ignore_errors=True)
    staged = folder / f".writing-{checkpoint_name(step)}"
    staged.mkdir(parents=True)
    return staged


def complete_checkpoint(staged: Path, progress: Progress, parts: Mapping[str, Mapping[str, Any]]) -> Path:
    """Add what is missing to a staged checkpoint with its policy and learner, and give it its name: it is whole then."""
    for name, state in parts.items():
        save_arrays(staged / name, state)
    (staged / "state.json").write_text(json.dumps(asdict(progress)))
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT_VERSION,
        "step": progress.step,
        "sha256": {str(path.relative_to(staged)): _sha256(path) for path in files},
    }
    for path in files:
        _fsync(path)
    (staged / MANIFEST).write_text(json.dumps(manifest, indent=1))
    _fsync(staged / MANIFEST)
    for folder in {path.parent for path in files}:
        _fsync(folder)
    target = staged.with_name(checkpoint_name(progress.step))
    if target.exists():
        remove_checkpoints([target])
    os.replace(staged, target)
    _fsync(staged.parent)
    return target


def remove_checkpoints(folders: Iterable[Path]) -> None:
    """Remove checkpoints; one that a crash interrupts does not stay behind as a damaged one."""
    for folder in folders:
        aside = folder.with_name(f".removing-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        shutil.rmtree(aside)


Scores = Mapping[int, tuple[float, ...]]
"""How good the policies after some iterations are; more is better."""


def to_keep(steps: Iterable[int], keep_last: int, keep_best: int, scores: Scores) -> set[int]:
    """The iterations whose checkpoints stay: the newest, and those with the best `scores`.

    Of equal scores the later one counts as better.
    """
    ordered = sorted(steps)
    best = sorted((step for step in ordered if step in scores), key=lambda step: (scores[step], step))
    return {*ordered[-keep_last:], *(best[-keep_best:] if keep_best else [])}


def step_of(folder: Path) -> int:
    """The iteration of a checkpoint, by its name; -1 where it has another name."""
    match = re.fullmatch(r"step-(\d+)", folder.name)
    return int(match[1]) if match else -1


def check_room(folder: Path, num_bytes: int) -> None:
    """Check that a disk has room for a checkpoint.

    Raises:
        CheckpointError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes + _SPARE_BYTES:
        raise CheckpointError(
            f"a checkpoint takes {num_bytes / 2**30:.3g} GiB, and the disk is full but for {free / 2**30:.3g} GiB"
        )


def is_disk_full(error: BaseException | str) -> bool:
    """Whether an error, or its text, says that a disk or a quota is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("no space left", "disk is full", "quota exceeded", "os error 28", "errno 28"))


def explain_write_error(run_dir: Path, step: int, error: BaseException | str) -> CheckpointError:
    """The one line about a checkpoint that could not be written."""
    whole = list_checkpoints(run_dir)
    last = f"{whole[-1].name} is the last whole one" if whole else "there is none before it"
    cause = one_line(error)
    advice = "make room" if is_disk_full(error) else "mend that"
    return CheckpointError(
        f"the checkpoint of iteration {step} could not be written to {run_dir / 'checkpoints'} ({cause}); {last}: "
        f"{advice}, then go on with  rlcs train --resume {run_dir}"
    )


def list_checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, whole or damaged."""
    return sorted((run_dir / "checkpoints").glob("step-*"))


def latest_checkpoint(run_dir: Path) -> Path:
    """The newest whole checkpoint of a run; damaged ones are named and passed over.

    Raises:
        CheckpointError: there is no run, or it has no whole checkpoint.
    """
    if not (run_dir / "config.yaml").is_file():
        raise CheckpointError(f"{run_dir} is no run's folder (it has no config.yaml)")
    newest = newest_whole(list_checkpoints(run_dir))
    if newest is None:
        raise CheckpointError(f"{run_dir} has no whole checkpoint: start the run anew under another name")
    return newest


def newest_whole(folders: Sequence[Path]) -> Path | None:
    """The last of some checkpoints, oldest first, that is whole, or None; damaged ones after it are named in the log."""
    for folder in reversed(folders):
        problem = find_damage(folder)
        if problem is None:
            return folder
        logger.warning("checkpoint %s is passed over: %s", folder, problem)
    return None


def newest_curriculum(run_dir: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint whose curriculum is whole, or None; for readers of a run that goes on."""
    for folder in reversed(list_checkpoints(run_dir)):
        if find_damage(folder, "curriculum.") is None:
            try:
                return load_progress(folder).step, load_arrays(folder / "curriculum")
            except FileNotFoundError:
                continue  # removed meanwhile, as a newer one was written
    return None


def find_damage(folder: Path, prefix: str = "") -> str | None:
    """What is wrong with a checkpoint, or with its files whose names begin with `prefix`; or None."""
    try:
        manifest = parse_json((folder / MANIFEST).read_bytes())
        checksums, version = manifest["sha256"], manifest["format"]
        if not isinstance(checksums, dict):
            raise TypeError("no checksums by file")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} cannot be read ({first_line(error)})"
    if version != FORMAT_VERSION:
        return f"its format is {version}, this version of RLCS reads {FORMAT_VERSION}"
    for name, checksum in {**dict.fromkeys(_ALWAYS), **checksums}.items():
        if not name.startswith(prefix):
            continue
        try:
            if not (folder / name).is_file():
                return f"{name[:100]} is missing"
            if _sha256(folder / name) != checksum:
                return f"{name} is damaged"
        except (OSError, ValueError) as error:  # a disk that fails, a name that none can have
            return f"{name[:100]} cannot be read ({first_line(error)})"
    return None


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Raise CheckpointError, which names `path`, for whatever using it raises whose content is not what RLCS wrote.

    Checksums find what a disk or a crash damaged; this is for files that somebody changed, sums and all.
    """
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise
    except (*ODD_CONTENT, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not what this version of RLCS wrote ({first_line(error, typed=True)}); remove that checkpoint, "
            "and the one before it is used"
        ) from error


def load_progress(folder: Path) -> Progress:
    """The counters saved in a checkpoint.

    Raises:
        CheckpointError: the file holds something else.
    """
    from pydantic import TypeAdapter

    path = folder / "state.json"
    with explain_damage(path):
        progress = TypeAdapter(Progress).validate_python(parse_json(path.read_bytes()))
        if progress.step != step_of(folder) and step_of(folder) >= 0:
            raise ValueError(f"it is of iteration {progress.step}")
        if not (math.isfinite(progress.learning_rate_factor) and progress.learning_rate_factor > 0):
            raise ValueError(f"learning_rate_factor is {progress.learning_rate_factor}")
        return progress


def save_arrays(stem: Path, state: Mapping[str, Any]) -> None:
    """Write a state of numpy arrays and JSON values as STEM.safetensors and STEM.json."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(value) for name, value in state.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in state.items() if name not in arrays}
    save_file(arrays, str(stem.with_suffix(".safetensors")))
    stem.with_suffix(".json").write_text(json.dumps(rest))


def load_arrays(stem: Path) -> dict[str, Any]:
    """What `save_arrays` wrote.

    Raises:
        CheckpointError: a file is damaged.
    """
    from safetensors.numpy import load_file

    values = stem.with_suffix(".json")
    with explain_damage(values):
        state = dict(json.loads(values.read_text()))
    arrays = stem.with_suffix(".safetensors")
    with explain_damage(arrays):
        return state | load_file(str(arrays))


def load_part(folder: Path, name: str) -> dict[str, Any] | None:
    """A state of a checkpoint; None where it has none of that name, as older ones may."""
    return load_arrays(folder / name) if (folder / f"{name}.json").is_file() else None


def explain_full_disk(run_dir: Path, error: OSError) -> CheckpointError:
    """The one line about a disk that is full while a run writes something else than a checkpoint."""
    whole = list_checkpoints(run_dir)
    last = f"{whole[-1].name} is its newest checkpoint" if whole else "it has no checkpoint yet"
    return CheckpointError(
        f"{run_dir} cannot be written to ({error.strerror or error}); {last}: make room, then go on with  rlcs train "
        f"--resume {run_dir}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
