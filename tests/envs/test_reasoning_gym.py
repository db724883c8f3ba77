"""The reasoning-gym environment: levels as tiers, splits that never overlap, worked solutions that are right."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlcs.config import DataConfig
from rlcs.envs.base import Environment, WorkedSolution, build_solutions, build_splits, level_tier, load_env
from rlcs.envs.reasoning_gym import LEVELS, ReasoningGymEnv
from rlcs.errors import ConfigError
from rlcs.types import Prompt, prompt_id

ENV = ReasoningGymEnv()


def data_config(*tasks: str | dict[str, Any], **options: Any) -> DataConfig:
    named = [{"task": task} if isinstance(task, str) else task for task in tasks]
    return DataConfig(env="reasoning_gym", tasks=named, **{"train_per_level": 20, "eval_per_level": 5, **options})


def make(task: str, params: dict[str, Any], count: int, seed: int = 0) -> list[Prompt]:
    return list(itertools.islice(ENV.generate(task, params, domain=task, tier=2, seed=seed), count))


def refusal(task: str, params: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        make(task, params, 1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Prompts


@pytest.mark.parametrize("task", LEVELS)
def test_same_seed_gives_the_same_prompts_and_another_gives_others(task: str) -> None:
    params = LEVELS[task][3]
    first = make(task, params, 8, seed=1)
    assert first == make(task, params, 8, seed=1)
    assert first != make(task, params, 8, seed=2)
    for prompt in first:
        assert prompt.id == prompt_id(prompt.messages, prompt.answer)
        assert (prompt.domain, prompt.tier) == (task, 2)
        assert json.loads(json.dumps(prompt.metadata)) == prompt.metadata, "JSON keeps it as it is"


@pytest.mark.parametrize("task", LEVELS)
def test_verifier_accepts_the_reference_and_the_worked_solution(task: str) -> None:
    import reasoning_gym

    verifier = reasoning_gym.create_dataset(task, size=1, seed=0)
    for params in LEVELS[task]:
        for prompt in make(task, params, 5):
            solution = ENV.solve(prompt)
            assert solution is not None and solution.thinking
            for answer in (prompt.answer, solution.answer):
                assert verifier.score_answer(answer, prompt.metadata["entry"]) == 1.0


@pytest.mark.parametrize("task", ["chain_sum", "basic_arithmetic", "products"])
def test_running_totals_of_the_worked_sums_and_products_are_true(task: str) -> None:
    for prompt in make(task, LEVELS[task][4], 20):
        solution = ENV.solve(prompt)
        assert solution is not None
        expression = prompt.metadata["entry"]["metadata"]["expression"].split()
        total = int(expression[0])
        totals = [total]
        for sign, term in zip(expression[1::2], expression[2::2], strict=True):
            total = {"+": total + int(term), "-": total - int(term), "*": total * int(term)}[sign]
            totals.append(total)
        assert [int(text) for text in solution.thinking.split()] == totals
        assert solution.answer == prompt.answer


def test_worked_divisors_end_in_the_greatest_common_one() -> None:
    for prompt in make("gcd", LEVELS["gcd"][4], 20):
        solution = ENV.solve(prompt)
        assert solution is not None
        numbers = prompt.metadata["entry"]["metadata"]["numbers"]
        runs = [[int(text) for text in run.split(",")] for run in solution.thinking.split()]
        assert [run[-1] for run in runs] == [math.gcd(*numbers[:2]), math.gcd(*numbers)]
        for run in runs:
            assert all(a % b == c for a, b, c in zip(run, run[1:], run[2:], strict=False))
        assert solution.answer == prompt.answer


def test_worked_counts_of_primes_are_a_difference() -> None:
    for prompt in make("count_primes", LEVELS["count_primes"][4], 20):
        solution = ENV.solve(prompt)
        assert solution is not None
        below, up_to = (int(text) for text in solution.thinking.split())
        assert str(up_to - below) == solution.answer == prompt.answer


def test_task_without_built_in_levels_has_one_and_no_solutions() -> None:
    assert ENV.levels("leg_counting") == [{}]
    prompt = make("leg_counting", {}, 1)[0]
    assert ENV.solve(prompt) is None


def test_prompts_are_the_same_in_another_process() -> None:
    program = (
        "from rlcs.envs.base import build_splits, load_env\nfrom rlcs.config import DataConfig\n"
        "config = DataConfig(env='reasoning_gym', tasks=[{'task': 'letter_counting'}, {'task': 'spell_backward'}],"
        " train_per_level=3, eval_per_level=2)\n"
        "splits = build_splits(load_env('reasoning_gym'), config, 5)\nprint([p.id for p in splits.train + splits.eval])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


# What is refused


def test_unknown_task_names_the_nearest() -> None:
    for call in (lambda: ENV.levels("chain_sums"), lambda: make("chain_sums", {}, 1)):
        with pytest.raises(ConfigError, match=r"no task 'chain_sums'; did you mean 'chain_sum'\?"):
            call()


@pytest.mark.parametrize(
    "params", [{"min_trems": 2}, {"min_terms": 5, "max_terms": 2}, {"size": 3}, {"min_terms": "two"}, {"seed": 1}]
)
def test_parameters_that_a_task_refuses_are_named(params: dict[str, Any]) -> None:
    assert f"reasoning-gym task 'chain_sum' refuses {params}: " in refusal("chain_sum", params)


def test_task_without_reference_answers_is_refused_and_does_not_hang() -> None:
    assert "'graph_color' has no reference answers" in refusal("graph_color", {})


def test_task_that_changes_with_the_hash_seed_is_refused_unless_it_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert "set the environment variable PYTHONHASHSEED=0" in refusal("word_ladder", {})
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert len(make("word_ladder", {}, 1)) == 1


# Splits


@pytest.mark.parametrize(("levels", "tiers"), [(1, [2]), (2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (9, None)])
def test_levels_spread_over_the_tiers(levels: int, tiers: list[int] | None) -> None:
    found = [level_tier(level, levels) for level in range(levels)]
    assert found == sorted(found) and found == (tiers or found) and set(found) <= set(range(5))


def test_every_domain_and_tier_has_the_asked_number_and_nothing_overlaps() -> None:
    splits = build_splits(ENV, data_config("chain_sum", {"task": "spell_backward", "domain": "words"}), seed=0)
    for prompts, count in ((splits.train, 20), (splits.eval, 5)):
        counts = Counter((prompt.domain, prompt.tier) for prompt in prompts)
        assert counts == {(domain, tier): count for domain in ("chain_sum", "words") for tier in range(5)}
    ids = [prompt.id for prompt in splits.train + splits.eval]
    assert len(set(ids)) == len(ids)


def test_splits_are_a_function_of_the_seed() -> None:
    config = data_config("products")
    assert build_splits(ENV, config, 3) == build_splits(ENV, config, 3)
    assert build_splits(ENV, config, 3) != build_splits(ENV, config, 4)


def test_small_level_gives_what_it_has_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    digits = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    with caplog.at_level(logging.INFO):
        splits = build_splits(ENV, data_config({"task": "chain_sum", "levels": [digits]}, train_per_level=500), seed=0)
    assert 100 < len(splits.train) < 200 and len(splits.eval) == 5
    assert "has only" in caplog.text


def test_levels_that_make_the_same_questions_do_not_share_them() -> None:
    level = LEVELS["chain_sum"][0]
    config = data_config({"task": "chain_sum", "levels": [level, level]}, train_per_level=60, eval_per_level=20)
    splits = build_splits(ENV, config, seed=0)
    ids = [prompt.id for prompt in splits.train + splits.eval]
    assert len(set(ids)) == len(ids)


def test_system_prompt_is_put_before_and_does_not_change_the_id() -> None:
    plain = build_splits(ENV, data_config("chain_sum"), seed=0)
    told = build_splits(ENV, data_config("chain_sum", system_prompt="Think."), seed=0)
    assert told.train[0].messages[0] == {"role": "system", "content": "Think."}
    assert [p.id for p in told.train] == [p.id for p in plain.train]


# Worked solutions


def solutions(
    config: DataConfig, count: int = 100, weights: list[float] | None = None, held_out: list[Prompt] | None = None
) -> list[tuple[Prompt, WorkedSolution]]:
    return build_solutions(ENV, config, count=count, level_weights=weights or [], held_out=held_out or [], seed=0)


def test_worked_solutions_are_shared_over_levels_by_weight() -> None:
    found = solutions(data_config("chain_sum", "products"), 120, [3, 2, 1, 0, 0])
    counts = Counter((prompt.domain, prompt.tier) for prompt, _ in found)
    assert counts == {(task, tier): n for task in ("chain_sum", "products") for tier, n in enumerate((30, 20, 10))}
    assert [prompt.tier for prompt, _ in found] != sorted(prompt.tier or 0 for prompt, _ in found), "they are shuffled"


def test_no_worked_solution_is_of_a_held_out_prompt() -> None:
    digits = {"task": "chain_sum", "levels": [LEVELS["chain_sum"][0]]}
    config = data_config(digits, eval_per_level=30)
    held_out = build_splits(ENV, config, seed=0).eval
    found = solutions(config, 400, held_out=held_out)
    assert len(found) > 100
    assert not {prompt.id for prompt, _ in found} & {prompt.id for prompt in held_out}


def test_worked_solutions_that_cannot_be_made_say_why() -> None:
    with pytest.raises(ConfigError, match="task leg_counting has no worked solutions"):
        solutions(data_config("leg_counting"))
    with pytest.raises(ConfigError, match="sft.level_weights has 2 entries, but task chain_sum has 5 levels"):
        solutions(data_config("chain_sum"), weights=[1, 2])


# Environments of one's own


class TwoQuestions(Environment):
    """Ends after two questions, one of them with two answers."""

    def levels(self, task: str) -> list[dict[str, Any]]:
        return [{}]

    def generate(self, task: str, params: dict[str, Any], *, domain: str, tier: int, seed: int) -> Iterator[Prompt]:
        for question, answer in (("a", "1"), ("a", "2"), ("b", "1")):
            messages = [{"role": "user", "content": question}]
            yield Prompt(prompt_id(messages, answer), messages, answer, domain, tier)

    def solve(self, prompt: Prompt) -> WorkedSolution | None:
        return WorkedSolution("", prompt.answer)


def test_stream_that_ends_and_repeats_a_question_is_no_problem() -> None:
    splits = build_splits(TwoQuestions(), data_config("x"), seed=0)
    assert [p.messages[0]["content"] for p in splits.eval + splits.train] == ["a", "b"]
    found = build_solutions(TwoQuestions(), data_config("x"), count=9, level_weights=[], held_out=splits.eval, seed=0)
    assert [prompt.messages[0]["content"] for prompt, _ in found] == ["b"]


def test_environment_is_loaded_by_name_or_file(tmp_path: Path) -> None:
    assert isinstance(load_env("reasoning_gym"), ReasoningGymEnv)
    file = tmp_path / "mine.py"
    file.write_text(
        "from rlcs.envs.reasoning_gym import ReasoningGymEnv\nclass Mine(ReasoningGymEnv):\n    reward = 'mine'\n"
        "class Half:\n    pass\n"
        "from rlcs.envs.base import Environment\nclass Abstract(Environment):\n    pass\n"
    )
    assert load_env(f"{file}:Mine").reward == "mine"
    with pytest.raises(ConfigError, match=r"is no subclass of rlcs\.envs\.base\.Environment"):
        load_env(f"{file}:Half")
    with pytest.raises(ConfigError, match="cannot be made: .*abstract"):
        load_env(f"{file}:Abstract")
    with pytest.raises(ConfigError, match=r"did you mean reasoning_gym\?"):
        load_env("reasoning_gim")
