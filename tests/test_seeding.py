"""Random numbers depend on where in a run a piece of work stands, and on nothing else."""

from __future__ import annotations

import random

import numpy as np
import torch

from rlcs.seeding import position_of, seed_process


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def test_the_same_position_gives_the_same_numbers() -> None:
    seed_process(3, 10, 0, 1)
    first = draws()
    draws()
    seed_process(3, 10, 0, 1)
    assert draws() == first


def test_every_number_of_a_position_matters_for_every_generator() -> None:
    seen = []
    for position in ([0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0]):
        seed_process(*position)
        seen.append(draws())
    for values in zip(*seen[:4], strict=True):
        assert len(set(values)) == 4


def test_positions_of_texts() -> None:
    assert position_of(["a", "b"]) == position_of(iter(["a", "b"])) != position_of(["b", "a"])
    assert position_of(["\ud800"]) >= 0
