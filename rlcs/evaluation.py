"""Held-out evaluation: accuracy by domain and tier, pass@1 and pass@k."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcs.config import EvalConfig
from rlcs.rewards.extract import extract_answer
from rlcs.runlog import EvaluationRow, mean_over_prompts
from rlcs.types import Group, Prompt

if TYPE_CHECKING:
    from rlcs.rollout.fleet import RolloutFleet
    from rlcs.scoring import ScoringFleet


def evaluate(
    prompts: Sequence[Prompt], rollouts: RolloutFleet, scoring: ScoringFleet, config: EvalConfig, step: int
) -> list[EvaluationRow]:
    """Roll out and score held-out prompts with the engines' current weights."""
    groups = rollouts.generate(
        prompts, num_samples=config.num_samples, temperature=config.temperature, purpose="evaluation"
    )
    scoring.score(groups)
    return summarise(groups, step)


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """Held-out results under one thinking budget."""

    thinking_budget: int
    """Tokens of thinking after which the answer was forced."""
    pass_at_1: float
    mean_tokens: float
    """Tokens of a response, inserted ones among them."""
    forced: float
    """Share of responses that were made to answer."""


def thinking_curve(
    prompts: Sequence[Prompt],
    rollouts: RolloutFleet,
    scoring: ScoringFleet,
    config: EvalConfig,
    budgets: Sequence[int],
) -> list[BudgetRow]:
    """What the engines' policy reaches under each of some thinking budgets."""
    rows = []
    for budget in budgets:
        groups = rollouts.generate(
            prompts,
            num_samples=config.num_samples,
            temperature=config.temperature,
            thinking_budget=budget,
            purpose="evaluation",
        )
        scoring.score(groups)
        responses = [response for group in groups for response in group.responses]
        rows.append(
            BudgetRow(
                budget,
                pass_at_1=float(np.mean([group.pass_rate for group in groups])),
                mean_tokens=float(np.mean([len(response.token_ids) for response in responses])),
                forced=float(np.mean([response.is_forced for response in responses])),
            )
        )
    return rows


def summarise(groups: Sequence[Group], step: int) -> list[EvaluationRow]:
    """A row for each domain and tier of scored groups, in order of domain and tier."""
    cells: dict[tuple[str, int | None], list[Group]] = defaultdict(list)
    for group in groups:
        cells[(group.prompt.domain, group.prompt.tier)].append(group)
    rows = []
    for (domain, tier), members in sorted(
        cells.items(), key=lambda cell: (cell[0][0], -1 if cell[0][1] is None else cell[0][1])
    ):
        k = min(len(group.responses) for group in members)
        rows.append(
            EvaluationRow(
                step=step,
                domain=domain,
                tier=tier,
                num_prompts=len(members),
                num_samples=k,
                pass_at_1=float(np.mean([group.pass_rate for group in members])),
                pass_at_k=float(np.mean([pass_at_k(len(group.responses), num_correct(group), k) for group in members])),
                k=k,
                mean_reward=float(np.mean([group.rewards.mean() for group in members])),
                parsed=float(np.mean([extract_answer(r.last_text).ok for group in members for r in group.responses])),
            )
        )
    return rows


def num_correct(group: Group) -> int:
    """Responses of a scored group that are right; where right and wrong do not apply, those of reward 1."""
    return sum(
        bool(r.reward.correct if r.reward.correct is not None else r.reward.value >= 1)
        for r in group.responses
        if r.reward is not None
    )


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate that at least one of k samples is right, from n samples of which c are: 1 - C(n-c, k) / C(n, k).

    Chen et al. (arXiv 2107.03374), section 2.1. Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n; got n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def mean_accuracy(rows: Sequence[EvaluationRow]) -> float:
    """pass@1 over all prompts. Raises ValueError if there are none."""
    if not rows:
        raise ValueError("no evaluation rows")
    return mean_over_prompts(rows, "pass_at_1")
