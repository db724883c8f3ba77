"""From a configuration to a finished run: checks, data, cold start, training, evaluation; and going on where it stopped."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from rlcs.actors import head_address, start_ray, stop_ray
from rlcs.adaptive import check_predicts
from rlcs.checkpoint import explain_full_disk, is_disk_full, latest_checkpoint, list_checkpoints, load_progress
from rlcs.cold_start import load_data, load_examples, make_policy, teach_format
from rlcs.config import Config
from rlcs.config_loading import dump_config, load_config
from rlcs.curricula.base import Curriculum, PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.data import DataSplits, describe
from rlcs.envs.base import Environment
from rlcs.errors import CheckpointError, ConfigError, EngineError, RLCSError, one_line
from rlcs.evaluation import BudgetRow, evaluate, mean_accuracy, thinking_curve
from rlcs.faults import Faults
from rlcs.head_watch import HeadWatch, end_process
from rlcs.interrupt import GraceOver, StopRequest, uninterrupted
from rlcs.models import context_length, load_tokenizer
from rlcs.preflight import available_cpus, available_gpus, check_before_start, check_prompt_lengths, find_too_long
from rlcs.preflight_episodes import check_episodes
from rlcs.preflight_rewards import check_rewards
from rlcs.progress import Display
from rlcs.remote_checkpoints import fetch_newer, fetch_run
from rlcs.rollout.episodes import EpisodeSettings
from rlcs.rollout.fleet import RolloutFleet
from rlcs.runlog import EvaluationRow, recorded_evaluation
from rlcs.scoring import ScoringFleet
from rlcs.sft import SFTExample
from rlcs.trainer import Trainer
from rlcs.vision.pixels import has_pixels
from rlcs.vision.processing import VisionProcessor, check_shows_nothing, is_vision_model

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RunSummary:
    """What a run did, written as summary.json."""

    accuracy_before: float | None = None
    """Held-out pass@1 before reinforcement learning."""
    accuracy_after: float | None = None
    steps: int = 0
    generated_tokens: int = 0
    finished: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock time of each stage of this start."""

    def write(self, run_dir: Path) -> None:
        """Write the summary to the run's folder."""
        (run_dir / "summary.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


@dataclass(slots=True)
class Materials:
    """What a run needs besides its policy, loaded and checked."""

    env: Environment | None
    data: DataSplits
    curriculum: Curriculum
    default_reward: str


def load_materials(config: Config) -> Materials:
    """Load data, rewards and curriculum in this process, and check every reference answer (`check_rewards`).

    Raises:
        ConfigError, DataError, RewardError: something is the user's to mend.
    """
    _quiet_libraries()
    env, data = load_data(config)
    default_reward = env.reward if env is not None else "math"
    data = check_rewards(config, default_reward, data)
    table = PromptTable.of(data.train)
    curriculum = load_curriculum(config.curriculum.kind, table, config.curriculum, config.seed)
    check_predicts(config, curriculum)
    return Materials(env, data, curriculum, default_reward)


def train(config: Config, display: Display) -> RunSummary:
    """Train a new run from beginning to end. Ctrl-C saves and leaves; `resume` goes on.

    Raises:
        ConfigError, DataError, RewardError: the user's to mend; nothing was written.
        EngineError: an actor failed.
    """
    check_before_start(config, num_cpus=available_cpus(config), num_gpus=available_gpus(config))
    run_dir = config.run_dir
    summary = RunSummary()
    with _clock(summary, "data"):
        display.stage("making prompts" if config.data.env else "loading prompts")
        materials = load_materials(config)
        data = materials.data
        display.note(f"{len(data.train):,} training prompts, {len(data.eval):,} held-out prompts")
        examples = load_examples(config, materials.env, data)
    policy = _begin(config, data, examples)
    if config.sft.enabled:
        with _clock(summary, "cold_start"):
            policy = _teach(policy, examples, config, display)
    return _run(config, run_dir, materials, policy, display, summary, checkpoint=None)


def resume(run: str | Path, display: Display) -> RunSummary:
    """Go on with a run, named by its folder or the URL of its copy, from its newest whole checkpoint.

    Raises:
        CheckpointError: there is no run, no whole checkpoint, or the run is finished.
    """
    run_dir = fetch_run(str(run), display.note) if "://" in str(run) else Path(run)
    fetch_newer(load_run_config(run_dir), run_dir, display.note)
    checkpoint = latest_checkpoint(run_dir)
    config = load_run_config(run_dir)
    if (run_dir / "summary.json").exists():
        raise CheckpointError(
            f"{run_dir} is finished; to train its policy further, start a run with "
            f"model.init=null model.path={checkpoint / 'policy'} sft.enabled=false name=OTHER"
        )
    display.stage(f"resuming {run_dir} from {checkpoint.name}")
    summary = RunSummary()
    with _clock(summary, "data"):
        materials = load_materials(config)
    return _run(config, run_dir, materials, initial_policy(config, run_dir), display, summary, checkpoint=checkpoint)


def initial_policy(config: Config, run_dir: Path) -> str:
    """The policy that reinforcement learning began with in the run of `run_dir`."""
    if config.sft.enabled:
        return str(run_dir / "policy-sft")
    return config.model.path or str(run_dir / "policy-init")


def load_run_config(run_dir: Path) -> Config:
    """The configuration that a run was started with, its folder being `run_dir` wherever it was moved to."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"{run_dir} is no run's folder (it has no config.yaml)")
    return load_config(path).model_copy(
        update={"output_dir": run_dir.absolute().parent, "name": run_dir.absolute().name}
    )


def _run(
    config: Config,
    run_dir: Path,
    materials: Materials,
    policy: str,
    display: Display,
    summary: RunSummary,
    checkpoint: Path | None,
) -> RunSummary:
    trainer = Trainer(
        config, run_dir, materials.data, materials.curriculum, policy, materials.default_reward, display, checkpoint
    )
    before: list[EvaluationRow] = []
    head: HeadWatch | None = None
    asked = "stopping after this iteration; Ctrl-C again stops at once"
    with StopRequest(lambda: display.note(asked), grace_s=config.train.grace_s) as stop:
        trainer.stop = stop
        try:
            with _clock(summary, "start"):
                display.stage(f"starting Ray, {config.rollout.num_engines} vLLM engine(s), the learner and the scorers")
                trainer.start()
            head = HeadWatch(head_address(), lambda: end_process(_lost(run_dir)))
            head.start()
            if checkpoint is None:
                trainer.save()  # a run that fails or is stopped early can be resumed
            before = recorded_evaluation(run_dir, 0)
            if not before and trainer.progress.step == 0:
                with _clock(summary, "evaluate_before"):
                    display.stage(f"evaluating {len(materials.data.eval):,} held-out prompts")
                    before = trainer.evaluate()
                    if before:
                        display.note(f"held-out accuracy {100 * mean_accuracy(before):.1f} %")
            with _clock(summary, "training"):
                display.stage(f"training: up to {config.train.steps} iterations")
                trainer.run(stop)
            summary.steps, summary.generated_tokens = trainer.progress.step, trainer.progress.generated_tokens
            summary.finished = trainer.is_done
            if not trainer.is_done:
                display.stage(_stopped(trainer))
                return summary
            with _clock(summary, "evaluate_after"):
                display.stage("evaluating")
                after = trainer.evaluate()
            if before:
                summary.accuracy_before, summary.accuracy_after = mean_accuracy(before), mean_accuracy(after)
                display.evaluation(before, after)
        except GraceOver:  # all that was learned is saved
            summary.finished = False
            display.stage(_stopped(trainer))
            return summary
        except (EngineError, RayError) as error:
            if list_checkpoints(run_dir):
                display.stage(f"the run failed. Go on from its last checkpoint with:  rlcs train --resume {run_dir}")
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"Ray failed: {one_line(error)}") from error
        except OSError as error:
            if is_disk_full(error):
                raise explain_full_disk(run_dir, error) from error
            raise
        except KeyboardInterrupt:
            display.stage(f"stopped at once. Resume from the last checkpoint with:  rlcs train --resume {run_dir}")
            raise
        finally:
            if head is not None:
                head.close()
            trainer.close()
    summary.write(run_dir)
    if config.logging.report:
        _report(run_dir, display)
    display.stage(
        f"done: {summary.steps} iterations, {summary.generated_tokens:,} generated tokens; the run is in {run_dir}"
    )
    return summary


def _lost(run_dir: Path) -> str:
    return f"rlcs: error: Ray's head is gone. Go on from the last checkpoint with:  rlcs train --resume {run_dir}"


def _stopped(trainer: Trainer) -> str:
    return f"stopped after iteration {trainer.progress.step}. Resume with:  rlcs train --resume {trainer.run_dir}"


def _report(run_dir: Path, display: Display) -> None:
    """Write the run's report; a run that is finished does not fail for it."""
    from rlcs.dashboard.report import write_report

    try:
        write_report([run_dir], run_dir / "report.html")
    except (RLCSError, OSError) as error:
        display.note(f"no report was written: {error}")
    else:
        display.note(f"{run_dir / 'report.html'} shows the run; so does  rlcs dashboard {run_dir.parent}")


def _begin(config: Config, data: DataSplits, examples: list[SFTExample]) -> str:
    """Make the run's folder with its configuration and, where none is given, a policy; returns the checked policy."""
    run_dir = config.run_dir
    with _whole_or_nothing(run_dir):
        (run_dir / "config.yaml").write_text(dump_config(config))
        policy = make_policy(config, data, examples, run_dir / "policy-init")
        _check_lengths(config, policy, data)
    return policy


def _teach(policy: str, examples: list[SFTExample], config: Config, display: Display) -> str:
    """The cold start; returns the folder of the policy that was taught."""
    with _whole_or_nothing(config.run_dir):
        display.stage(f"cold start: {config.sft.steps} steps on {len(examples):,} worked solutions")
        return teach_format(policy, examples, config, config.run_dir / "policy-sft", display.cold_start)


def _check_lengths(config: Config, policy: str, data: DataSplits) -> None:
    """Refuse prompts that are too long for the policy; of a dataset whose bad rows are skipped, take them out of `data`."""
    trust = config.model.trust_remote_code
    tokenizer = load_tokenizer(policy, trust_remote_code=trust)
    check_episodes(config, data, tokenizer)
    limits: dict[str, Any] = {
        "tokenizer": tokenizer,
        "max_prompt_length": config.rollout.max_prompt_length,
        "context_length": context_length(policy, trust_remote_code=trust),
        "max_completion_length": config.rollout.max_completion_length,
        "vision": _vision_processor(policy, trust, data),
    }
    if config.data.train is None or config.data.on_bad_row == "error":
        check_prompt_lengths(data.train + data.eval, **limits)
    else:
        leave_out_long(data, limits)


def leave_out_long(data: DataSplits, limits: Mapping[str, Any]) -> None:
    """Take prompts that are too long (`find_too_long` with `limits`) out of `data`; logs how many.

    Raises:
        DataError: no training prompt is left.
    """
    too_long = find_too_long(data.train + data.eval, **limits)
    if not too_long:
        return
    ids = {prompt.id for prompt, _, _ in too_long}
    if all(prompt.id in ids for prompt in data.train):
        check_prompt_lengths(data.train, **limits)
    prompt, length, shown = max(too_long, key=lambda found: found[1])
    logger.warning(
        "data: %d prompts are too long for the policy and left out, the longest %s with %d tokens (%d of them for what it shows)",
        len(too_long),
        describe(prompt),
        length,
        shown,
    )
    data.train[:] = [prompt for prompt in data.train if prompt.id not in ids]
    data.eval[:] = [prompt for prompt in data.eval if prompt.id not in ids]


def _vision_processor(policy: str, trust_remote_code: bool, data: DataSplits) -> VisionProcessor | None:
    """What counts the tokens of pictures; None where no prompt has one. Raises DataError if the policy cannot see."""
    prompts = data.train + data.eval
    if not any(has_pixels(prompt) for prompt in prompts):
        return None
    if not is_vision_model(policy, trust_remote_code=trust_remote_code):
        check_shows_nothing(prompts, policy)
    return VisionProcessor(policy, trust_remote_code=trust_remote_code)


def _quiet_libraries() -> None:
    """Loading bars of transformers would tear the display."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


@contextmanager
def _whole_or_nothing(run_dir: Path) -> Iterator[None]:
    """Make the run's folder, and remove it again if the body fails: there is nothing to resume yet."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with uninterrupted():
            shutil.rmtree(run_dir, ignore_errors=True)
        raise


@contextmanager
def _clock(summary: RunSummary, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        summary.seconds[stage] = summary.seconds.get(stage, 0.0) + time.perf_counter() - start


def cold_start(config: Config, display: Display) -> Path:
    """Only the cold start of a run; returns the folder of the policy.

    Raises:
        ConfigError, DataError: the user's to mend; nothing was written.
    """
    check_before_start(config, num_cpus=available_cpus(config), num_gpus=available_gpus(config))
    display.stage("loading prompts and worked solutions")
    _quiet_libraries()
    env, data = load_data(config)
    examples = load_examples(config, env, data)
    policy = _teach(_begin(config, data, examples), examples, config, display)
    display.stage(f"done. Train it with:  rlcs train CONFIG model.init=null model.path={policy} sft.enabled=false")
    return Path(policy)


def evaluate_run(
    run_dir: Path,
    display: Display,
    *,
    num_samples: int | None = None,
    step: int | None = None,
    as_json: bool = False,
    thinking_budgets: Sequence[int] = (),
) -> list[EvaluationRow] | list[BudgetRow]:
    """Evaluate a checkpoint of a run on its held-out prompts, and print the table beside that of before training.

    With `thinking_budgets` the answer is forced after so many tokens, and a line is printed for each.

    Raises:
        CheckpointError: there is no run, or no such checkpoint.
        ConfigError: a thinking budget leaves no room for an answer.
    """
    config = load_run_config(run_dir)
    for budget in thinking_budgets:
        if budget >= config.rollout.max_completion_length:
            raise ConfigError(
                f"--thinking-budget {budget} leaves no room for an answer in rollout.max_completion_length "
                f"({config.rollout.max_completion_length})"
            )
    checkpoint = latest_checkpoint(run_dir) if step is None else run_dir / "checkpoints" / f"step-{step:06d}"
    if not checkpoint.is_dir():
        kept = ", ".join(folder.name for folder in list_checkpoints(run_dir)) or "none"
        raise CheckpointError(f"{run_dir} has no checkpoint of iteration {step}; it has: {kept}")
    if num_samples is not None:
        config = config.model_copy(update={"eval": config.eval.model_copy(update={"num_samples": num_samples})})
    materials = load_materials(config)
    if not as_json:
        display.stage(f"evaluating {checkpoint} on {len(materials.data.eval):,} held-out prompts")
    policy = str(checkpoint / "policy")
    start_ray(config.cluster)
    try:
        tokenizer = load_tokenizer(policy, trust_remote_code=config.model.trust_remote_code)
        faults, episodes = Faults(config.cluster.max_restarts), EpisodeSettings.of(config)
        rollouts = RolloutFleet(
            policy, config.model, config.rollout, tokenizer, seed=config.seed, faults=faults, episodes=episodes
        )
        scoring = ScoringFleet(config.reward, materials.default_reward)
        rollouts.start()
        held_out = materials.data.eval
        curve: list[BudgetRow] = []
        rows: list[EvaluationRow] = []
        if thinking_budgets:
            curve = thinking_curve(held_out, rollouts, scoring, config.eval, sorted(thinking_budgets))
        else:
            rows = evaluate(held_out, rollouts, scoring, config.eval, load_progress(checkpoint).step)
        scoring.close()
        rollouts.close()
    finally:
        stop_ray()
    if as_json:
        for row in curve or rows:
            print(json.dumps(asdict(row)))
        return curve or rows
    if curve:
        display.thinking_curve(curve)
        return curve
    before = recorded_evaluation(run_dir, 0)
    if before and rows and before[0].num_samples == rows[0].num_samples and rows[0].step != 0:
        display.evaluation(before, rows)
    else:
        display.evaluation(rows)
    return rows
