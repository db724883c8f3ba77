"""The draws and responses of one run, asked with SQL: an in-memory DuckDB that follows the run's Parquet files.

Draws (some 40 bytes a group) are kept in memory and grow with the run. Responses stay in their files; only the columns
and iterations that a question needs are read. Nothing is written to the run's folder.

Tables: `draws` (step, prompt_id, domain, tier, pass_rate, predicted, num_responses, degenerate, kept) and, once
`with_prompts` was asked for, `prompts` (row, prompt_id, domain, tier); after `with_drawn` also `drawn`, a row a prompt that
was drawn: n, last_step, last_rate, predicted, best, and `mean`, the pass rate over its last three groups (m responses).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from rlcs.errors import CheckpointError, first_line
from rlcs.runlog import PROMPTS_FILE, StepFile, explain_parquet, open_parquet, read_parquet, step_files

MEMORY_LIMIT = "300MB"
_DRAWS = (
    "step",
    "prompt_id",
    "domain",
    "tier",
    "pass_rate",
    "predicted_pass_rate",
    "num_responses",
    "degenerate",
    "kept",
)

Rows = list[dict[str, Any]]


_DRAWN = """
    CREATE OR REPLACE TABLE drawn AS
    WITH recent AS (
        SELECT prompt_id, sum(pass_rate * num_responses) AS r, sum(num_responses) AS m FROM (
            SELECT *, row_number() OVER (PARTITION BY prompt_id ORDER BY step DESC) AS age FROM draws
        ) WHERE age <= 3 GROUP BY prompt_id
    ), counted AS (
        SELECT prompt_id, any_value(domain) AS domain, any_value(tier) AS tier, count(*) AS n, max(step) AS last_step,
            arg_max(pass_rate, step) AS last_rate, arg_max(predicted, step) AS predicted, max(pass_rate) AS best
        FROM draws GROUP BY prompt_id
    )
    SELECT counted.*, (r + 1) / (m + 2) AS mean, m FROM counted JOIN recent USING (prompt_id)
