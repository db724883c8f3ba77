"""Copies of a run's checkpoints in other storage, by fsspec: s3://, gs://, az://, file:// and whatever else it knows.

`train.checkpoint_url` names a folder; a run is in URL/NAME as it is on the disk, without its rollouts:

    URL/NAME/config.yaml, metrics.jsonl, evaluations.jsonl, policy-init/ or policy-sft/
    URL/NAME/checkpoints/step-000025/...    manifest.json comes last and goes first: where it is, the rest is

Credentials are the storage's own affair (environment variables, configuration files, a machine's role).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rlcs.checkpoint import MANIFEST, Scores, checkpoint_name, find_damage, list_checkpoints, step_of, to_keep
from rlcs.config import Config
from rlcs.errors import CheckpointError, one_line

logger = logging.getLogger(__name__)

_SMALL_FILES = ("metrics.jsonl", "evaluations.jsonl", "faults.jsonl", "starts.jsonl", "wandb-id.txt")
_POLICIES = ("policy-init", "policy-sft")


class RemoteRun:
    """A run's folder in other storage, `url`.

    Every method raises CheckpointError where the storage cannot be reached, read or written.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._explained("opening"):
            import fsspec

            self._storage, root = fsspec.core.url_to_fs(self.url)
            self._root = root.rstrip("/")

    def open(self, run_dir: Path) -> None:
        """Put what a run begins with: its settings and its first policy, which is the reference of the KL penalty."""
        with self._explained("writing to"):
            for name in _POLICIES:
                folder = run_dir / name
                if folder.is_dir() and not self._storage.exists(self._path(name, "config.json")):
                    # The configuration last: where it is, the rest is.
                    for path in sorted(_files(folder), key=lambda path: path.name == "config.json"):
                        self._put(path, name, str(path.relative_to(folder)))
            self._put(run_dir / "config.yaml", "config.yaml")

    def publish(self, run_dir: Path, keep: Callable[[Iterable[int]], set[int]]) -> None:
        """Put the run's checkpoints that are not there yet, then remove those that `keep`, given all iterations, leaves out.

        Newer ones than the run's are removed too: it went back behind them.
        """
        own = list_checkpoints(run_dir)
        with self._explained("writing to"):
            for name in _SMALL_FILES:
                if (run_dir / name).is_file():
                    self._put(run_dir / name, name)
            for folder in own:
                if not self._is_whole(folder.name):
                    for path in sorted(_files(folder), key=lambda path: path.name == MANIFEST):
                        self._put(path, "checkpoints", folder.name, str(path.relative_to(folder)))
            names = [name for name in self._checkpoints() if own and name <= own[-1].name]
            kept = {checkpoint_name(step) for step in keep(step_of(Path(name)) for name in names)}
            for name in self._checkpoints():
                if name not in kept:
                    if self._is_whole(name):
                        self._storage.rm_file(self._path("checkpoints", name, MANIFEST))
                    self._storage.rm(self._path("checkpoints", name), recursive=True)

    def fetch_start(self, run_dir: Path) -> None:
        """Get what a run begins with, and its metrics, where `run_dir` lacks them."""
        with self._explained("reading"):
            if not self._storage.exists(self._path("config.yaml")):
                raise CheckpointError(f"{self.url} is no run's folder (it has no config.yaml)")
            run_dir.mkdir(parents=True, exist_ok=True)
            for name in _POLICIES:
                if self._storage.exists(self._path(name, "config.json")) and not (run_dir / name).exists():
                    self._get_folder((name,), run_dir / name)
            for name in (*_SMALL_FILES, "config.yaml"):
                if self._storage.exists(self._path(name)) and not (run_dir / name).exists():
                    self._get(self._path(name), run_dir / name)

    def fetch_newest(self, run_dir: Path, newer_than: int = -1) -> Path | None:
        """Get the newest whole checkpoint of an iteration after `newer_than`; None where there is none.

        Damaged ones are named and passed over.
        """
        with self._explained("reading"):
            for name in reversed(self._checkpoints()):
                if newer_than >= 0 and name <= checkpoint_name(newer_than):
                    break
                if not self._is_whole(name):
                    continue
                target = run_dir / "checkpoints" / name
                fetched = target.with_name(f".fetching-{name}")
                self._get_folder(("checkpoints", name), fetched)
                problem = find_damage(fetched)
                if problem is None:
                    shutil.rmtree(target, ignore_errors=True)
                    os.replace(fetched, target)
                    return target
                logger.warning("checkpoint %s/checkpoints/%s is passed over: %s", self.url, name, problem)
                shutil.rmtree(fetched)
            return None

    def read_config(self) -> bytes:
        """The text of the run's settings."""
        with self._explained("reading"):
            path = self._path("config.yaml")
            if not self._storage.exists(path):
                raise CheckpointError(f"{self.url} is no run's folder (it has no config.yaml)")
            return bytes(self._storage.cat_file(path))

    def _checkpoints(self) -> list[str]:
        """Names of the checkpoints that are there, oldest first, whole or not."""
        folder = self._path("checkpoints")
        if not self._storage.exists(folder):
            return []
        self._storage.invalidate_cache(folder)
        names = {PurePosixPath(path).name for path in self._storage.ls(folder, detail=False)}
        return sorted(name for name in names if name.startswith("step-"))

    def _is_whole(self, name: str) -> bool:
        return bool(self._storage.exists(self._path("checkpoints", name, MANIFEST)))

    def _get_folder(self, names: Sequence[str], target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        root = self._path(*names)
        for path in self._storage.find(root):
            relative = PurePosixPath(path).relative_to(root)
            if ".." in relative.parts:
                raise CheckpointError(f"{self.url}: {path} leads out of its folder")
            self._get(path, target / relative)

    def _get(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._storage.get_file(path, str(target))

    def _put(self, path: Path, *names: str) -> None:
        target = self._path(*names)
        self._storage.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._storage.put_file(str(path), target)

    def _path(self, *names: str) -> str:
        return "/".join([self._root, *names])

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Errors of a storage, which may be of any kind, as CheckpointError."""
        try:
            yield
        except CheckpointError:
            raise
        except ImportError as error:
            raise CheckpointError(f"train.checkpoint_url {self.url}: {one_line(error, typed=True)}") from error
        except Exception as error:
            raise CheckpointError(
                f"{doing} train.checkpoint_url {self.url} failed: {one_line(error, typed=True)}"
            ) from error


def remote_run(config: Config) -> RemoteRun | None:
    """The place of a run; None where no URL is configured."""
    url = config.train.checkpoint_url
    return RemoteRun(f"{url.rstrip('/')}/{config.name}") if url else None


def publisher(config: Config, run_dir: Path) -> Callable[[Scores], None] | None:
    """What copies the checkpoints of a run, given the scores of its policies; None where no URL is configured.

    A copy that fails is told and made up for with the next checkpoint: the run has its own.

    Raises:
        CheckpointError: the storage cannot be written to now, when the run begins.
    """
    remote = remote_run(config)
    if remote is None:
        return None
    remote.open(run_dir)

    def publish(scores: Scores) -> None:
        train = config.train
        try:
            remote.publish(run_dir, lambda steps: to_keep(steps, train.keep_last, train.keep_best, scores))
        except CheckpointError as error:
            logger.warning("%s; it is tried again with the next checkpoint", error)

    return publish


def fetch_run(url: str, note: Callable[[str], None]) -> Path:
    """Get a run whose copy is at `url`, all but its checkpoints, into the folder that its settings name.

    Raises:
        CheckpointError: there is none, or the storage cannot be read.
    """
    from rlcs.config_loading import load_config

    remote = RemoteRun(url)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(remote.read_config())
        run_dir = load_config(path).run_dir
    note(f"fetching {url} to {run_dir}")
    remote.fetch_start(run_dir)
    if remote.fetch_newest(run_dir, newer_than=_newest_step(run_dir)) is None and not list_checkpoints(run_dir):
        raise CheckpointError(f"{url} has no whole checkpoint: start the run anew under another name")
    return run_dir


def fetch_newer(config: Config, run_dir: Path, note: Callable[[str], None]) -> None:
    """Get the newest whole checkpoint of a run's copy where it is newer than what the folder has."""
    remote = remote_run(config)
    if remote is None:
        return
    found = remote.fetch_newest(run_dir, newer_than=_newest_step(run_dir))
    if found is not None:
        remote.fetch_start(run_dir)
        note(f"{found.name} was fetched from {remote.url}")


def _newest_step(run_dir: Path) -> int:
    """Of the whole checkpoints of a folder; -1 where there is none."""
    return next((step_of(folder) for folder in reversed(list_checkpoints(run_dir)) if find_damage(folder) is None), -1)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
