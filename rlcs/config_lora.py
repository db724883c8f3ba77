"""The settings of a LoRA adapter, under the names of peft's `LoraConfig` and TRL's `ModelConfig`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from rlcs.config_section import Section


class LoRAConfig(Section):
    """A low-rank adapter that is trained in place of the weights; names and meanings are those of peft's LoraConfig."""

    r: int = Field(16, ge=1, le=512, description="Rank of the update of a layer.")
    lora_alpha: PositiveInt = Field(32, description="The update is scaled by lora_alpha / r.")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout before the adapter where a gradient is computed, and nowhere else."
    )
    target_modules: list[str] | str = Field(
        "all-linear",
        description="Layers with an adapter: all-linear (all but the head), names, or a regular expression.",
    )
    target_parts: list[Literal["vision_tower", "projector", "decoder"]] = Field(
        default_factory=list,
        description="Parts of a vision-language model in which target_modules are looked for; empty: the decoder for all-linear, "
        "everywhere for names and expressions. Engines merge adapters of the vision tower and the projector.",
    )
    modules_to_save: list[str] = Field(
        default_factory=list, description="Layers trained whole beside the adapter, such as lm_head."
    )
    use_rslora: bool = Field(False, description="Scale by lora_alpha / sqrt(r) instead (rank-stabilized LoRA).")
    use_dora: bool = Field(False, description="Train the lengths of the weights' rows apart (DoRA).")
    engine_mode: Literal["auto", "adapter", "merged"] = Field(
        "auto",
        description="Engines compute the adapter beside the base (vLLM's LoRA), or merge each version into their weights; "
        "auto: adapter on a GPU, merged on a CPU and where vLLM has no kernel (use_dora, modules_to_save).",
    )

    @field_validator("target_modules")
    @classmethod
    def _something_is_targeted(cls, value: list[str] | str) -> list[str] | str:
        if not value or (isinstance(value, list) and not all(value)):
            raise ValueError("model.lora.target_modules is empty: name layers, such as [q_proj, v_proj], or all-linear")
        return value

    @model_validator(mode="after")
    def _vllm_has_a_kernel(self) -> Self:
        named = "use_dora" if self.use_dora else "modules_to_save" if self.modules_to_save else None
        if self.reaches_vision:
            named = "target_parts other than decoder"
        if named and self.engine_mode == "adapter":
            raise ValueError(
                f"vLLM has no kernel for model.lora.{named}: set model.lora.engine_mode to merged, or leave it at auto"
            )
        return self

    @property
    def reaches_vision(self) -> bool:
        """Whether layers of the vision tower or the projector are asked for by part."""
        return bool(set(self.target_parts) - {"decoder"})
