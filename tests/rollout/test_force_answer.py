from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlcs.rollout.force_answer import ForceAnswer, Sampled, contains

CLOSE, OPEN = 7, 9
FORCE = ForceAnswer(budget=4, close=(CLOSE,), forced=(CLOSE, OPEN))


def sampled(tokens: list[int], *, is_cut: bool) -> Sampled:
    response = Sampled()
    response.extend(tokens, np.full(len(tokens), -0.5, np.float32), is_cut=is_cut)
    return response


def test_thinking_that_spent_its_budget_is_closed_and_the_answer_opened() -> None:
    response = sampled([1, 2, 3, 4], is_cut=True)
    inserted = FORCE.continuation(response, max_tokens=10)
    assert inserted == (CLOSE, OPEN)
    response.force(inserted)
    response.extend([5, 6], np.full(2, -0.25, np.float32), is_cut=False)
    assert response.token_ids == [1, 2, 3, 4, CLOSE, OPEN, 5, 6]
    assert response.loss_mask == [True] * 4 + [False] * 2 + [True] * 2
    assert response.logprobs == [-0.5] * 4 + [0.0] * 2 + [-0.25] * 2
    assert FORCE.continuation(response, max_tokens=10) is None


def test_an_answer_that_had_begun_goes_on_without_an_insertion() -> None:
    assert FORCE.continuation(sampled([1, CLOSE, OPEN, 5], is_cut=True), max_tokens=10) == ()


def test_a_response_that_ended_by_itself_is_finished() -> None:
    assert FORCE.continuation(sampled([1, 2], is_cut=False), max_tokens=10) is None


def test_nothing_is_inserted_where_no_room_is_left_for_an_answer() -> None:
    assert FORCE.continuation(sampled([1, 2, 3, 4], is_cut=True), max_tokens=6) is None
    assert FORCE.continuation(sampled([1, 2, 3, 4], is_cut=True), max_tokens=7) == (CLOSE, OPEN)


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_a_part_is_found_where_it_stands(tokens: list[int], part: list[int]) -> None:
    text, wanted = "".join(map(str, tokens)), "".join(map(str, part))
    assert contains(tokens, part) == (wanted in text)
