"""A curriculum in TRL: `GRPOTrainer` with prompts drawn by any of our curricula, and pass rates fed back.

    trainer = CurriculumGRPOTrainer(model, reward_funcs=Math(), args=args, train_dataset=dataset, curriculum="posterior")

Prompts are drawn when they are generated from, not by the sampler of the data loader: loaders fetch ahead (accelerate
a batch, gradient accumulation a step, workers more), so that a sampler would draw before the last pass rates are known,
and a resumed run would draw other prompts than one that was not stopped. The loader deals tickets instead; in
place of `generation_batch_size` tickets come the rows drawn, each `num_generations` times in a row, as `RepeatSampler`
lays them out. The main process draws, observes and saves; the others get the rows by broadcast.

All else is TRL's. Its number of responses is fixed, so that two things of `rlcs train` are left out: expansion (drawing
more prompts than are learned from) and redraws (so that `dapo` is uniform sampling here).

Shapes: n prompts of a generation, G responses each, F reward functions. Written for TRL 1.16.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast, send_to_device
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import ValidationError
from trl import GRPOTrainer

from rlcs.checkpoint import explain_damage, load_arrays, save_arrays
from rlcs.config import CurriculumConfig
from rlcs.curricula.base import UNGRADED, Curriculum, Observation, PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.data_rows import RowProblem, to_prompt
from rlcs.errors import CheckpointError, ConfigError, DataError, RewardError

logger = logging.getLogger(__name__)

_FILE = "curriculum"
"""Stem of the files of a checkpoint that hold the curriculum's state."""

CurriculumForm = str | CurriculumConfig | Callable[[PromptTable, CurriculumConfig, int], Curriculum]
"""A curriculum's name in any of the four forms, its whole configuration, or its class."""


class CurriculumGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's `GRPOTrainer`, its prompts drawn by a curriculum.

    The dataset may have a column of offline tiers (0, very easy, to 4, very hard, or their names) and one of domains.
    """

    def __init__(
        self,
        *args: Any,
        curriculum: CurriculumForm = "posterior",
        curriculum_options: Mapping[str, Any] | None = None,
        tier_column: str = "tier",
        domain_column: str = "domain",
        pass_reward: str | None = None,
        pass_threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        """See `GRPOTrainer` for the other arguments.

        Args:
            curriculum: its name (`posterior`, `rlcs`, `file.py:Class`, ...), a `CurriculumConfig`, or a class.
            curriculum_options: settings of `CurriculumConfig`, put over those of `curriculum`.
            tier_column, domain_column: columns of the dataset; one that it lacks says nothing.
            pass_reward: name of the reward function whose values say what share of a response is right; the weighted
                mean of all of them if not given.
            pass_threshold: a response is right where that value is at least this much. Needed where values leave [0, 1].

        Raises:
            ConfigError: no such curriculum, setting or reward function.
            DataError: the dataset is streamed or missing, or a tier or domain in it is wrong.
        """
        super().__init__(*args, **kwargs)
        given = kwargs.get("train_dataset", args[3] if len(args) > 3 else None)
        if not isinstance(given, Dataset):
            raise DataError(
                "a curriculum needs a train_dataset whose rows can be drawn by number: it must not be streamed"
            )
        config = _configuration(curriculum, curriculum_options or {})
        if pass_reward is not None and pass_reward not in self.reward_func_names:
            near = difflib.get_close_matches(pass_reward, self.reward_func_names, n=1)
            known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.reward_func_names)}"
            raise ConfigError(f"pass_reward: no reward function is called {pass_reward!r}; {known}")
        self._pass_reward = pass_reward
        self._pass_threshold = pass_threshold
        self.curriculum: Curriculum | None = None
        """On the main process; None on the others."""
        self._drawn = np.zeros(0, dtype=np.int64)  # [n] rows of the last generation
        self._is_repeat = False  # whether the last generation repeats that of a run that was stopped
        if self.accelerator.is_main_process:
            table = prompt_table(self.train_dataset, tier_column, domain_column)
            make = curriculum if callable(curriculum) else None
            seed = self.args.seed
            self.curriculum = make(table, config, seed) if make else load_curriculum(config.kind, table, config, seed)
            if config.kind == "dapo":
                logger.warning("curriculum dapo cannot redraw in TRL: it samples uniformly")

    def get_train_dataloader(self) -> Any:
        """TRL's loader over tickets; `_generate_and_score_completions` puts rows of the dataset in their place."""
        return self._get_dataloader(
            dataset=_Tickets(max(len(self.train_dataset), self._num_prompts)),
            description="Training",
            batch_size=self._train_batch_size * self.args.steps_per_generation,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    @property
    def _num_prompts(self) -> int:
        """n, over all processes."""
        return int(self.args.generation_batch_size) // int(self.num_generations)

    def _generate_and_score_completions(self, inputs: Sequence[Any]) -> Any:
        """TRL's, with this process's share of the rows drawn in place of the tickets `inputs`."""
        if self.model.training:
            # Else TRL generates again for a block that was under way when the run was stopped: the same prompts.
            self._is_repeat = self._step % (self.args.steps_per_generation * self.num_iterations) != 0
            if not self._is_repeat:
                self._drawn = self._draw()
            first = self.accelerator.process_index * len(inputs)
            mine = np.repeat(self._drawn, self.num_generations)[first : first + len(inputs)]
            dataset = self._remove_unused_columns(self.train_dataset, description="Training")
            rows = self.data_collator(dataset.__getitems__(mine.tolist()))
            inputs = send_to_device(rows, self.accelerator.device)
        return super()._generate_and_score_completions(inputs)

    def _draw(self) -> NDArray[np.int64]:
        """[n] the rows that the main process draws, the same on every process."""
        rows = np.zeros(self._num_prompts, dtype=np.int64)
        if self.curriculum is not None:
            rows = self.curriculum.draw(self._num_prompts)
        return self._shared(rows)

    def _shared(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """The main process's `values`, of one length on all processes."""
        shared = broadcast(torch.from_numpy(values).to(self.accelerator.device), from_process=0)
        return np.asarray(shared.cpu().numpy(), dtype=np.int64)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's [n x G, F] rewards of all processes; the curriculum is told of them."""
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        if self.model.training and not self._is_repeat:
            observation = self._observation(rewards.double().cpu().numpy())
            if self.curriculum is not None:
                self.curriculum.observe(observation)
                for name, value in self.curriculum.metrics().items():
                    self._metrics["train"][name].append(value)
        return rewards

    def _observation(self, rewards: NDArray[np.float64]) -> Observation:
        """What the curriculum is told; responses that no reward function scored do not count."""
        values = rewards.reshape(len(self._drawn), -1, rewards.shape[1])  # [n, G, F]
        weights = self.reward_weights.double().cpu().numpy()  # [F]
        marks = self._marks(values, weights)  # [n, G]
        counted = ~np.isnan(marks)
        counts = counted.sum(axis=1)
        learned = np.where(np.isnan(values).all(axis=2), np.nan, np.nansum(values * weights, axis=2))
        seen = np.flatnonzero(counts)
        return Observation(
            rows=self._drawn[seen],
            pass_rates=np.nansum(marks, axis=1)[seen] / counts[seen],
            degenerate=np.nanmax(learned[seen], axis=1) - np.nanmin(learned[seen], axis=1) < 1e-6,
            num_responses=counts[seen],
        )

    def _marks(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, G] how right each response is, in [0, 1]; NaN where that is not known. `values` [n, G, F]."""
        name = self._pass_reward or "the weighted mean of the reward functions"
        if self._pass_reward is not None:
            marks = values[:, :, self.reward_func_names.index(self._pass_reward)]
        else:
            with np.errstate(invalid="ignore"):
                marks = np.nansum(values * weights, axis=2) / (~np.isnan(values) * weights).sum(axis=2)
        known = ~np.isnan(marks)
        if self._pass_threshold is not None:
            return np.where(known, marks >= self._pass_threshold, np.nan)
        bad = known & ((marks < -1e-6) | (marks > 1 + 1e-6))
        if bad.any():
            group = int(np.argmax(bad.any(axis=1)))
            raise RewardError(
                f"row {self._drawn[group]} of the dataset: {name} is {marks[group][bad[group]][0]:g}, which is no share "
                "of right answers; give pass_threshold (right from where on), or pass_reward (the one in [0, 1])"
            )
        return np.clip(marks, 0.0, 1.0)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """TRL's, and the curriculum's state beside: `curriculum.safetensors` and `curriculum.json`."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.curriculum is not None:
            own = {"trl_drawn": self._drawn, "trl_step": self._step}
            save_arrays(Path(output_dir) / _FILE, {**self.curriculum.state_dict(), **own})

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """TRL's, and the curriculum's state, so that a resumed run draws what it would have drawn.

        Raises:
            CheckpointError: the checkpoint holds no curriculum, or one of another dataset.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        own = np.zeros(1 + self._num_prompts, dtype=np.int64)
        if self.curriculum is not None:
            own = self._load_curriculum(Path(checkpoint), self.curriculum)
        own = self._shared(own)
        # TRL counts from 0 again: generations would shift against the blocks of steps that they are for.
        self._step, self._drawn = int(own[0]), own[1:]

    def _load_curriculum(self, folder: Path, curriculum: Curriculum) -> NDArray[np.int64]:
        """Load the state; returns TRL's count of steps and the [n] rows of the last generation."""
        if not (folder / f"{_FILE}.json").is_file():
            raise CheckpointError(
                f"{folder} holds no curriculum, so it was saved by another trainer: to go on from its policy, "
                "train with model=FOLDER instead of resume_from_checkpoint"
            )
        state = load_arrays(folder / _FILE)
        with explain_damage(folder):
            drawn, step = state.pop("trl_drawn"), int(state.pop("trl_step"))
        if len(drawn) != self._num_prompts:
            raise CheckpointError(
                f"{folder} was saved with {len(drawn)} prompts a generation, now there are {self._num_prompts}: resume "
                "with the same generation_batch_size and num_generations"
            )
        with explain_damage(folder):
            curriculum.load_state_dict(state)
        own: NDArray[np.int64] = np.concatenate([[step], drawn]).astype(np.int64)
        return own


class _Tickets(torch.utils.data.Dataset[int]):
    """As many numbers as the dataset has rows: steps an epoch are counted by them."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        return index


def prompt_table(dataset: Dataset, tier_column: str = "tier", domain_column: str = "domain") -> PromptTable:
    """The table of a dataset's rows: tiers and domains as in the datasets of `rlcs train`, both optional.

    Raises:
        DataError: the dataset is empty, or names the first row whose tier or domain is wrong.
    """
    columns = {"prompt": "prompt", "answer": "answer", "tier": tier_column, "domain": domain_column}
    given = [column for column in (tier_column, domain_column) if column in dataset.column_names]
    known: dict[str, tuple[int, str]] = {}
    labels = []
    for row, values in enumerate(zip(*(dataset[column] for column in given), strict=True) if given else ()):
        key = repr(values)
        if key not in known:
            cells = dict(zip(given, values, strict=True)) | {"prompt": "-", "answer": "-"}
            try:
                prompt = to_prompt(cells, columns, None)
            except RowProblem as problem:
                raise DataError(f"train_dataset, row {row}: {problem}") from problem
            known[key] = (UNGRADED if prompt.tier is None else prompt.tier, prompt.domain)
        labels.append(known[key])
    labels = labels or [(UNGRADED, "default")] * len(dataset)
    names = sorted({domain for _, domain in labels})
    if len(names) > np.iinfo(np.int16).max:
        raise DataError(f"train_dataset has {len(names)} domains, more than {np.iinfo(np.int16).max}: merge some")
    index = {name: i for i, name in enumerate(names)}
    return PromptTable(
        np.asarray([tier for tier, _ in labels], dtype=np.int8),
        np.asarray([index[domain] for _, domain in labels], dtype=np.int16),
        names,
    )


def _configuration(curriculum: CurriculumForm, options: Mapping[str, Any]) -> CurriculumConfig:
    """The settings asked for; expansion is off, since TRL learns from every group that it generates."""
    settings: dict[str, Any] = {}
    if isinstance(curriculum, CurriculumConfig):
        settings = curriculum.model_dump()
    elif isinstance(curriculum, str):
        settings = {"kind": curriculum}
    try:
        return CurriculumConfig(**{**settings, **options, "expansion": False})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        near = difflib.get_close_matches(name, CurriculumConfig.model_fields, n=1)
        is_unknown = problem["type"] == "extra_forbidden"
        reason = f"is no setting{f'; did you mean {near[0]}?' if near else ''}" if is_unknown else problem["msg"]
        raise ConfigError(f"curriculum_options: {name} {reason}") from error
