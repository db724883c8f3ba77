"""The settings of `rlcs reward-model`: which model is trained on which preference pairs, and how.

Read by `rlcs.config_loading.load_config(path, overrides, RewardModelRun)`, with the same errors as a run's.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from rlcs.config import HomePath, ModelConfig, Section

PREFERENCE_COLUMNS = ("prompt", "chosen", "rejected")
"""Columns of preference pairs; `data.columns` says what a dataset calls them."""


class PreferenceDataConfig(Section):
    """Preference pairs: a prompt with a better and a worse answer."""

    train: HomePath = Field(description="Dataset: a JSONL, Parquet or CSV file, or a hub name.")
    train_split: str = Field("train", description="Split of a hub dataset to train on.")
    eval: HomePath | None = Field(None, description="Held-out pairs, named like `train`.")
    eval_split: str = Field("test", description="Split of a hub dataset to evaluate on.")
    subset: str | None = Field(None, description="Configuration of a hub dataset.")
    eval_fraction: float = Field(0.1, gt=0, lt=1, description="Share of the prompts held out if `eval` is not given.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Renames columns: ours (prompt, chosen, rejected) to theirs."
    )
    on_bad_row: Literal["error", "skip"] = Field("error", description="Refuse a dataset with a bad row, or skip it.")

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for ours in columns:
            if ours not in PREFERENCE_COLUMNS:
                near = difflib.get_close_matches(ours, PREFERENCE_COLUMNS, n=1)
                hint = f"did you mean {near[0]}?" if near else "write ours: theirs, such as prompt: question"
                raise ValueError(f"data.columns has no {ours!r} (only {', '.join(PREFERENCE_COLUMNS)}); {hint}")
        return columns


class RewardTrainingConfig(Section):
    """TRL's RewardTrainer: the Bradley-Terry loss, AdamW, a learning rate that falls as a cosine."""

    epochs: PositiveFloat = Field(1.0, description="Passes over the pairs.")
    batch_size: PositiveInt = Field(16, description="Pairs in a forward and backward pass.")
    gradient_accumulation_steps: PositiveInt = Field(1, description="Passes an optimizer step.")
    learning_rate: PositiveFloat = Field(1e-5, description="Peak learning rate.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    weight_decay: NonNegativeFloat = Field(0.0, description="AdamW weight decay.")
    max_length: PositiveInt = Field(
        2048, description="Longest prompt and answer, in tokens; longer pairs are left out."
    )
    center_rewards_coefficient: NonNegativeFloat = Field(
        0.01, description="Weight of the squared mean of a pair's logits, which keeps them near 0."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass.")


class RewardModelRun(Section):
    """Everything about the training of a reward model."""

    name: str = Field(
        "reward-model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the model's folder."
    )
    # Not validated: in strict JSON mode, which `rlcs.config_loading` uses, a path must be text.
    output_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        Path("runs"), validate_default=False, description="Folder that holds the model's folder."
    )
    seed: int = Field(0, ge=0, description="Seed of the new head, the order of the pairs and the held-out prompts.")
    model: ModelConfig
    data: PreferenceDataConfig
    train: RewardTrainingConfig = Field(default_factory=RewardTrainingConfig)

    @property
    def folder(self) -> Path:
        """Where the reward model is written."""
        return self.output_dir / self.name

    @model_validator(mode="after")
    def _fits_the_context(self) -> Self:
        context = self.model.tiny.max_position_embeddings
        if self.model.init == "tiny" and self.train.max_length > context:
            raise ValueError(
                f"train.max_length ({self.train.max_length}) is more than the model's context "
                f"(model.tiny.max_position_embeddings, {context})"
            )
        return self
