from __future__ import annotations

import numpy as np
import pytest

from rlcs.curricula.recalibration import NUM_BUCKETS, Kinds, Recalibration
from rlcs.errors import CheckpointError

UNSEEN, SEEN = 2, -1


def full(n: int, value: float) -> np.ndarray:
    return np.full(n, value)


def kinds(domains: np.ndarray, labels: np.ndarray, *, is_likely: bool = True) -> Kinds:
    return Kinds(domains, labels, np.full(len(domains), is_likely))


def test_expectations_stand_as_they_are_before_the_first_group() -> None:
    recalibration = Recalibration(3)
    assert recalibration.factors == pytest.approx(np.ones((3, NUM_BUCKETS)))
    expected = np.linspace(0, 1, 11)
    domains, labels = np.ones(11, np.int64), full(11, SEEN).astype(np.int64)
    assert recalibration.correct(kinds(domains, labels), expected) == pytest.approx(expected)


def test_prompts_that_promise_too_much_are_told_from_those_that_keep_their_promise() -> None:
    rng = np.random.default_rng(0)
    recalibration = Recalibration(1)
    zeros = np.zeros(64, np.int64)
    for _ in range(20):
        unseen = rng.random(64) < 0.05  # expected at 0.5, 0.05 turn out so
        recalibration.observe(kinds(zeros, zeros + UNSEEN), full(64, 0.5), unseen.astype(float))
        mixed = rng.random(64) < 0.7
        recalibration.observe(kinds(zeros, zeros + SEEN), full(64, 0.7), mixed.astype(float))
    two = np.zeros(2, np.int64)
    corrected = recalibration.correct(kinds(two, np.asarray([UNSEEN, SEEN])), np.asarray([0.5, 0.7]))
    assert corrected == pytest.approx([0.05, 0.7], abs=0.05)


def test_a_domain_without_groups_takes_the_factor_of_all_and_a_bucket_that_of_its_domain() -> None:
    recalibration = Recalibration(2)
    ones = np.ones(500, np.int64)
    recalibration.observe(kinds(ones, ones * UNSEEN), full(500, 0.8), full(500, 0.2))
    factors = recalibration.factors
    assert factors[1, UNSEEN] == pytest.approx(0.25, abs=0.02)
    assert factors[1, 0] == pytest.approx(0.25, abs=0.03)
    assert factors[0, 0] == pytest.approx(0.26, abs=0.03)


def test_what_is_always_right_is_told_from_what_is_always_wrong() -> None:
    recalibration = Recalibration(1)
    zeros, seen = np.zeros(200, np.int64), full(200, SEEN).astype(np.int64)
    recalibration.observe(kinds(zeros, seen, is_likely=True), full(200, 0.2), full(200, 0.4))
    recalibration.observe(kinds(zeros, seen, is_likely=False), full(200, 0.2), full(200, 0.1))
    right = recalibration.correct(kinds(zeros[:1], seen[:1], is_likely=True), full(1, 0.2))
    wrong = recalibration.correct(kinds(zeros[:1], seen[:1], is_likely=False), full(1, 0.2))
    assert [*right, *wrong] == pytest.approx([0.4, 0.1], abs=0.03)


def test_what_is_long_past_is_forgotten() -> None:
    recalibration = Recalibration(1)
    zeros = np.zeros(100, np.int64)
    recalibration.observe(kinds(zeros, zeros + UNSEEN), full(100, 0.5), full(100, 0.0))
    for _ in range(20):
        recalibration.observe(kinds(zeros, zeros + UNSEEN), full(100, 0.5), full(100, 0.5))
    assert recalibration.factors[0, UNSEEN] == pytest.approx(1, abs=0.02)


def test_a_resumed_one_corrects_alike() -> None:
    rng = np.random.default_rng(0)
    first, second = Recalibration(2), Recalibration(2)
    domains, labels = rng.integers(2, size=50), rng.integers(-1, 6, size=50)
    first.observe(Kinds(domains, labels, rng.random(50) < 0.5), rng.random(50), rng.random(50))
    second.load_state_dict("worth", first.state_dict("worth"))
    assert np.array_equal(first.factors, second.factors)


def test_factors_of_another_version_are_refused_in_one_line() -> None:
    state = Recalibration(2).state_dict("worth")
    with pytest.raises(CheckpointError, match="another version"):
        Recalibration(3).load_state_dict("worth", state)
    with pytest.raises(CheckpointError, match="another version"):
        Recalibration(2).load_state_dict("useful", state)
