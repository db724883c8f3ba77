"""Rounds: what an iteration learns from. Prompts are drawn, answered, scored and observed, by the engines' weights.

`Rounds.make` is the first half of `Trainer.iterate`. It may run in a thread beside the update of the round before
(`rlcs.look_ahead`): nobody else touches the curriculum's draws, the engines or the scorers meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlcs.adaptive import num_prompts, respond_adaptively
from rlcs.config import Config
from rlcs.curricula.base import Curriculum, Observation
from rlcs.errors import EngineError, RLCSError
from rlcs.leftovers import LeftoverGroups
from rlcs.rollout.episodes import episode_metrics
from rlcs.rollout.fleet import RolloutFleet
from rlcs.rollout.requests import answered
from rlcs.scoring import ScoringFleet, latency_metrics, merge_metrics
from rlcs.stopwatch import Stopwatch
from rlcs.types import Group, Prompt

Rows = NDArray[np.int64]


@dataclass(slots=True)
class Round:
    """Scored groups, all of one version of the policy."""

    groups: list[Group]
    scoring: dict[str, float]
    """Metrics of the scoring fleet."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock time of `draw`, `generate`, `score` and `select` (observing)."""

    @property
    def generated_tokens(self) -> int:
        """Tokens of all responses."""
        return sum(group.generated_tokens for group in self.groups)


class Rounds:
    """Makes rounds, one after the other."""

    def __init__(
        self,
        config: Config,
        prompts: Sequence[Prompt],
        curriculum: Curriculum,
        leftovers: LeftoverGroups,
        rollouts: RolloutFleet,
        scoring: ScoringFleet,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """`note` is told the name of each stage."""
        self._config = config
        self._prompts = prompts
        self._curriculum = curriculum
        self._leftovers = leftovers
        self._rollouts = rollouts
        self._scoring = scoring
        self._note = note
        self._watch = Stopwatch()
        self._scoring_metrics: list[dict[str, float]] = []  # of each request of this round

    def make(self) -> Round:
        """Draw, respond and observe; again where the curriculum asks for more groups with a signal."""
        curriculum, batch_size = self._curriculum, self._config.train.batch_size
        self._watch = Stopwatch(self._note)
        self._scoring_metrics = []
        groups: list[Group] = []
        wanted = num_prompts(self._config, curriculum, self._leftovers.wanted(batch_size))
        for _ in range(1 + self._config.curriculum.max_redraws):
            with self._watch("draw"):
                drawn = curriculum.draw(wanted)
                predicted = curriculum.predict(drawn)
            budget = (wanted if groups else batch_size) * self._config.rollout.num_generations
            part = self._respond(drawn, budget=budget)
            if len(part) < len(drawn):  # engines failed over the others: they are set aside
                places = answered([self._prompts[row] for row in drawn], part)
                drawn, predicted = drawn[places], None if predicted is None else predicted[places]
            if predicted is not None:
                for group, rate in zip(part, predicted.tolist(), strict=True):
                    group.predicted_pass_rate = rate
            with self._watch("select"):
                curriculum.observe(observe(drawn, part))
                groups += part
                useful = len(self._leftovers) + sum(not group.is_degenerate for group in groups)
                wanted = curriculum.redraw(batch_size, useful)
            if not wanted:
                break
        if not groups:
            raise EngineError(
                "every prompt of this round is set aside, since engines failed over them: see faults.jsonl"
            )
        scoring = merge_metrics(self._scoring_metrics) | latency_metrics(groups)
        return Round(groups, scoring, self._watch.seconds)

    def _respond(self, rows: Rows, budget: int) -> list[Group]:
        """Scored groups of the drawn rows: `num_generations` responses each, or adaptively `budget` in all."""
        prompts, rollout = [self._prompts[row] for row in rows], self._config.rollout
        if not rollout.first_generations:
            return self._generate(prompts, [rollout.num_generations] * len(prompts))
        belief = self._curriculum.predict_logits(rows)
        assert belief is not None  # see check_predicts
        return respond_adaptively(prompts, belief, rollout, budget, self._generate)

    def _generate(self, prompts: Sequence[Prompt], num_samples: Sequence[int]) -> list[Group]:
        """Generate and score so many responses to each prompt."""
        with self._watch("generate"):
            groups = self._rollouts.generate(prompts, num_samples=num_samples)
        with self._watch("score"):
            self._scoring_metrics.append(self._scoring.score(groups))
        return groups


def observe(rows: Rows, groups: list[Group]) -> Observation:
    """What a curriculum is told of the scored groups of the drawn rows [n]."""
    return Observation(
        rows=rows,
        pass_rates=np.asarray([group.pass_rate for group in groups]),
        degenerate=np.asarray([group.is_degenerate for group in groups]),
        num_responses=np.asarray([len(group.responses) for group in groups]),
    )


def rollout_metrics(groups: list[Group], learned: list[Group], seconds: float) -> dict[str, float]:
    """Reward, useful groups, lengths and speed of an iteration's rollouts.

    `rollout/useful` is the share of drawn groups that are not degenerate, `rollout/useful_learned` that of the groups
    that were learned from. `kept/tier_T` is the share of the drawn groups of tier T that were kept.
    """
    lengths = np.asarray([len(r.token_ids) for group in groups for r in group.responses])
    rewards = np.concatenate([group.rewards for group in groups])
    tokens = float(sum(group.generated_tokens for group in groups))
    metrics = {
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "rollout/pass_rate": float(np.mean([group.pass_rate for group in groups])),
        "rollout/useful": float(np.mean([not group.is_degenerate for group in groups])),
        "rollout/useful_learned": float(np.mean([not group.is_degenerate for group in learned])),
        "rollout/groups": float(len(groups)),
        "rollout/responses": float(len(lengths)),
        "rollout/largest_group": float(max(len(group.responses) for group in groups)),
        "rollout/tokens": tokens,
        "rollout/tokens_per_s": tokens / max(seconds, 1e-9),
        "rollout/mean_length": float(lengths.mean()),
        "rollout/forced": float(np.mean([r.is_forced for group in groups for r in group.responses])),
        "rollout/truncated": float(np.mean([r.finish_reason == "length" for group in groups for r in group.responses])),
    }
    metrics |= episode_metrics(groups)
    for domain in sorted({group.prompt.domain for group in groups}):
        metrics[f"reward/{domain}"] = float(
            np.mean(np.concatenate([group.rewards for group in groups if group.prompt.domain == domain]))
        )
    kept = {id(group) for group in learned}
    for tier in sorted({group.prompt.tier for group in groups if group.prompt.tier is not None}):
        members = [group for group in groups if group.prompt.tier == tier]
        metrics[f"kept/tier_{tier}"] = float(np.mean([id(group) in kept for group in members]))
    return metrics


def staleness_metrics(groups: Sequence[Group], version: int, bound: int) -> dict[str, float]:
    """Updates that the learner, at `version`, is ahead of the policy that sampled each response: mean and maximum.

    Raises:
        RLCSError: a response is staler than `bound`, or of a version that the learner has not reached.
    """
    staleness = np.asarray([version - response.policy_version for group in groups for response in group.responses])
    least, most = int(staleness.min()), int(staleness.max())
    if least < 0 or most > bound:
        wrong = least if least < 0 else most
        raise RLCSError(
            f"a response was sampled by version {version - wrong} of the policy and the learner is at {version}; at most "
            f"{bound} updates may lie between (rollout.max_staleness + curriculum.leftover_age): an engine missed a sync"
        )
    return {"rollout/staleness_mean": float(staleness.mean()), "rollout/staleness_max": float(most)}
