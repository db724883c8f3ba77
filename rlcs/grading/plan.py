"""What `rlcs grade` is asked for, loaded and checked before anything is written or started.

Mistakes are told here, in one line; what comes after is rollouts only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import Config, DataConfig, ModelConfig
from rlcs.curricula.grading import UNLABELLED, TierRule
from rlcs.data import DataSplits, load_splits
from rlcs.data_rows import RowProblem, to_prompt
from rlcs.errors import ConfigError, DataError
from rlcs.grading.dataset import Source, dataset_source, prompts_source
from rlcs.grading.display import GradeDisplay
from rlcs.grading.journal import journal_path
from rlcs.models import check_model_folder
from rlcs.types import Prompt

_LABEL_COLUMNS = {name: name for name in ("prompt", "answer", "domain", "tier")}


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """What is to be graded, and how."""

    config: Config
    """Rollout, reward, cluster and, where `data` is None, the prompts."""
    data: str | None = None
    """A dataset instead of the configuration's own prompts."""
    models: tuple[str, ...] = ()
    """Folders or hub names; `model.path` of the configuration if empty."""
    samples: int | None = None
    """K, responses a prompt and model; `rollout.num_generations` if None."""
    output: Path | None = None
    """A Parquet file; named after the data in the working directory if None."""
    rule: TierRule = field(default_factory=TierRule)
    label: str | None = None
    """A column with human labels: tiers or their names."""
    chunk: int | None = None
    """Prompts that are graded and saved at a time; if None, as many as keep the engines busy."""
    resume: bool = False
    overwrite: bool = False
    command: str = "rlcs grade ... --resume"
    """What a person types to go on after a stop."""


@dataclass(frozen=True, slots=True)
class GradePlan:
    """A request with everything loaded and checked."""

    config: Config
    """Its data is what is graded, its learner takes nothing."""
    models: list[ModelConfig]
    names: list[str]
    """[M] short names of the models, all different."""
    samples: int
    chunk: int
    output: Path
    prompts: list[Prompt]
    """[N] each once."""
    labels: NDArray[np.int8] | None
    """[N]"""
    source: Source
    default_reward: str


def prepare(request: GradeRequest, display: GradeDisplay) -> GradePlan:
    """Load and check everything that a grading needs. Starts no Ray and writes nothing.

    Raises:
        ConfigError, DataError, RewardError: something is the user's to mend.
    """
    config = request.config
    data = _data_config(config.data, request.data)
    models = _models(request)
    samples = request.samples or config.rollout.num_generations
    output = _output(request, data)
    # A grading has no learner, and no training prompts beside those that it grades.
    config = config.model_copy(
        update={
            "data": data,
            "learner": config.learner.model_copy(update={"cpus": 0.0, "gpus": 0.0}),
        }
    )
    _check_machine(config, models)
    display.stage("making prompts" if data.env else "loading prompts")
    prompts, source, default_reward = _load(config, request)
    _check_prompts(config, models, prompts)
    display.note(f"{len(prompts):,} prompts, {len(models)} model(s), {samples} responses each")
    labels = None if request.label is None else _labels(source, request.label, prompts)
    rollout = config.rollout
    at_once = max(config.train.batch_size * rollout.num_generations, 2 * rollout.num_engines * rollout.max_num_seqs)
    chunk = request.chunk or max(1, at_once // samples)
    names = model_names([str(model.path) for model in models])
    return GradePlan(config, models, names, samples, chunk, output, prompts, labels, source, default_reward)


def fixed_settings(plan: GradePlan) -> dict[str, Any]:
    """What must be the same for a grading to go on: all that the responses and their scores depend on."""
    config = plan.config
    content = hashlib.sha256()
    for prompt in plan.prompts:
        row = [prompt.id, prompt.domain, prompt.metadata]
        content.update(json.dumps(row, sort_keys=True, default=str).encode())
    reward = config.reward.model_dump(mode="json", exclude={"num_actors", "cpus_per_actor"})
    rollout = config.rollout.model_dump(include={"temperature", "top_p", "max_prompt_length", "max_completion_length"})
    return {
        "data": f"{config.data.train or config.data.env}: {len(plan.prompts)} prompts, {content.hexdigest()[:16]}",
        "data.system_prompt": config.data.system_prompt,
        "model": [[model.path, _model_state(str(model.path))] for model in plan.models],
        "model.dtype": config.model.dtype,
        "number of samples": plan.samples,
        "seed": config.seed,
        "default reward": plan.default_reward,
        **{f"rollout.{key}": value for key, value in rollout.items()},
        **{f"reward.{key}": value for key, value in reward.items()},
    }


def _model_state(path: str) -> list[Any]:
    """Sizes and times of a model folder's files; nothing for a hub model."""
    if not Path(path).is_dir():
        return []
    files = sorted([*Path(path).glob("*.safetensors"), *Path(path).glob("*.json")])
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def model_names(models: Sequence[str]) -> list[str]:
    """Short names for columns: the last part of each path, with as many parts before it as make all of them different."""
    parts = [[part for part in Path(model).parts if part != "/"] for model in models]
    for length in range(1, max(map(len, parts)) + 1):
        names = [re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(of_model[-length:])) for of_model in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name}_{number}" for number, name in enumerate(names, start=1)]


def parse_edges(text: str) -> tuple[float, ...] | None:
    """`quantile` (None), or falling pass rates such as `0.8,0.6,0.4,0.2`.

    Raises:
        ConfigError: it is neither.
    """
    if text.strip().lower() in ("quantile", "quantiles"):
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--edges: write quantile, or pass rates such as 0.8,0.6,0.4,0.2; not {text!r}") from error


