"""The table of prompts, observations and the domain mix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import UNGRADED, Observation, PromptTable, domain_mix
from rlcs.errors import ConfigError, DataError
from rlcs.types import Prompt


def prompt(domain: str, tier: int | None) -> Prompt:
    return Prompt(id="x", messages=[], answer="1", domain=domain, tier=tier)


def observation(pass_rates: list[float], num_responses: int = 8) -> Observation:
    n = len(pass_rates)
    return Observation(np.arange(n), np.asarray(pass_rates), np.zeros(n, dtype=bool), num_responses)


def test_table_of_prompts_sorts_domains_and_marks_ungraded() -> None:
    table = PromptTable.of([prompt("b", 4), prompt("a", None), prompt("b", 0)])
    assert table.domain_names == ["a", "b"]
    assert table.domains.tolist() == [1, 0, 1]
    assert table.tiers.tolist() == [4, UNGRADED, 0]
    assert (table.tiers.dtype, table.domains.dtype) == (np.int8, np.int16)


@pytest.mark.parametrize("tier", [-1, 5, 300])
def test_tier_out_of_range_names_the_prompt(tier: int) -> None:
    with pytest.raises(DataError, match=f"prompt 1 .*tier {tier} "):
        PromptTable.of([prompt("a", 0), prompt("a", tier)])


def test_table_arrays_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="prompt 1: tier 7"):
        PromptTable(np.asarray([0, 7], dtype=np.int8), np.zeros(2, dtype=np.int16), ["a"])
    with pytest.raises(DataError, match="domain index 3"):
        PromptTable(np.asarray([0], dtype=np.int8), np.asarray([3], dtype=np.int16), ["a"])


def test_no_prompts_is_an_error() -> None:
    with pytest.raises(DataError, match="no training prompts"):
        PromptTable.of([])


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1])
def test_bad_pass_rate_names_the_row(bad: float) -> None:
    with pytest.raises(ValueError, match="row 1 is not in"):
        observation([0.5, bad])


def test_group_without_responses_is_refused() -> None:
    with pytest.raises(ValueError, match="has 0 responses"):
        observation([0.5], num_responses=0)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 rows, 1 pass rates"):
        Observation(np.arange(2), np.ones(1), np.ones(2, dtype=bool), 8)


def test_domain_mix_defaults_to_the_shares_of_the_data() -> None:
    table = PromptTable(np.zeros(4, dtype=np.int8), np.asarray([0, 0, 0, 1], dtype=np.int16), ["a", "b"])
    assert domain_mix(table, CurriculumConfig()).tolist() == [0.75, 0.25]
    assert domain_mix(table, CurriculumConfig(domain_mix={"a": 1, "b": 1})).tolist() == [0.5, 0.5]


def test_domains_can_be_balanced_by_roots_or_equally() -> None:
    table = PromptTable(np.zeros(10, dtype=np.int8), np.asarray([0] * 9 + [1], dtype=np.int16), ["a", "b"])
    assert domain_mix(table, CurriculumConfig(domain_balance="sqrt")).tolist() == [0.75, 0.25]
    assert domain_mix(table, CurriculumConfig(domain_balance="equal")).tolist() == [0.5, 0.5]


def test_unknown_domain_suggests_the_nearest(make_table: Callable[..., PromptTable]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'domain_1'"):
        domain_mix(make_table(domains=2), CurriculumConfig(domain_mix={"domain_0": 1, "domian_1": 1}))


def test_domain_left_out_of_the_mix_is_an_error(make_table: Callable[..., PromptTable]) -> None:
    with pytest.raises(ConfigError, match="no share for domain 'domain_1'"):
        domain_mix(make_table(domains=2), CurriculumConfig(domain_mix={"domain_0": 1}))
