"""The verifiers of reasoning-gym's tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlcs.response_format import render_response
from rlcs.rewards.reasoning_gym import ReasoningGym
from rlcs.rewards.reasoning_gym_verifiers import OWN_VERIFIERS
from rlcs.types import Score


@pytest.fixture(scope="module")
def reward() -> Iterator[ReasoningGym]:
    reward = ReasoningGym()
    reward.setup()
    yield reward
    reward.close()


def entry_of(task: str, seed: int = 3) -> dict[str, Any]:
    import reasoning_gym

    entry: dict[str, Any] = json.loads(
        json.dumps(reasoning_gym.create_dataset(task, size=1, seed=seed)[0], default=str)
    )
    return entry


def score(reward: ReasoningGym, task: str, entry: dict[str, Any], answer: str) -> Score:
    found = reward.score(render_response("", answer), entry["answer"], task=task, entry=entry)
    assert found is not None
    return found


@pytest.mark.parametrize("task", ["chain_sum", "products", "spell_backward", "letter_counting", *sorted(OWN_VERIFIERS)])
def test_the_reference_is_right_and_nonsense_is_wrong(reward: ReasoningGym, task: str) -> None:
    entry = entry_of(task)
    assert score(reward, task, entry, entry["answer"]).correct
    for nonsense in ("zzz", "nan", "-987654321", "[]"):
        found = score(reward, task, entry, nonsense)
        assert (found.value, found.correct) == (0.0, False), nonsense


def test_partial_credit_is_off_unless_asked_for(reward: ReasoningGym) -> None:
    entry = entry_of("spell_backward")
    nearly = entry["answer"][:-1] + "#"
    assert score(reward, "spell_backward", entry, nearly).value == 0.0
    generous = ReasoningGym(partial_credit=True)
    found = score(generous, "spell_backward", entry, nearly)
    generous.close()
    assert 0.0 < found.value < 1.0 and found.correct is False


@pytest.mark.parametrize("task", sorted(OWN_VERIFIERS))
def test_no_verifier_runs_the_answer(reward: ReasoningGym, task: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    attack = f"[open('{marker}','w').close() for _ in '1']"
    for answer in (attack, f"__import__('pathlib').Path('{marker}').touch()"):
        assert score(reward, task, entry_of(task), answer).value == 0.0
    assert not marker.exists()


def test_no_verifier_of_the_package_that_evaluates_answers_is_in_use() -> None:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    folder = Path(reasoning_gym.__file__).parent
    for task, (cls, _) in DATASETS.items():
        path = folder.parent / (cls.__module__.replace(".", "/") + ".py")
        evaluates = [needle for needle in ("eval(answer", "parse_expr(answer") if needle in path.read_text()]
        assert not evaluates or task in OWN_VERIFIERS, f"{task} needs a verifier of our own: {evaluates}"


def test_equivalent_answers_are_right_where_the_task_has_several() -> None:
    numbers = {"numbers": [4, 6, 2, 10], "target": 24}
    entry = {"answer": "4*6*(10-9)", "metadata": numbers}
    own = OWN_VERIFIERS
    assert own["countdown"]("(10+2)*(6-4)", entry)
    assert own["puzzle24"]("(2 + 10) * (6 - 4)", entry)
    assert not own["puzzle24"]("6+6+6+6", entry)
    assert not own["countdown"]("24", entry)
    assert not own["countdown"]("(10+2)*(6-4)+0", entry)
    integral = {"answer": "x**3 + C", "metadata": {"variable": "x", "integrand": "3*x**2"}}
    assert own["simple_integration"]("x^3 + 7", integral)
    assert not own["simple_integration"]("x^3 + x", integral)


def test_an_answer_that_stops_a_verifier_is_cut_off_and_counted() -> None:
    reward = ReasoningGym(timeout_s=0.5)
    entry = entry_of("coin_flip")
    reward.score(render_response("", "1/2 "), "1/3", task="coin_flip", entry=entry)
    reward.take_counts()
    found = score(reward, "coin_flip", entry, "1e999999999")
    assert found.value == 0.0 and "timed out" in found.detail
    assert reward.take_counts() == {"timeouts": 1}
    reward.close()


def test_prompts_that_cannot_be_scored_are_found_before_training(reward: ReasoningGym) -> None:
    assert "metadata columns" in str(reward.validate("7"))
    assert "composite" in str(reward.validate("7", task="composite", entry={"answer": "7", "metadata": {}}))
    assert reward.validate("7", task="chain_sum", entry={"answer": "7", "metadata": {}}) is None
