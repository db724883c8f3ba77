"""A LoRA adapter on the learner's policy, through peft: only it is trained, sent to the engines and saved.

peft puts its layers inside the model, so the learner goes on calling the model itself. The reference of the KL penalty
takes no second copy: it is the base with the adapter switched off, or, where training began from an adapter, the base
with a frozen copy of that adapter.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.adapters import is_adapter_folder, pack_adapter, write_adapter
from rlcs.config import ModelConfig
from rlcs.config_lora import LoRAConfig
from rlcs.errors import ConfigError
from rlcs.learner.sharding import whole
from rlcs.learner.snapshot import Copies, Piece, cast, nothing, num_bytes
from rlcs.vision import sees

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_TRAINED = "default"
_REFERENCE = "reference"
_PROJECTOR = r"(.*\.)?(visual\.merger|multi_modal_projector)\..*"
_SEES = r"(.*\.)?(visual|vision_tower|vision_model|multi_modal_projector)\..*"
_PARTS = {
    "vision_tower": rf"(?!{_PROJECTOR}){_SEES}",
    "projector": _PROJECTOR,
    "decoder": rf"(?!{_SEES}).*",
}
"""Expressions for the whole names of a part's layers."""


class Adapter:
    """The adapter of a model. It is put into the model at the start and stays there."""

    def __init__(
        self,
        model: PreTrainedModel,
        path: str,
        base: str,
        settings: ModelConfig | None,
        *,
        keep_reference: bool,
        seed: int,
    ) -> None:
        """Freeze `model`, loaded from `base`, and attach the adapter of the folder `path`, or a new one by `settings`.

        Raises:
            ConfigError: `model.lora` does not fit the model.
        """
        self._path = path
        self._base = base
        self.peft = attach(model, path, settings.lora if settings is not None else None, seed=seed)
        self._has_reference = keep_reference and is_adapter_folder(path)
        if self._has_reference:
            self.peft.load_adapter(path, _REFERENCE, is_trainable=False)
            self.peft.set_adapter(_TRAINED)

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the model is the policy that training began from. No gradients meanwhile."""
        if not self._has_reference:
            with self.peft.disable_adapter():
                yield
            return
        self.peft.set_adapter(_REFERENCE, inference_mode=True)
        try:
            yield
        finally:
            self.peft.set_adapter(_TRAINED)

    def weights(self, dtype: torch.dtype, *, keep: bool = True) -> dict[str, torch.Tensor]:
        """The adapter on the CPU in `dtype`, packed with its configuration for the engines (`rlcs.adapters`).

        Where the policy is sharded all ranks must call this, and those with `keep` False get nothing.
        """
        tensors = _tensors(self.peft, dtype)
        return pack_adapter(_config(self.peft, self._base), tensors) if keep else {}

    def capture(self, dtype: torch.dtype, copies: Copies, trust_remote_code: bool = False) -> Piece:
        """An adapter folder in `dtype`, with the place of its base and the tokenizer; all ranks must call this."""
        tensors = {name: copies.of(value) for name, value in sorted(_state(self.peft).items())}
        if not copies.keep:
            return Piece(0, nothing)
        config = _config(self.peft, self._base)

        def write(folder: Path) -> None:
            from rlcs.models import load_text_side

            write_adapter(folder, config, cast(tensors, dtype))
            load_text_side(self._path, trust_remote_code=trust_remote_code).save_pretrained(folder)

        return Piece(num_bytes(tensors, dtype), write)


def has_adapter(path: str, settings: ModelConfig | None) -> bool:
    """Whether the policy in `path` is trained through an adapter: its own, or one that the settings ask for."""
    return is_adapter_folder(path) or (settings is not None and settings.lora is not None)


def save_adapter(peft: PeftModel, base: str, folder: Path, dtype: torch.dtype) -> None:
    """Write the trained adapter of `peft` to `folder` in `dtype`; `base` is the folder or hub name of its base."""
    write_adapter(folder, _config(peft, base), _tensors(peft, dtype))


def _state(peft: PeftModel) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    # "auto" would look up on the hub whether embeddings were resized.
    return dict(get_peft_model_state_dict(peft, adapter_name=_TRAINED, save_embedding_layers=False))


def _tensors(peft: PeftModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: whole(value.detach()).to("cpu", dtype) for name, value in sorted(_state(peft).items())}


def _config(peft: PeftModel, base: str) -> dict[str, Any]:
    config = copy.copy(peft.peft_config[_TRAINED])
    config.inference_mode = True
    config.base_model_name_or_path = str(Path(base).absolute()) if Path(base).is_dir() else base
    content = config.to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in content.items()}


def attach(model: PreTrainedModel, path: str, lora: LoRAConfig | None, *, seed: int) -> PeftModel:
    """`model` with the adapter of the folder `path`, or a new one by `lora`, the only thing that is trained.

    A new adapter changes nothing yet. Its weights are float32, whatever the type of the model.

    Raises:
        ConfigError: `model.lora` does not fit the model.
    """
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import PeftModel, get_peft_model

    if is_adapter_folder(path):
        peft: Any = PeftModel.from_pretrained(model, path, is_trainable=True)
    else:
        assert lora is not None
        target: list[str] | str = lora.target_modules
        config = PeftConfig(
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            lora_dropout=0.0,
            target_modules=target,
            exclude_modules=_excluded(model, lora),
            modules_to_save=lora.modules_to_save or None,
            use_rslora=lora.use_rslora,
            use_dora=lora.use_dora,
            task_type="CAUSAL_LM",
        )
        try:
            with torch.random.fork_rng(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*tie_word_embeddings")  # see _check_tied_head
                torch.manual_seed(seed)
                peft = get_peft_model(model, config)
        except ValueError as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"model.lora does not fit the model ({reason}); set model.lora.target_modules") from error
    _check_saved_modules(model, lora)
    _check_tied_head(model)
    _set_dropout(model, lora.lora_dropout if lora is not None else 0.0)
    return peft  # type: ignore[no-any-return]


def _excluded(model: PreTrainedModel, lora: LoRAConfig) -> str | None:
    """An expression for the layers without an adapter, whatever `target_modules` says; None where there are none."""
    parts = lora.target_parts
    if not sees(model.config):
        if parts:
            raise ConfigError(f"model.lora.target_parts: a {type(model).__name__} sees nothing; leave it empty")
        return None
    if not parts and lora.target_modules == "all-linear":
        parts = ["decoder"]  # vLLM computes no adapter in a vision tower
    if not parts:
        return None
    return "|".join(f"(?:{pattern})" for part, pattern in _PARTS.items() if part not in parts) or None


def quantization(model: ModelConfig | None, dtype: torch.dtype) -> Any:
    """transformers' description of the 4-bit base of QLoRA; None where it is not asked for."""
    if model is None or not model.load_in_4bit:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=model.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=model.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def _check_saved_modules(model: PreTrainedModel, lora: LoRAConfig | None) -> None:
    names = [name for name, _ in model.named_modules()]
    for wanted in lora.modules_to_save if lora is not None else ():
        if not any(f".{name}.".find(f".{wanted}.") >= 0 for name in names):
            raise ConfigError(f"model.lora.modules_to_save: the model has no layer named {wanted}")


def _check_tied_head(model: PreTrainedModel) -> None:
    """A head that is also the embedding cannot have an update of its own: a merged model would tie them again."""
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and any(part in ("lm_head", "embed_tokens") for part in name.split(".")):
            raise ConfigError(
                "model.lora: the model's head and embeddings are one matrix (tie_word_embeddings); take lm_head and "
                "embed_tokens out of model.lora.target_modules and model.lora.modules_to_save"
            )


def _set_dropout(model: PreTrainedModel, probability: float) -> None:
    """Dropout where a gradient is computed only, so that log-probabilities of other passes are the policy's own."""
    import torch
    from peft.tuners.lora import LoraLayer

    class GradientDropout(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(x, probability, training=torch.is_grad_enabled())

    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in list(module.lora_dropout):
                module.lora_dropout[name] = GradientDropout() if probability else torch.nn.Identity()
