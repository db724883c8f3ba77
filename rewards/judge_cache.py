"""Verdicts that were given before: the latest in memory, all of them in a file where one is named.

The file is an SQLite data base, so that several scoring actors, and several runs, share it. Its rollback journal (not
WAL) also works where the file lies on a network share. A cache that fails during a run costs questions, not the run.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from rlcs.errors import RewardError

logger = logging.getLogger(__name__)

_BUSY_S = 20.0
"""How long one process waits for another's transaction."""
_CHUNK = 500
"""Keys in one query; SQLite limits the number of parameters."""


class VerdictCache:
    """Texts by key, in memory and on disk. Safe for several threads; the file for several processes.

    Args:
        path: the file, made if it is not there; None keeps verdicts in memory only.
        memory: verdicts kept in memory.

    Raises:
        RewardError: the file cannot be made, or is something else.
    """

    def __init__(self, path: str | Path | None = None, *, memory: int = 100_000) -> None:
        self._path = path
        self._limit = memory
        self._memory: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(
                Path(path).expanduser(), timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT) WITHOUT ROWID")
            self._file.execute("SELECT key, verdict FROM verdicts LIMIT 1").fetchall()
        except (OSError, ValueError, sqlite3.Error) as error:
            self.close()
            raise RewardError(
                f"reward.judge.cache: {path} is no file of verdicts and cannot be made one ({error}); name another"
            ) from error

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        """The known texts of `keys`."""
        with self._lock:
            found: dict[str, str] = {}
            missing: list[str] = []
            for key in dict.fromkeys(keys):
                if key in self._memory:
                    self._memory.move_to_end(key)
                    found[key] = self._memory[key]
                else:
                    missing.append(key)
            stored = self._read(missing)
            self._remember(stored)
        return found | stored

    def put_many(self, texts: Mapping[str, str]) -> None:
        """Keep texts by key."""
        if not texts:
            return
        with self._lock:
            self._remember(texts)
            if self._file is None:
                return
            try:
                self._file.execute("BEGIN IMMEDIATE")
                self._file.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", texts.items())
                self._file.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):  # there may be no transaction to end
                    self._file.execute("ROLLBACK")
                logger.warning("judge: %d verdicts were not kept in %s: %s", len(texts), self._path, error)

    def close(self) -> None:
        """Close the file. May be called more than once."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _read(self, keys: list[str]) -> dict[str, str]:
        stored: dict[str, str] = {}
        if self._file is None:
            return stored
        try:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                stored |= dict(
                    self._file.execute(f"SELECT key, verdict FROM verdicts WHERE key IN ({marks})", chunk)  # nosec B608 # noqa: S608
                )
        except sqlite3.Error as error:
            logger.warning("judge: verdicts in %s cannot be read: %s", self._path, error)
        return {key: text for key, text in stored.items() if isinstance(text, str)}

    def _remember(self, texts: Mapping[str, str]) -> None:
        for key, text in texts.items():
            self._memory[key] = text
            self._memory.move_to_end(key)
        while len(self._memory) > self._limit:
            self._memory.popitem(last=False)
