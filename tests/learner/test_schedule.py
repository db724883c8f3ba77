from __future__ import annotations

import pytest

from rlcs.learner.schedule import learning_rate


def test_warm_up_is_linear_then_constant() -> None:
    rates = [learning_rate(1.0, i, warmup_steps=4, total_steps=10) for i in range(7)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_falls_to_zero_at_the_end(schedule: str) -> None:
    rates = [
        learning_rate(1.0, i, warmup_steps=2, total_steps=10, schedule=schedule)  # type: ignore[arg-type]
        for i in range(2, 11)
    ]
    assert rates[0] == 1.0 and rates[4] == pytest.approx(0.5) and rates[-1] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)
