"""A critic's own trunk: a sequence classification model with one label, whose head gives a value for every token.

Its first weights are those of a causal language model (the policy), with a head of zeros, so that all values are 0 at
first; or those of a reward model or of an earlier critic (`learner/critic/` of a checkpoint), with the head that these
have.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlcs.errors import ConfigError, DataError
from rlcs.learner.model import prepare, quiet, refuse_unsupported
from rlcs.learner.state import WEIGHTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEY = "learner.critic_path"


def load_value_model(
    path: str, *, layout: Literal["packed", "padded"], device: torch.device, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The value model of a folder or hub name, in float32, without dropout, on `device`; its head is `.score`.

    Raises:
        DataError: transformers cannot make a sequence classification model with one label of it.
        ConfigError: the model changes its attention in a way that is not supported.
    """
    import torch
    from safetensors import SafetensorError

    try:
        model, has_head = _load(path, trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{KEY}: transformers cannot make a critic of {path} ({reason}); a critic with the policy's trunk needs "
            "learner.critic: shared"
        ) from error
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        raise DataError(f"{KEY}: the head of {path} is not one matrix called score; set learner.critic to shared")
    refuse_unsupported(model, path)
    model.to(device).eval()
    if not has_head:
        torch.nn.init.zeros_(head.weight)
    prepare(model, path, layout)
    return model  # type: ignore[no-any-return]


def _load(path: str, trust_remote_code: bool) -> tuple[Any, bool]:
    """The model as transformers makes it, and whether its head was in its files."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging as transformers_logging

    make: Any = AutoModelForSequenceClassification
    options = {"dtype": torch.float32, "trust_remote_code": trust_remote_code, "attn_implementation": "sdpa"}
    with quiet():
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        if (Path(path) / WEIGHTS).is_file():  # a critic's own state
            model = make.from_config(config, **options)
            model.load_state_dict(load_file(Path(path) / WEIGHTS))
            return model, True
        classifies = any("SequenceClassification" in name for name in config.architectures or ())
        if classifies and config.num_labels != 1:
            raise DataError(f"{KEY}: {path} has {config.num_labels} labels; a reward or value model has one")
        shown = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # it reports a head that is missing
        try:
            model, info = make.from_pretrained(path, num_labels=1, output_loading_info=True, **options)
        finally:
            transformers_logging.set_verbosity(shown)
    return model, "score.weight" not in info["missing_keys"]


def check_same_tokens(path: str, policy: str, *, trust_remote_code: bool = False) -> None:
    """See that a critic reads the policy's tokens as the policy does; a folder without a tokenizer is trusted.

    Raises:
        ConfigError: the two tokenizers have different vocabularies.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError):
        return
    # Without its vocabulary file transformers makes an empty tokenizer of the model's class and says nothing.
    if not tokenizer.encode("hello 12", add_special_tokens=False):
        return
    ours = AutoTokenizer.from_pretrained(policy, trust_remote_code=trust_remote_code).get_vocab()
    if tokenizer.get_vocab() != ours:
        raise ConfigError(
            f"{KEY}: {path} has another vocabulary than the policy {policy}: take a reward model that was trained from "
            "the policy or from its base, or leave it out"
        )


def new_value_head(policy: PreTrainedModel, device: torch.device) -> torch.nn.Linear:
    """A head of zeros on the policy's hidden states."""
    import torch

    head = torch.nn.Linear(policy.config.get_text_config().hidden_size, 1, device=device, dtype=torch.float32)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    return head
