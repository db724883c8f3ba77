"""The policy as the learner holds it: loaded in float32, with packed attention where the model allows it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from rlcs.config import LearnerConfig
from rlcs.errors import ConfigError, DataError
from rlcs.learner import attention
from rlcs.learner.forward import check_head
from rlcs.learner.sharding import is_sharded, whole
from rlcs.learner.vision import add_cache, share_cache
from rlcs.vision import sees

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

UNSUPPORTED = ("attn_logit_softcapping",)
"""Settings of models that change attention in a way that the attention used here does not compute."""


def learner_device(config: LearnerConfig) -> torch.device:
    """The GPU that this process sees, else the CPU; also the CPU for several ranks that have no GPU to themselves."""
    import torch

    shared = config.data_parallel_size > 1 and not config.gpus
    return torch.device("cuda" if torch.cuda.is_available() and not shared else "cpu")


def load_model(
    path: str,
    *,
    layout: Literal["packed", "padded"],
    device: torch.device,
    trust_remote_code: bool = False,
    dtype: torch.dtype | None = None,
    quantization: Any = None,
    beside: Any = None,
) -> PreTrainedModel:
    """The causal language model of a folder or hub name, in `dtype` (float32), without dropout, on `device`.

    `beside`: a model loaded from the same folder, whose processed pixels are used instead of loading a processor again.
    `quantization` is transformers' description of how the weights are quantized; such a model can only be a frozen base.

    Raises:
        DataError: the folder holds no causal language model that transformers can load.
        ConfigError: the model changes its attention or its logits in a way that is not supported.
    """
    import torch

    from rlcs.models import load_model as from_pretrained

    try:
        with quiet():
            quantized = {"quantization_config": quantization, "device_map": {"": device}} if quantization else {}
            model: Any = from_pretrained(
                path,
                dtype=dtype or torch.float32,
                trust_remote_code=trust_remote_code,
                attn_implementation="sdpa",
                **quantized,
            )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"model {path}: transformers cannot load it as a causal language model ({reason})") from error
    refuse_unsupported(model, path)
    if not quantization:
        model.to(device)
    model.eval()
    for module in model.modules() if quantization else ():
        if type(module).__name__ == "Linear4bit":
            module.train()  # in evaluation mode, on a CPU, it would repack its weights in a way that has no gradient
    check_head(model, path)
    prepare(model, path, layout)
    if beside is None:
        add_cache(model, path, trust_remote_code=trust_remote_code)
    else:
        share_cache(beside, model)
    return model  # type: ignore[no-any-return]


def refuse_unsupported(model: Any, path: str) -> None:
    """Raises ConfigError where the model changes its attention in a way that is not computed here."""
    for name in UNSUPPORTED:
        if getattr(model.config.get_text_config(), name, None) is not None:
            raise ConfigError(f"model {path}: its config sets {name}, which the learner does not support")


def prepare(model: Any, path: str, layout: Literal["packed", "padded"]) -> None:
    """Pack the model's attention where it can be packed, and switch dropout off."""
    import torch

    if layout == "packed":
        if getattr(model, "_supports_attention_backend", False):
            attention.register()
            # Of a vision-language model the decoder alone: its vision tower has no packed rows.
            model.set_attn_implementation({"text_config": attention.NAME} if sees(model.config) else attention.NAME)
        else:
            logger.warning("model %s: its attention cannot be packed; the learner pads rows instead", path)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars, for reading and writing models inside a run."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def named_weights(
    model: PreTrainedModel, *, dtype: torch.dtype | None = None, keep: bool = True
) -> dict[str, torch.Tensor]:
    """Weights and persistent buffers under the names of a Hugging Face folder, tied weights once.

    They are not copied, but for sharded ones: those are gathered one after the other and put on the CPU, as `dtype` if
    given. All ranks must then call it; where `keep` is False nothing is kept, and the result is empty.
    """
    from transformers.core_model_loading import revert_weight_conversion

    seen: set[int] = set()
    weights = {}
    for name, value in model.state_dict(keep_vars=True).items():
        plain = not is_sharded(value)
        # A sharded weight has no address of its own; tied ones are one object.
        identity = value.data_ptr() if plain and value.numel() else id(value)
        if identity in seen:
            continue
        seen.add(identity)
        full = whole(value.detach())
        if keep:
            weights[name] = full if plain else full.to("cpu", dtype if full.is_floating_point() else None)
    return dict(revert_weight_conversion(model, weights)) if keep else {}
