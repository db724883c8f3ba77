"""Curricula by name, and what all of them have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, PromptTable
from rlcs.curricula.loading import BUILTIN_CURRICULA, load_curriculum
from rlcs.errors import CheckpointError, ConfigError

MakeTable = Callable[..., PromptTable]
Run = Callable[..., list[NDArray[np.int64]]]
RATES = np.asarray([0.95, 0.7, 0.5, 0.1, 0.01])


@pytest.fixture(params=sorted(BUILTIN_CURRICULA))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def through_files(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The state after a trip through .npz and JSON."""
    arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    np.savez(folder / "state.npz", **arrays)
    scalars = json.loads(json.dumps({k: v for k, v in state.items() if k not in arrays}, allow_nan=False))
    assert all(isinstance(v, str | int | float | bool) for v in scalars.values())
    with np.load(folder / "state.npz", allow_pickle=False) as loaded:
        return scalars | {k: loaded[k] for k in loaded.files}


def test_a_resumed_curriculum_goes_on_exactly(
    kind: str, make_table: MakeTable, run: Run, config: CurriculumConfig, tmp_path: Path
) -> None:
    table = make_table(per_cell=30)

    def policy(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return RATES[table.tiers[rows]]

    whole = load_curriculum(kind, table, config, seed=3)
    run(whole, policy, steps=12, seed=5)
    whole.draw(whole.num_prompts(32))  # stopped in the middle of an iteration
    state = through_files(whole.state_dict(), tmp_path)
    expected = run(whole, policy, steps=8, seed=6)
    resumed = load_curriculum(kind, table, config, seed=99)
    resumed.load_state_dict(state)
    got = run(resumed, policy, steps=8, seed=6)
    assert [rows.tolist() for rows in got] == [rows.tolist() for rows in expected]
    assert resumed.metrics() == whole.metrics()


def test_a_saved_state_does_not_change_with_the_curriculum(
    kind: str, make_table: MakeTable, run: Run, config: CurriculumConfig
) -> None:
    table = make_table(per_cell=10)
    curriculum = load_curriculum(kind, table, config, seed=0)
    state = curriculum.state_dict()
    copy = {k: np.copy(v) for k, v in state.items()}
    run(curriculum, lambda rows: np.full(len(rows), 0.3), steps=5)
    for key, value in state.items():
        np.testing.assert_array_equal(value, copy[key], err_msg=key)


def test_a_state_of_another_dataset_is_refused(kind: str, make_table: MakeTable, config: CurriculumConfig) -> None:
    state = load_curriculum(kind, make_table(per_cell=10), config, seed=0).state_dict()
    with pytest.raises(CheckpointError, match="150 prompts"):
        load_curriculum(kind, make_table(per_cell=11), config, seed=0).load_state_dict(state)


def test_draws_are_distinct_rows(kind: str, make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    table = make_table(per_cell=5)
    curriculum = load_curriculum(kind, table, config, seed=0)
    for rows in run(curriculum, lambda rows: RATES[table.tiers[rows]], steps=20, batch_size=37):
        assert rows.dtype == np.int64 and len(set(rows.tolist())) == len(rows) >= 37
    assert sorted(curriculum.draw(75).tolist()) == list(range(75))
    assert np.bincount(curriculum.draw(80)).max() == 2


def test_metrics_have_short_names(kind: str, make_table: MakeTable, run: Run, config: CurriculumConfig) -> None:
    curriculum = load_curriculum(kind, make_table(per_cell=10), config, seed=0)
    run(curriculum, lambda rows: np.full(len(rows), 0.3), steps=2)
    assert curriculum.metrics() and all(name.startswith("curriculum/") for name in curriculum.metrics())


def test_a_curriculum_of_your_own_needs_draw_and_observe(
    tmp_path: Path, make_table: MakeTable, config: CurriculumConfig
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from rlcs.curricula.base import Curriculum\n"
        "class First(Curriculum):\n"
        "    def draw(self, n):\n"
        "        return np.arange(n) % len(self.table)\n"
        "    def observe(self, observation):\n"
        "        pass\n"
    )
    curriculum = load_curriculum(f"{file}:First", make_table(), config, seed=0)
    assert isinstance(curriculum, Curriculum)
    assert curriculum.draw(3).tolist() == [0, 1, 2]
    curriculum.load_state_dict(curriculum.state_dict())
    assert curriculum.num_prompts(7) == 7 and curriculum.metrics() == {}


def test_something_else_is_refused(tmp_path: Path, make_table: MakeTable, config: CurriculumConfig) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Other: pass\n")
    with pytest.raises(ConfigError, match="not a subclass"):
        load_curriculum(f"{file}:Other", make_table(), config, seed=0)
    with pytest.raises(ConfigError, match="uniform"):
        load_curriculum("unifrom", make_table(), config, seed=0)
