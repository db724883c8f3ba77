"""Joins the many small Parquet files of a long run into few, in the background, without a moment in which rows are lost.

A part is written beside and renamed before the files that it replaces are removed, so that a reader, or a run that goes
on after `kill -9`, finds every row once: `rlcs.run_files.step_files` leaves out what a part has too. The rows of an
iteration stay together in a part, in the order of iterations, so that one iteration is found by the statistics.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from rlcs.errors import CheckpointError
from rlcs.run_files import StepFile, finish_parquet, open_parquet, part_path, read_parquet, stamped, step_files

logger = logging.getLogger(__name__)

FILES_A_PART = 200
"""Iterations that are joined at a time."""
KEPT_LOOSE = 100
"""The newest iterations stay in files of their own, so that going on from a checkpoint is cheap."""
_ROW_GROUP = 4096
"""Rows after which a row group is ended, at the end of an iteration."""


class Compactor:
    """Compacts folders in a thread of its own, one at a time; `close` waits for what has begun."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start_if_due(self, folders: list[Path]) -> None:
        """Compact the folders that have enough files, unless a compaction is going on."""
        if self._thread is not None and self._thread.is_alive():
            return
        due = [folder for folder in folders if len(_loose(folder)) >= FILES_A_PART + KEPT_LOOSE]
        if due:
            self._thread = threading.Thread(target=_compact_all, args=(due,), name="rlcs-compaction", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the end of a compaction."""
        if self._thread is not None:
            self._thread.join()


def compact(folder: Path, *, files_a_part: int = FILES_A_PART, kept_loose: int = KEPT_LOOSE) -> int:
    """Join the oldest loose files of a folder, `files_a_part` at a time; returns how many parts were made."""
    made = 0
    while len(loose := _loose(folder)) >= files_a_part + kept_loose:
        _join(folder, loose[:files_a_part])
        made += 1
    return made


def cut_parts(folder: Path, step: int) -> None:
    """Remove the rows after iteration `step` from a folder's files; a part that has both is written anew."""
    for file in step_files(folder):
        if file.last <= step:
            continue
        if file.first <= step:
            table = read_parquet(file.path)
            import pyarrow.compute as pc

            _write_part(folder, file.first, step, [table.filter(pc.less_equal(table["step"], step))])
        file.path.unlink()


def _compact_all(folders: list[Path]) -> None:
    for folder in folders:
        try:
            compact(folder)
        except (OSError, CheckpointError) as error:
            # The run goes on: its small files are as good as the part that could not be made.
            logger.warning("%s was not compacted: %s", folder, error)


def _loose(folder: Path) -> list[StepFile]:
    return [file for file in step_files(folder) if file.first == file.last and file.path.name.startswith("step-")]


def _join(folder: Path, files: list[StepFile]) -> None:
    _write_part(folder, files[0].first, files[-1].last, [read_parquet(file.path) for file in files])
    for file in files:
        file.path.unlink()


def _write_part(folder: Path, first: int, last: int, tables: list[object]) -> None:
    """Write the Arrow tables of ascending iterations as one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = part_path(folder, first, last)
    beside = target.with_name(f"{target.name}.tmp")
    whole = pa.concat_tables(tables, promote_options="permissive")
    schema = whole.schema.with_metadata(stamped(whole.schema.metadata))
    with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        start = 0
        for end in _ends(whole["step"].to_numpy().tolist()):
            writer.write_table(whole.slice(start, end - start), row_group_size=end - start)
            start = end
    finish_parquet(beside, target)
    assert open_parquet(target).metadata.num_rows == whole.num_rows


def _ends(steps: list[int]) -> list[int]:
    """Where row groups end: at the first change of iteration after `_ROW_GROUP` rows."""
    ends, start = [], 0
    for row in range(1, len(steps)):
        if row - start >= _ROW_GROUP and steps[row] != steps[row - 1]:
            ends.append(row)
            start = row
    return [*ends, len(steps)]
