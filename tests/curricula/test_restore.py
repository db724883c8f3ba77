"""A curriculum that has gone on goes back to a saved state as a new one does: `rlcs.recovery` relies on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, Observation, PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.curricula.uniform import Uniform
from rlcs.errors import CheckpointError

TABLE = PromptTable(
    tiers=np.arange(200, dtype=np.int8) % 5, domains=(np.arange(200) % 3).astype(np.int16), domain_names=["a", "b", "c"]
)


def go_on(curriculum: Curriculum, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(6):
        rows = curriculum.draw(curriculum.num_prompts(16))
        rates = rng.integers(0, 5, len(rows)) / 4
        degenerate = (rates == 0) | (rates == 1)
        curriculum.select(rates, degenerate, 16)
        curriculum.observe(Observation(rows, rates, degenerate, np.full(len(rows), 4)))
        drawn.append(rows)
    return drawn


@pytest.mark.parametrize("kind", ["rlcs", "posterior", "uniform", "easy_to_hard", "dapo"])
def test_a_state_that_was_changed_is_refused(kind: str) -> None:
    curriculum = load_curriculum(kind, TABLE, CurriculumConfig(kind=kind), seed=1)
    go_on(curriculum, 2)
    good = curriculum.state_dict()
    huge = good["sizes"].copy()
    huge[0] = 2**40
    for name, value in (("sizes", huge), ("members", good["members"] * 0), ("used", good["used"] - 2**40)):
        with pytest.raises(CheckpointError, match="does not have every prompt in one cell"):
            curriculum.load_state_dict(good | {name: value})
    for name in good:
        odd_values = [None, [], 10**30, np.zeros(7), float("nan")]
        if isinstance(good[name], np.ndarray) and good[name].dtype.kind == "f":
            odd_values += [good[name] * np.nan, good[name] * 0 + 1e200]
        for odd in odd_values:
            with pytest.raises(
                CheckpointError, match=f"'{name}' is of another kind|has .* prompts of domains|another version"
            ):
                curriculum.load_state_dict(good | {name: odd})
    curriculum.load_state_dict(good)


def equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other[name], err_msg=name)
        else:
            assert value == other[name], name


@pytest.mark.parametrize("kind", ["rlcs", "posterior", "uniform", "easy_to_hard", "dapo"])
def test_a_used_curriculum_goes_back_to_what_was_saved(kind: str) -> None:
    curriculum = load_curriculum(kind, TABLE, CurriculumConfig(kind=kind), seed=1)
    go_on(curriculum, 1)
    saved = {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in curriculum.state_dict().items()
    }
    first = go_on(curriculum, 2)
    ended = curriculum.state_dict()
    curriculum.load_state_dict(saved)
    equal(curriculum.state_dict(), saved)
    for one, other in zip(go_on(curriculum, 2), first, strict=True):
        np.testing.assert_array_equal(one, other)
    equal(curriculum.state_dict(), ended)


def test_a_curriculum_of_ones_own_keeps_parts_of_any_kind_and_size() -> None:
    class Own(Uniform):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.queue, self.best = np.zeros(0), None

        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"queue": self.queue, "best": self.best}

    curriculum = Own(TABLE, CurriculumConfig(kind="uniform"), 1)
    state = curriculum.state_dict() | {"queue": np.asarray([1.0, np.inf]), "best": 0.5}
    curriculum.load_state_dict(state)


def test_a_seed_of_any_size_resumes() -> None:
    for kind in ("posterior", "rlcs"):
        curriculum = load_curriculum(kind, TABLE, CurriculumConfig(kind=kind), seed=2**70 + 1)
        curriculum.load_state_dict(curriculum.state_dict())