def _data_config(data: DataConfig, name: str | None) -> DataConfig:
    """The settings of the data with nothing held out, for the dataset `name` if there is one."""
    if name is not None:
        name = os.path.expanduser(name)
        return data.model_copy(update={"env": None, "tasks": [], "train": name, "eval": None, "eval_fraction": 0.0})
    return data if data.env is not None else data.model_copy(update={"eval": None, "eval_fraction": 0.0})


def _models(request: GradeRequest) -> list[ModelConfig]:
    base = request.config.model
    names: list[str | None] = list(request.models) or [base.path]
    found: list[ModelConfig] = []
    for name in names:
        if name is None:
            raise ConfigError(
                "which model answers? Give --model FOLDER_OR_HUB_NAME (the configuration makes a new one)"
            )
        path = Path(name).expanduser()
        # Absolute: an actor has a working directory of its own.
        model = base.model_copy(update={"path": str(path.absolute()) if path.is_dir() else name, "init": None})
        if model in found:
            raise ConfigError(f"--model {name} is given twice: a model counts once")
        with _as_option("model.path", "--model"):
            check_model_folder(model)
        found.append(model)
    return found


def _output(request: GradeRequest, data: DataConfig) -> Path:
    """The file to write, checked: that it can be made, and that nothing is overwritten unasked."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(data.train).stem) if data.train else request.config.name
    output = (request.output or Path(f"{stem}-graded.parquet")).expanduser()
    if output.suffix.lower() not in (".parquet", ".pq"):
        raise ConfigError(f"--output: {output} is written as Parquet: its name must end in .parquet")
    if output.is_dir():
        raise ConfigError(f"--output: {output} is a folder: name a file")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--output: {output.parent} is no folder that can be written to")
    if data.train is not None and output.exists() and Path(data.train).exists() and output.samefile(data.train):
        raise ConfigError(f"--output: {output} is the dataset that is graded: name another file")
    if request.resume and request.overwrite:
        raise ConfigError("give either --resume, to go on, or --overwrite, to begin anew")
    if request.overwrite:
        return output
    journal = journal_path(output)
    if journal.exists() and not request.resume:
        raise ConfigError(f"{journal} is of a grading that was stopped: --resume goes on, --overwrite begins anew")
    if output.exists() and not (request.resume and journal.exists()):
        raise ConfigError(f"--output: {output} exists already: choose another name, or give --overwrite")
    return output


def _check_machine(config: Config, models: Sequence[ModelConfig]) -> None:
    from rlcs.preflight import available_cpus, available_gpus, check_cluster, check_context

    for model in models:
        check_context(config.model_copy(update={"model": model}))
    check_cluster(config, available_cpus(config), available_gpus(config))


def _load(config: Config, request: GradeRequest) -> tuple[list[Prompt], Source, str]:
    """The distinct prompts whose references can be used, the rows that they stand in, and the default reward."""
    from rlcs.envs.base import build_splits, load_env
    from rlcs.preflight_rewards import check_rewards

    data = config.data
    if data.env is not None:
        env = load_env(data.env)
        default_reward = env.reward
        prompts = check_rewards(
            config, default_reward, DataSplits(build_splits(env, data, config.seed).train, [])
        ).train
        return prompts, prompts_source(prompts, data.system_prompt), default_reward
    with _as_option("data.train", "--data") if request.data is not None else _as_it_is():
        prompts = check_rewards(config, "math", load_splits(data, config.seed)).train
    return prompts, dataset_source(data), "math"


def _check_prompts(config: Config, models: Sequence[ModelConfig], prompts: Sequence[Prompt]) -> None:
    from rlcs.models import context_length, load_tokenizer
    from rlcs.preflight import check_prompt_lengths

    for model in models:
        assert model.path is not None
        trust = model.trust_remote_code
        check_prompt_lengths(
            prompts,
            load_tokenizer(model.path, trust_remote_code=trust),
            max_prompt_length=config.rollout.max_prompt_length,
            context_length=context_length(model.path, trust_remote_code=trust),
            max_completion_length=config.rollout.max_completion_length,
        )


def _labels(source: Source, label: str, prompts: Sequence[Prompt]) -> NDArray[np.int8]:
    """[N] the human labels of prompts, `UNLABELLED` where a row has none; the first row of a prompt counts."""
    row_of = {prompt.id: row for row, prompt in enumerate(prompts)}
    labels = np.full(len(prompts), UNLABELLED, dtype=np.int8)
    seen: set[str] = set()
    columns: dict[str, None] = {}
    for id_, values in source.rows():
        columns.update(dict.fromkeys(values))
        if id_ not in row_of or id_ in seen:
            continue
        seen.add(id_)
        try:
            tier = to_prompt({"prompt": "-", "answer": "-", "tier": values.get(label)}, _LABEL_COLUMNS, None).tier
        except RowProblem as problem:
            reason = str(problem).removeprefix("tier ")
            raise DataError(f"--label: column {label!r} of prompt {id_} {reason}") from problem
        labels[row_of[id_]] = UNLABELLED if tier is None else tier
    if label not in columns:
        raise DataError(f"--label: no row has a column {label!r}; there are {', '.join(columns)}")
    return labels


@contextmanager
def _as_option(setting: str, option: str) -> Iterator[None]:
    """Errors name the option of the command line in which the value was given."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(str(error).replace(f"{setting}:", f"{option}:", 1)) from error


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
