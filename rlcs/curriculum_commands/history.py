"""What is on disk of a run's curriculum: prompts, draws, and the state in the newest checkpoint.

Shapes: N training prompts in the curriculum's order, M groups drawn, ordered by iteration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.checkpoint import checkpoint_name, explain_damage, newest_curriculum
from rlcs.config import Config
from rlcs.config_loading import load_config
from rlcs.curricula.base import UNGRADED, Curriculum, PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.errors import CheckpointError, DataError, RLCSError, first_line, one_line
from rlcs.runlog import prompts_table, read_draws, read_metrics, read_prompts
from rlcs.types import Prompt

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class History:
    """A run's curriculum as its folder tells it."""

    run_dir: Path
    config: Config
    ids: Any
    """[N] Arrow strings."""
    table: PromptTable
    texts: Any
    """[N] Arrow strings: beginnings of the prompts, null where they were not kept."""
    rows: Rows
    """[M] the prompt of each group."""
    steps: Rows
    """[M] iterations."""
    pass_rates: Floats
    """[M]"""
    degenerate: NDArray[np.bool_]
    """[M]"""
    kept: NDArray[np.bool_]
    """[M] whether the group was learned from."""
    curriculum: Curriculum | None
    """As of the newest checkpoint; None if its state cannot be read."""
    checkpoint_step: int | None
    metrics: dict[str, Any]
    """The last iteration's."""
    notes: list[str]
    """What could not be read, in sentences."""

    @property
    def iterations(self) -> int:
        """Iterations whose draws were recorded."""
        return len(np.unique(self.steps))

    def id_of(self, row: int) -> str:
        """The id of a prompt."""
        return str(self.ids[int(row)].as_py())

    def find(self, prefix: str) -> int:
        """The row of the prompt whose id begins with `prefix`. Raises DataError if none does, or several do."""
        import pyarrow.compute as pc

        begins: NDArray[np.bool_] = pc.starts_with(self.ids, prefix).to_numpy(zero_copy_only=False)
        found = np.flatnonzero(begins) if prefix else np.empty(0, dtype=np.int64)
        exact = [row for row in found if self.id_of(row) == prefix]
        if len(exact) or len(found) == 1:
            return int([*exact, *found][0])
        if len(found) == 0:
            raise DataError(
                f"{self.run_dir}: no training prompt has an id that begins with {prefix!r}; ids are the column prompt_id "
                f"of the files in {self.run_dir / 'rollouts'}"
            )
        some = ", ".join(self.id_of(row) for row in found[:5])
        raise DataError(f"{self.run_dir}: {len(found)} prompts have ids that begin with {prefix!r} ({some}, ...)")


def load_history(run_dir: Path) -> History:
    """Read a run's folder.

    Raises:
        CheckpointError: `run_dir` is no run, or no iteration was recorded.
    """
    import pyarrow.compute as pc

    draws = read_draws(run_dir)
    config = load_config(run_dir / "config.yaml")
    notes: list[str] = []
    with _explained(run_dir):
        prompts, is_whole = _prompts(run_dir, config, draws, notes)
        ids, domains = (
            prompts["prompt_id"].combine_chunks().cast("string"),
            prompts["domain"].cast("string").fill_null(""),
        )
        names = pc.unique(domains).sort()
        table = PromptTable(
            prompts["tier"].fill_null(UNGRADED).to_numpy().astype(np.int8),
            pc.index_in(domains, names).to_numpy().astype(np.int16),
            names.to_pylist(),
        )
        rows = pc.index_in(draws["prompt_id"].cast("string"), ids)
        if rows.null_count:
            notes.append(f"{rows.null_count:,} groups are of prompts that the data no longer has; they are left out.")
            draws, rows = draws.filter(rows.is_valid()), rows.drop_null()
        drawn: dict[str, NDArray[Any]] = {
            "rows": rows.to_numpy().astype(np.int64),
            "steps": draws["step"].to_numpy().astype(np.int64),
            "pass_rates": draws["pass_rate"].to_numpy().astype(np.float64),
            "degenerate": np.asarray(draws["degenerate"].to_pylist(), dtype=bool),
            "kept": np.asarray(draws["kept"].to_pylist(), dtype=bool),
        }
    curriculum, step = _curriculum(run_dir, config, table, notes) if is_whole else (None, None)
    metrics = read_metrics(run_dir) if (run_dir / "metrics.jsonl").is_file() else []
    return History(
        run_dir=run_dir,
        config=config,
        ids=ids,
        table=table,
        texts=prompts["prompt"],
        curriculum=curriculum,
        checkpoint_step=step,
        metrics=metrics[-1] if metrics else {},
        notes=notes,
        **drawn,
    )


@contextmanager
def _explained(run_dir: Path) -> Iterator[None]:
    """Raise CheckpointError for tables whose columns are missing or hold something else than RLCS wrote."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the tables in {run_dir / 'curriculum'} are not what RLCS wrote ({first_line(error, typed=True)})"
        ) from error


def _prompts(run_dir: Path, config: Config, draws: Any, notes: list[str]) -> tuple[Any, bool]:
    """The Arrow table of the training prompts, as `read_prompts` gives it, and whether these are all of them."""
    import pyarrow as pa

    table = read_prompts(run_dir)
    if table is not None:
        return table, True
    try:
        return prompts_table(_load_prompts(config)), True
    except (RLCSError, ImportError) as error:
        notes.append(f"The run's data cannot be loaded ({error}): only prompts that were drawn are counted.")
    drawn = {row["prompt_id"]: row for row in draws.select(["prompt_id", "tier", "domain"]).to_pylist()}
    rows = [{**row, "prompt": None} for row in drawn.values()]
    schema = pa.schema(
        [("prompt_id", pa.string()), ("domain", pa.string()), ("tier", pa.int8()), ("prompt", pa.string())]
    )
    return pa.Table.from_pylist(rows, schema), False


def _load_prompts(config: Config) -> list[Prompt]:
    """The training prompts, from the run's data; for runs that kept no list of them."""
    logging.getLogger("rlcs.envs").setLevel(logging.WARNING)  # how prompts are made is not asked here
    if config.data.env is None:
        from rlcs.data import load_splits

        return load_splits(config.data, config.seed).train
    from rlcs.envs.base import build_splits, load_env

    return build_splits(load_env(config.data.env), config.data, config.seed).train


def _curriculum(
    run_dir: Path, config: Config, table: PromptTable, notes: list[str]
) -> tuple[Curriculum | None, int | None]:
    """The curriculum as it was saved last, and the iteration of that."""
    try:
        saved = newest_curriculum(run_dir)
        if saved is None:
            notes.append("There is no whole checkpoint yet: what the curriculum believes cannot be shown.")
            return None, None
        step, state = saved
        curriculum = load_curriculum(config.curriculum.kind, table, config.curriculum, config.seed)
        with explain_damage(run_dir / "checkpoints" / checkpoint_name(step)):
            curriculum.load_state_dict(state)
    except RLCSError as error:
        notes.append(f"What the curriculum believes cannot be shown ({one_line(error)}).")
        return None, None
    return curriculum, step
