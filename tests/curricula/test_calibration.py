from __future__ import annotations

import numpy as np
import pytest

from rlcs.curricula.calibration import Calibration, calibration_error


def test_calibration_error_by_hand() -> None:
    predicted, observed = np.asarray([0.05, 0.05, 0.95, 0.95]), np.asarray([0.0, 0.0, 1.0, 0.5])
    assert calibration_error(predicted, observed) == pytest.approx((0.1 + 0.4) / 4)
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0)))


def test_perfect_predictions_have_no_error_whatever_the_luck_of_single_groups() -> None:
    rng = np.random.default_rng(0)
    calibration = Calibration()
    for _ in range(200):
        predicted = rng.uniform(size=64)
        calibration.observe(predicted, rng.binomial(8, predicted) / 8)
    assert calibration.error < 0.02
    assert calibration.metrics()["curriculum/brier"] == pytest.approx(1 / 6 / 8, abs=0.01)  # E[p(1-p)] / G


def test_the_error_forgets_what_is_long_past() -> None:
    calibration = Calibration()
    calibration.observe(np.full(64, 0.9), np.zeros(64))
    assert calibration.error == pytest.approx(0.9)
    for _ in range(400):
        calibration.observe(np.full(64, 0.5), np.full(64, 0.5))
    assert calibration.error < 0.001


def test_nothing_is_said_before_the_first_group() -> None:
    calibration = Calibration()
    calibration.observe(np.zeros(0), np.zeros(0))
    assert np.isnan(calibration.error) and calibration.metrics() == {}


def test_a_resumed_one_goes_on_alike() -> None:
    rng = np.random.default_rng(1)
    first, second = Calibration(), Calibration()
    first.observe(rng.uniform(size=8), rng.uniform(size=8))
    second.load_state_dict(first.state_dict())
    predicted, observed = rng.uniform(size=8), rng.uniform(size=8)
    first.observe(predicted, observed)
    second.observe(predicted, observed)
    assert first.metrics() == second.metrics()
