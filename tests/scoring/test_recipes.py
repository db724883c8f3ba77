"""Which rewards score which domain, and settings that contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rlcs.config import RewardConfig
from rlcs.errors import ConfigError
from rlcs.scoring.recipes import check_domains, make_recipes


def recipes_of(**settings: Any) -> dict[str, list[tuple[str, dict[str, Any], float]]]:
    """Form, options and weight of each reward: of the default under "", and of each domain."""
    recipes = make_recipes(RewardConfig(**settings), "math")
    found = {}
    for name in ("", *recipes.of_domain):
        recipe = recipes.of(name)
        found[name] = [
            (recipes.specs[index].form, recipes.specs[index].options, weight)
            for index, weight in zip(recipe.rewards, recipe.weights, strict=True)
        ]
    return found


def test_without_settings_all_domains_have_the_default_reward() -> None:
    recipes = make_recipes(RewardConfig(), "reasoning_gym")
    assert [spec.form for spec in recipes.specs] == ["reasoning_gym"]
    assert recipes.of("anything") is recipes.default


def test_a_domain_has_its_own_rewards_and_all_others_those_of_reward() -> None:
    found = recipes_of(
        functions=["math", "vqa"],
        weights=[3, 1],
        domains={"chart": {"functions": ["chart"]}, "both": {"weights": [1, 2]}},
    )
    assert found == {
        "": [("math", {}, 3.0), ("vqa", {}, 1.0)],
        "chart": [("chart", {}, 1.0)],
        "both": [("math", {}, 1.0), ("vqa", {}, 2.0)],
    }


def test_a_reward_with_the_same_options_is_loaded_once() -> None:
    recipes = make_recipes(
        RewardConfig(
            options={"chart": {"tolerance": 0.1}},
            domains={
                "a": {"functions": ["chart"]},
                "b": {"functions": ["chart", "math"]},
                "c": {"functions": ["chart"], "options": {"chart": {"tolerance": 0.2}}},
            },
        ),
        "math",
    )
    assert [(spec.form, spec.options) for spec in recipes.specs] == [
        ("math", {}),
        ("chart", {"tolerance": 0.1}),
        ("chart", {"tolerance": 0.2}),
    ]
    assert recipes.of("a").rewards == (1,) and recipes.of("b").rewards == (1, 0) and recipes.of("c").rewards == (2,)


def test_style_joins_the_functions_with_a_weight_after_theirs() -> None:
    found = recipes_of(
        functions=["math"],
        weights=[4, 1],
        style={"min_thinking": 3},
        domains={"a": {"style": {"window": 60}}, "b": {"style": False}, "c": {"functions": ["vqa"], "style": True}},
    )
    assert found[""] == [("math", {}, 4.0), ("style", {"min_thinking": 3}, 1.0)]
    assert found["a"][1] == ("style", {"min_thinking": 3, "window": 60}, 1.0)
    assert found["b"] == [("math", {}, 4.0)]
    assert found["c"] == [("vqa", {}, 1.0), ("style", {"min_thinking": 3}, 1.0)]


def test_style_that_is_named_is_not_added_again() -> None:
    found = recipes_of(functions=["style", "math"], weights=[1, 2], style={"window": 60})
    assert found[""] == [("style", {"window": 60}, 1.0), ("math", {}, 2.0)]


def test_what_only_a_model_can_judge_is_open_ended_to_style(tmp_path: Path) -> None:
    found = recipes_of(
        style=True,
        model={"path": str(tmp_path), "batch_size": 4},
        domains={"a": {"functions": ["reward_model"]}, "b": {"functions": ["reward_model", "math"]}},
    )
    model = ("reward_model", {"path": str(tmp_path), "max_length": 2048, "batch_size": 4, "device": "cpu"}, 1.0)
    assert found["a"] == [model, ("style", {"open_ended": True}, 1.0)]
    assert found["b"] == [model, ("math", {}, 1.0), ("style", {}, 1.0)]


def test_gates_are_style_unless_others_are_named() -> None:
    recipes = make_recipes(
        RewardConfig(
            combine="gate",
            style=True,
            gate_cap=0.2,
            domains={
                "a": {"functions": ["math", "instruction"], "gates": ["instruction"], "gate_threshold": 1.0},
                "b": {"combine": "minimum"},
                "c": {"style": False},
            },
        ),
        "math",
    )
    assert recipes.default.is_gate == (False, True)
    assert recipes.of("a").is_gate == (False, True, False)
    assert (recipes.of("a").gate_threshold, recipes.of("a").gate_cap) == (1.0, 0.2)
    assert recipes.of("b").mode == "minimum" and recipes.of("c").is_gate == (False,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"options": {"mth": {}}}, ["reward.options", "'mth'", "did you mean 'math'"]),
        ({"domains": {"a": {"functions": ["vqa"], "options": {"math": {}}}}}, ["reward.domains.a.options", "'math'"]),
        ({"functions": ["math"], "combine": "gate"}, ["reward.combine is gate", "math"]),
        ({"functions": ["math"], "combine": "gate", "gates": ["styl"]}, ["reward.gates", "'styl'", "math"]),
        ({"domains": {"a": {"combine": "gate"}}}, ["reward.domains.a.combine"]),
        ({"functions": ["judge"]}, ["judge", "reward.judge.base_url"]),
        ({"domains": {"a": {"functions": ["reward_model"]}}}, ["reward_model", "reward.model.path"]),
    ],
)
def test_contradictions_are_one_clear_line(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_recipes(RewardConfig(**settings), "math")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"functions": ["math"], "weights": [1, 2]}, "reward.weights has 2 entries for 1 functions"),
        ({"functions": ["math"], "weights": [1, 2, 3], "style": True}, "for 1 functions, and one more for style"),
        ({"domains": {"a": {"functions": ["vqa"], "weights": [1, 2]}}}, "reward.domains.a.weights has 2 entries for 1"),
        ({"functions": ["math", "vqa"], "domains": {"a": {"weights": [1]}}}, "reward.domains.a.weights has 1 entries"),
    ],
)
def test_weights_of_a_wrong_number_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardConfig(**settings)


@pytest.mark.parametrize("settings", [{"style": 3}, {"style": None}, {"domains": {"a": {"style": "on"}}}])
def test_style_is_on_or_off_or_has_options(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"style"):
        RewardConfig(**settings)


def test_domains_that_no_prompt_has_are_refused() -> None:
    config = RewardConfig(domains={"chart": {}, "counting": {}})
    check_domains(config, ["chart", "counting", "ocr"])
    with pytest.raises(ConfigError, match=r"reward\.domains\.chart: .* did you mean 'charts'"):
        check_domains(config, ["charts", "counting"])