"""


class Database:
    """Questions to a run's Parquet files. Safe to use from several threads."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir
        self._lock = threading.Lock()
        self._catching_up = threading.Lock()
        self._is_stale, self._is_anew = True, False
        self._con = duckdb.connect(config={"threads": 2, "memory_limit": MEMORY_LIMIT})
        self._damaged: dict[Path, str] = {}
        self._loaded = 0  # the last iteration whose draws are in the table
        self._drawn_at = -1  # the last iteration that the table `drawn` knows
        self._has_prompts = False
        self._make_tables()

    @property
    def notes(self) -> list[str]:
        """Files that cannot be read, in sentences."""
        return list(self._damaged.values())

    def refresh(self, *, anew: bool) -> None:
        """Let the next question see what was drawn since; `anew`: read all of it again, after a run went back."""
        self._is_stale = True
        self._is_anew = self._is_anew or anew

    def _catch_up(self) -> None:
        """Read the draws that came since the last question."""
        with self._catching_up:
            if not self._is_stale:
                return
            self._is_stale = False
            files = step_files(self._dir / "curriculum")
            if self._is_anew or (files and files[-1].last < self._loaded):
                self._is_anew = False
                with self._lock:
                    self._con.execute("DROP TABLE draws")
                    self._loaded, self._drawn_at = 0, -1
                    self._damaged.clear()
                    self._make_tables()
            for file in files:
                if file.last > self._loaded:
                    self._load(file)
                    self._loaded = file.last

    def ask(self, sql: str, *parameters: Any) -> Rows:
        """The rows of a question about draws and prompts, as dicts."""
        self._catch_up()
        return self._rows(sql, parameters)

    def _rows(self, sql: str, parameters: Sequence[Any]) -> Rows:
        cursor = self._con.cursor()
        try:
            cursor.execute(sql, list(parameters))
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def arrays(self, sql: str, *parameters: Any) -> dict[str, Any]:
        """The columns of a question about draws, as numpy arrays."""
        self._catch_up()
        cursor = self._con.cursor()
        try:
            return dict(cursor.execute(sql, list(parameters)).fetchnumpy())
        finally:
            cursor.close()

    def with_prompts(self) -> bool:
        """Load the table of prompts if that is not done; False where the run kept no list of them."""
        path = self._dir / "curriculum" / PROMPTS_FILE
        with self._lock:
            if self._has_prompts:
                return True
            if not path.is_file():
                return False
            self._has_prompts = self._insert(
                path,
                ["prompt_id", "domain", "tier"],
                "CREATE OR REPLACE TABLE prompts AS SELECT row_number() OVER () - 1 AS row, prompt_id,"
                " domain::VARCHAR AS domain, tier::TINYINT AS tier FROM new_rows",
            )
            return self._has_prompts

    def with_drawn(self) -> None:
        """Bring the table `drawn` up to date: what the draws say of each prompt."""
        self._catch_up()
        with self._lock:
            if self._drawn_at == self._loaded:
                return
            self._con.execute(_DRAWN)
            self._drawn_at = self._loaded

    def prompt_texts(self, rows: Sequence[int]) -> dict[int, str | None]:
        """The beginnings of the texts of prompts by their row in the list; only the row groups with them are read."""
        path = self._dir / "curriculum" / PROMPTS_FILE
        if not rows or not path.is_file():
            return {}
        found: dict[int, str | None] = {}
        start = 0
        try:
            file = open_parquet(path)
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                wanted = [row for row in rows if start <= row < end]
                if wanted:
                    with explain_parquet(path):
                        texts = file.read_row_group(group, columns=["prompt"])["prompt"]
                        found |= {row: texts[row - start].as_py() for row in wanted}
                start = end
        except (CheckpointError, KeyError) as error:
            self._damaged[path] = str(error)
        return found

    def rollout_files(self, first: int = 0, last: int | None = None) -> list[StepFile]:
        """The files with responses of iterations `first` to `last`."""
        files = step_files(self._dir / "rollouts")
        return [file for file in files if file.last >= first and (last is None or file.first <= last)]

    def rollouts(self, columns: str, where: str, parameters: Sequence[Any], files: Sequence[StepFile]) -> Rows:
        """Columns of the responses in `files` for which a condition holds.

        A file that is gone, because it was compacted meanwhile, or is damaged is left out.
        """
        for attempt in range(2):
            paths = [_literal(file.path) for file in files if file.path not in self._damaged and file.path.exists()]
            if not paths:
                return []
            sql = f"SELECT {columns} FROM read_parquet(?, union_by_name=true) WHERE {where}"  # nosec B608 # noqa: S608
            try:
                return self._rows(sql, [paths, *parameters])
            except duckdb.Error as error:
                if attempt:
                    raise CheckpointError(
                        f"the responses of {self._dir.name} cannot be read ({first_line(error)})"
                    ) from error
                for file in files:
                    self._try(file.path, sql, parameters)
        return []

    def has_columns(self, file: StepFile) -> set[str]:
        """The columns of a file; none where it cannot be read."""
        try:
            return set(open_parquet(file.path).schema_arrow.names)
        except (CheckpointError, FileNotFoundError):
            return set()

    def _make_tables(self) -> None:
        self._con.execute(
            "CREATE TABLE draws (step INTEGER, prompt_id VARCHAR, domain VARCHAR, tier TINYINT, pass_rate FLOAT,"
            " predicted FLOAT, num_responses INTEGER, degenerate BOOLEAN, kept BOOLEAN)"
        )

    def _load(self, file: StepFile) -> None:
        predicted = "predicted_pass_rate" if "predicted_pass_rate" in self.has_columns(file) else "NULL"
        with self._lock:
            self._insert(
                file.path,
                _DRAWS,
                "INSERT INTO draws SELECT step, prompt_id, domain, tier, pass_rate, "  # nosec B608 # noqa: S608
                f"{predicted}, num_responses, degenerate, kept FROM new_rows WHERE step > ?",
                [self._loaded],
            )

    def _insert(self, path: Path, columns: Sequence[str], sql: str, parameters: Sequence[Any] = ()) -> bool:
        """Take the rows of a file, `new_rows`, into a table; False where it is damaged or was compacted meanwhile."""
        try:
            self._con.register("new_rows", read_parquet(path, list(columns)))
            self._con.execute(sql, list(parameters))
            self._con.unregister("new_rows")
        except FileNotFoundError:
            return False  # the part is read at the next refresh
        except CheckpointError as error:
            self._damaged[path] = str(error)
            return False
        except duckdb.Error as error:
            self._damaged[path] = _cannot_be_read(path, error)
            return False
        return True

    def _try(self, path: Path, sql: str, parameters: Sequence[Any]) -> None:
        """Note a file over which a question fails, though it is asked alone."""
        if path in self._damaged or not path.exists():
            return
        try:
            self._rows(sql, [[_literal(path)], *parameters])
        except duckdb.Error as error:
            self._damaged[path] = _cannot_be_read(path, error)


def _cannot_be_read(path: Path, error: duckdb.Error) -> str:
    return f"{path} cannot be read ({first_line(error)}): remove the file"


def _literal(path: Path) -> str:
    """The path for DuckDB, which would take `*`, `?` and `[` for patterns."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))
