"""`rlcs grade`: how hard each prompt of a dataset is, measured by the responses of one or several models.

GLM-4.1V-Thinking (arXiv 2507.01006), section 5. Every model in turn answers each prompt K times through the rollout
fleet, and the scoring fleet says what is right. A chunk of prompts at a time goes to a journal (`rlcs.grading.journal`),
so that a stop at any moment loses little. When all is done, `rlcs.curricula.grading` makes tiers of the pass rates, and
`rlcs.grading.dataset` writes the dataset with them, which `rlcs train` reads as data.train.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.grading import assign_tiers, merge_models, reported_ks
from rlcs.evaluation import num_correct, pass_at_k
from rlcs.grading.dataset import write_graded
from rlcs.grading.display import GradeDisplay
from rlcs.grading.journal import Graded, Journal
from rlcs.grading.plan import GradePlan, GradeRequest, fixed_settings, prepare
from rlcs.interrupt import StopRequest
from rlcs.types import Group, Prompt

if TYPE_CHECKING:
    from rlcs.scoring import ScoringFleet


def grade(request: GradeRequest, display: GradeDisplay) -> Path:
    """Grade prompts and write the graded dataset; returns its path. Ctrl-C stops after the chunk, a second one at once.

    Raises:
        ConfigError, DataError, RewardError: the user's to mend; nothing was written.
        CheckpointError: there is nothing to resume.
        EngineError: an actor failed; `request.resume` goes on.
        KeyboardInterrupt: it was stopped; `request.resume` goes on.
    """
    plan = prepare(request, display)
    settings = fixed_settings(plan)
    journal = Journal.reopen(plan.output, settings) if request.resume else Journal.begin(plan.output, settings)
    stop = StopRequest(lambda: display.note("stopping after this chunk; Ctrl-C again stops at once"))
    try:
        with stop:
            _grade_models(plan, journal, display, stop)
        path = _finish(plan, request, journal, display)
    except BaseException as error:
        _say_how_to_go_on(plan, journal, display, request.command, error)
        raise
    journal.remove()
    display.stage("done")
    display.command("Train on it with:", _train_command(request, plan))
    return path


def pass_at_ks(correct: NDArray[np.int64], num_samples: int) -> dict[str, NDArray[np.float64]]:
    """`pass_at_1`, `pass_at_2`, `pass_at_4` ... [N]: unbiased estimates from numbers of right responses [M, N], the mean
    over models.
    """
    values = {}
    for k in reported_ks(num_samples):
        of_count = np.asarray([pass_at_k(num_samples, count, k) for count in range(num_samples + 1)])
        values[f"pass_at_{k}"] = of_count[correct].mean(axis=0)
    return values


# Rollouts


def _grade_models(plan: GradePlan, journal: Journal, display: GradeDisplay, stop: StopRequest) -> None:
    """Let one model after the other answer the prompts that it has not answered yet."""
    done = {(record.model, record.id) for record in journal.records}
    todo = [[p for p in plan.prompts if (index, p.id) not in done] for index in range(len(plan.models))]
    if not any(todo):
        return
    from rlcs.actors import start_ray, stop_ray
    from rlcs.scoring import ScoringFleet

    display.stage("starting Ray and the scorers")
    start_ray(plan.config.cluster)
    try:
        scoring = ScoringFleet(plan.config.reward, plan.default_reward)
        try:
            for index, prompts in enumerate(todo):
                if prompts:
                    _grade_model(plan, index, prompts, scoring, journal, display, stop)
        finally:
            scoring.close()
    finally:
        stop_ray()


def _grade_model(
    plan: GradePlan,
    index: int,
    prompts: Sequence[Prompt],
    scoring: ScoringFleet,
    journal: Journal,
    display: GradeDisplay,
    stop: StopRequest,
) -> None:
    from rlcs.models import load_tokenizer
    from rlcs.rollout.episodes import EpisodeSettings
    from rlcs.rollout.fleet import RolloutFleet

    model, config = plan.models[index], plan.config
    assert model.path is not None
    display.stage(f"starting {config.rollout.num_engines} vLLM engine(s) for {plan.names[index]}")
    tokenizer = load_tokenizer(model.path, trust_remote_code=model.trust_remote_code)
    before = [record.pass_rate for record in journal.records if record.model == index]
    done, total_rate = len(before), sum(before)
    # What was answered already must not repeat its random numbers.
    seed, episodes = config.seed + done, EpisodeSettings.of(config)
    rollouts = RolloutFleet(model.path, model, config.rollout, tokenizer, seed=seed, episodes=episodes)
    try:
        rollouts.start()
        for start in range(0, len(prompts), plan.chunk):
            if stop.requested:
                raise KeyboardInterrupt
            groups = rollouts.generate(prompts[start : start + plan.chunk], num_samples=plan.samples)
            scoring.score(groups)
            journal.append(_record(index, group) for group in groups)
            done += len(groups)
            total_rate += sum(group.pass_rate for group in groups)
            display.grading(plan.names[index], done, len(plan.prompts), total_rate / done)
    finally:
        rollouts.close()


def _record(model: int, group: Group) -> Graded:
    return Graded(model, group.prompt.id, num_correct(group), group.pass_rate, group.generated_tokens)


# The graded dataset


def _finish(plan: GradePlan, request: GradeRequest, journal: Journal, display: GradeDisplay) -> Path:
    """Make tiers of the journal's pass rates and write the dataset."""
    row_of = {prompt.id: row for row, prompt in enumerate(plan.prompts)}
    rates = np.full((len(plan.models), len(plan.prompts)), np.nan)
    correct = np.zeros(rates.shape, dtype=np.int64)
    for record in journal.records:
        rates[record.model, row_of[record.id]] = record.pass_rate
        correct[record.model, row_of[record.id]] = record.correct
    merged = merge_models(rates)
    tiers = assign_tiers(merged, plan.labels, request.rule)
    at_k = pass_at_ks(correct, plan.samples)
    of_models = {f"pass_rate_{name}": of_model for name, of_model in zip(plan.names, rates, strict=True)}
    grades: dict[str, NDArray[Any]] = {"tier": tiers, "pass_rate": merged, **of_models, **at_k}
    how = {
        "models": [model.path for model in plan.models],
        "samples": plan.samples,
        "edges": request.rule.edges,
        "label": request.label,
        "label_weight": request.rule.label_weight if request.label is not None else None,
        "temperature": plan.config.rollout.temperature,
    }
    count = write_graded(plan.source, row_of, grades, plan.output, how)
    shown = {f"pass@{name.removeprefix('pass_at_')}": at_k[name] for name in list(at_k)[-1:]}
    display.tiers([prompt.domain for prompt in plan.prompts], tiers, {"pass rate": merged, **shown})
    if len(np.unique(merged)) == 1:
        display.note(f"every pass rate is {merged[0]:g}, so these models tell no prompt from another")
    tokens = sum(record.tokens for record in journal.records)
    display.note(f"{count:,} rows, {tokens:,} generated tokens: {plan.output}")
    return plan.output


def _train_command(request: GradeRequest, plan: GradePlan) -> str:
    if plan.config.data.env is None:
        return shlex.join(["rlcs", "train", "CONFIG", f"data.train={plan.output}"])
    functions = request.config.reward.functions or [plan.default_reward]
    settings = [f"data.train={plan.output}", f"reward.functions=[{', '.join(functions)}]"]
    return shlex.join(["rlcs", "train", "CONFIG", "data.env=null", "data.tasks=[]", *settings])


def _say_how_to_go_on(
    plan: GradePlan, journal: Journal, display: GradeDisplay, command: str, error: BaseException
) -> None:
    if not journal.records:
        journal.remove()  # nothing was graded yet, so nothing is left behind
        return
    journal.close()
    done, total = len(journal.records), len(plan.models) * len(plan.prompts)
    why = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
    display.stage(f"{why}: {done:,} of {total:,} prompts are graded and saved")
    display.command("Go on with:", command)
