"""Draw and discard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import PromptTable
from rlcs.curricula.dapo import DAPO


def test_redraws_until_the_batch_is_full(make_table: Callable[..., PromptTable], config: CurriculumConfig) -> None:
    curriculum = DAPO(make_table(), config, seed=0)
    assert curriculum.redraw(32, 31) == 32
    assert curriculum.redraw(32, 32) == 0


def test_keeps_the_first_groups_with_a_signal(make_table: Callable[..., PromptTable], config: CurriculumConfig) -> None:
    curriculum = DAPO(make_table(), config, seed=0)
    degenerate = np.asarray([True, False, False, True, False])
    assert curriculum.select(np.full(5, 0.5), degenerate, 2).tolist() == [1, 2]
    assert curriculum.select(np.full(5, 0.5), degenerate, 4).tolist() == [0, 1, 2, 4]
