"""What has become of the prompts, counted as the groups come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlcs.curricula.coverage import STATES, Coverage

_RATES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def counts(coverage: Coverage) -> dict[str, float]:
    return {name: coverage.metrics()[f"curriculum/prompts/{name}"] for name in STATES}


def test_a_prompt_is_mastered_forgotten_and_mastered_again() -> None:
    coverage = Coverage(3)
    row = np.asarray([1])
    seen = []
    for rate in (0.0, 0.5, 1.0, 0.75, 0.25, 1.0):
        coverage.observe(row, np.asarray([rate]))
        (state,) = [name for name in STATES if name != "never" and counts(coverage)[name]]
        seen.append(state)
    assert seen == ["wrong", "between", "mastered", "between", "forgotten", "mastered"]
    assert counts(coverage)["never"] == 2


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), _RATES), min_size=1, max_size=8), max_size=8))
def test_counts_are_those_of_each_prompts_own_history(observed: list[list[tuple[int, float]]]) -> None:
    coverage = Coverage(6)
    history: dict[int, list[float]] = {row: [] for row in range(6)}
    for groups in observed:
        rows, rates = zip(*groups, strict=True)
        coverage.observe(np.asarray(rows), np.asarray(rates))
        for row in set(rows):
            history[row].append(float(np.mean([rate for other, rate in groups if other == row])))
    expected = dict.fromkeys(STATES, 0)
    for rates_of in history.values():
        if not rates_of:
            expected["never"] += 1
        elif rates_of[-1] >= 1:
            expected["mastered"] += 1
        elif max(rates_of) >= 1 and rates_of[-1] < 0.5:
            expected["forgotten"] += 1
        else:
            expected["wrong" if rates_of[-1] <= 0 else "between"] += 1
    assert counts(coverage) == expected
    resumed = Coverage(6)
    resumed.load_state_dict(coverage.state_dict())
    assert counts(resumed) == expected
    resumed.load_state_dict({})  # saved by an older version
