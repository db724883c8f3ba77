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

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlcs.errors import CheckpointError

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_MANIFEST = "manifest.json"


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
    folder = run_dir / "checkpoints"
    target = folder / f"step-{progress.step:06d}"
    beside = folder / f".writing-{target.name}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    write_policy(beside / "policy")
    write_learner(beside / "learner")
    for name, state in parts.items():
        save_arrays(beside / name, state)
    (beside / "state.json").write_text(json.dumps(asdict(progress)))
    files = sorted(path for path in beside.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT_VERSION,
        "step": progress.step,
        "sha256": {str(path.relative_to(beside)): _sha256(path) for path in files},
    }
    for path in files:
        _fsync(path)
    (beside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    _fsync(beside / _MANIFEST)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(beside, target)
    _fsync(folder)
    for old in list_checkpoints(run_dir)[:-keep_last]:
        shutil.rmtree(old)
    return target


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
    for folder in reversed(list_checkpoints(run_dir)):
        problem = find_damage(folder)
        if problem is None:
            return folder
        logger.warning("checkpoint %s is passed over: %s", folder, problem)
    raise CheckpointError(f"{run_dir} has no whole checkpoint: start the run anew under another name")


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
        manifest = json.loads((folder / _MANIFEST).read_text())
        checksums: dict[str, str] = manifest["sha256"]
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {_MANIFEST} cannot be read ({error})"
    if version != FORMAT_VERSION:
        return f"its format is {version}, this version of RLCS reads {FORMAT_VERSION}"
    for name, checksum in checksums.items():
        if not name.startswith(prefix):
            continue
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _sha256(path) != checksum:
            return f"{name} is damaged"
    return None


def load_progress(folder: Path) -> Progress:
    """The counters saved in a checkpoint."""
    return Progress(**json.loads((folder / "state.json").read_text()))


def save_arrays(stem: Path, state: Mapping[str, Any]) -> None:
    """Write a state of numpy arrays and JSON values as STEM.safetensors and STEM.json."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(value) for name, value in state.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in state.items() if name not in arrays}
    save_file(arrays, str(stem.with_suffix(".safetensors")))
    stem.with_suffix(".json").write_text(json.dumps(rest))


def load_arrays(stem: Path) -> dict[str, Any]:
    """What `save_arrays` wrote."""
    from safetensors.numpy import load_file

    return {**json.loads(stem.with_suffix(".json").read_text()), **load_file(str(stem.with_suffix(".safetensors")))}


def load_part(folder: Path, name: str) -> dict[str, Any] | None:
    """A state of a checkpoint; None where it has none of that name, as older ones may."""
    return load_arrays(folder / name) if (folder / f"{name}.json").is_file() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
