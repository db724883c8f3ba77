"""Log-probabilities and entropies of learned tokens under a causal language model, and their values under a critic.

The head is computed for the positions that predict a learned token, and for no other. Logits are divided by the
sampling temperature first, so that log-probabilities are those of the distribution that was sampled from. Where they
would take much memory, and under autocast, `rlcs.learner.head` computes them a chunk of tokens at a time.

Two layouts give the same numbers: packed rows (`rlcs.learner.packing`), and padded rows for models whose attention
cannot be packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.errors import ConfigError
from rlcs.learner import attention
from rlcs.learner.batching import Family
from rlcs.learner.packing import pack
from rlcs.learner.sharding import run
from rlcs.learner.vision import cache_of, hidden_states, lay_out
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from rlcs.learner.head import Logits

MAX_LOGITS = 2**27
"""Logits held at once; more are computed in chunks and again in the backward pass."""
FLOAT32_HEAD = "rlcs_float32"
"""An attribute of the head's module: compute its product in float32, whatever the autocast type."""
MAX_LOGITS_CPU = 2**23
"""The same on a CPU, where small chunks cost no time: 32 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a forward pass says of M learned tokens."""

    logprobs: torch.Tensor
    """[M]"""
    entropies: torch.Tensor | None
    """[M] without gradient; None if not asked for."""
    values: torch.Tensor | None
    """[M] None without a value head."""
    token_index: NDArray[np.int64]
    """[M] where the tokens stand in the batch's flat arrays."""
    sequence_index: NDArray[np.int64]
    """[M] the sequence each belongs to."""


def learned_logprobs(
    model: PreTrainedModel,
    batch: Batch,
    families: Sequence[Family],
    *,
    temperature: float,
    entropy: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None, NDArray[np.int64], NDArray[np.int64]]:
    """Log-probabilities [M] and entropies [M] (no gradient; None if not asked for) of the learned tokens of `families`.

    Also [M] where these tokens stand in the batch's flat arrays, and [M] the sequence each belongs to.
    """
    found = learned_outputs(model, batch, families, temperature=temperature, entropy=entropy)
    return found.logprobs, found.entropies, found.token_index, found.sequence_index


def learned_outputs(
    model: PreTrainedModel,
    batch: Batch,
    families: Sequence[Family],
    *,
    temperature: float,
    entropy: bool = True,
    value_head: torch.nn.Module | None = None,
) -> Outputs:
    """The same, and the values that `value_head` makes of the same hidden states."""
    inputs, predictors, targets, tokens, sequences = _inputs(model, batch, families)
    logprobs, entropies, values = run(model, _compute, inputs, predictors, targets, temperature, entropy, value_head)
    return Outputs(logprobs, entropies, values, tokens, sequences)


def learned_values(
    model: PreTrainedModel,
    batch: Batch,
    families: Sequence[Family],
    value_head: torch.nn.Module,
    *,
    train_trunk: bool = True,
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Values [M] of the learned tokens of `families`, of what stands before each, and where they stand in the batch.

    Without `train_trunk` the gradient ends at the head.
    """
    inputs, predictors, _, tokens, _ = _inputs(model, batch, families)
    return run(model, _compute_values, inputs, predictors, value_head, train_trunk), tokens


def _inputs(
    model: PreTrainedModel, batch: Batch, families: Sequence[Family]
) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """The model's inputs, the places that predict learned tokens [M], these tokens [M], their and their sequences' index."""
    if not attention.is_packed(model):
        return _padded(batch, families, model.device)
    packed = pack(batch, families, model.device)
    inputs = {"input_ids": packed.input_ids, "position_ids": packed.position_ids, "packed": packed}
    cache = cache_of(model)
    if cache is not None:
        inputs["shown"] = lay_out(batch, families, cache, model.device)
    return inputs, packed.predictors, packed.targets, packed.token_index, packed.sequence_index


def _compute(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    predictors: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
    entropy: bool,
    value_head: torch.nn.Module | None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Log-probabilities [M] of `targets` [M], entropies and values of the hidden states at `predictors`."""
    hidden = _hidden(model, inputs, predictors)
    logprobs, entropies = _head(model, hidden, targets, temperature, entropy)
    return logprobs, entropies, None if value_head is None else _values(value_head, hidden)


def _compute_values(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    predictors: torch.Tensor,
    value_head: torch.nn.Module,
    train_trunk: bool,
) -> torch.Tensor:
    import torch

    with torch.set_grad_enabled(train_trunk and torch.is_grad_enabled()):
        hidden = _hidden(model, inputs, predictors)
    return _values(value_head, hidden)


def _hidden(model: PreTrainedModel, inputs: dict[str, Any], predictors: torch.Tensor) -> torch.Tensor:
    """[M, width] last hidden states at `predictors` [M]."""
    if "shown" in inputs:
        hidden = hidden_states(model, inputs["input_ids"], inputs["shown"], inputs["packed"])
    else:
        hidden = _base(model)(**inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, predictors)


def _values(value_head: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """[M] in float32: a value rounded to bfloat16 would be off by more than the critic's error."""
    import torch

    with torch.autocast(hidden.device.type, enabled=False):
        values: torch.Tensor = value_head(hidden.float())
    return values[:, 0]


def _padded(
    batch: Batch, families: Sequence[Family], device: torch.device
) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """A row a sequence, filled up to the longest: inputs, predictors [M], targets [M], token and sequence index [M]."""
    import torch

    sequences = np.concatenate([family.sequences for family in families])
    width = int(batch.lengths[sequences].max())
    ids = np.zeros((len(sequences), width), np.int64)
    predictors, tokens, owners = [], [], []
    for line, sequence in enumerate(sequences):
        start, end = int(batch.offsets[sequence]), int(batch.offsets[sequence + 1])
        ids[line, : end - start] = batch.token_ids[start:end]
        learned = np.flatnonzero(batch.loss_mask[start:end])
        predictors.append(line * width + learned - 1)
        tokens.append(start + learned)
        owners.append(np.full(len(learned), sequence, np.int64))
    index = np.concatenate(tokens)
    # Padding stands on the right, where a causal model never looks: no attention mask, so the fast kernel serves.
    inputs = {"input_ids": torch.from_numpy(ids).to(device)}
    targets = torch.from_numpy(batch.token_ids[index]).to(device)
    return inputs, torch.from_numpy(np.concatenate(predictors)).to(device), targets, index, np.concatenate(owners)


def _base(model: PreTrainedModel) -> Any:
    """The model without its head."""
    return getattr(model, model.base_model_prefix)


def check_head(model: PreTrainedModel, name: str) -> None:
    """See that the log-probabilities computed here are those of the model itself; before its attention is packed.

    Raises:
        ConfigError: the model changes its logits in a way that is not known here.
    """
    import torch

    embeddings: Any = model.get_input_embeddings()
    ids = torch.arange(2, device=model.device)[None] % embeddings.weight.shape[0]
    with torch.no_grad():
        expected = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), -1)
        hidden = _base(model)(input_ids=ids, use_cache=False).last_hidden_state[0]
        for token in (0, expected.shape[1] - 1):
            found, _ = _head(model, hidden, torch.full((2,), token, device=model.device), 1.0, False)
            if not torch.allclose(found, expected[:, token], atol=1e-3, rtol=1e-3, equal_nan=True):
                raise ConfigError(
                    f"model {name}: its log-probabilities are not those of its last hidden states and its head; "
                    "the learner does not support what it does to its logits"
                )


def _head(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities [M] of `targets` [M] and entropies from hidden states [M, width]."""
    import torch
    from torch.utils.checkpoint import checkpoint

    from rlcs.learner.head import chosen_logprobs

    head = model.get_output_embeddings()
    device = hidden.device.type
    if getattr(head, FLOAT32_HEAD, False) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return _head(model, hidden.float(), targets, temperature, entropy)
    logits = _logits(model, temperature)
    chunk = max(1, (MAX_LOGITS if device == "cuda" else min(MAX_LOGITS, MAX_LOGITS_CPU)) // head.weight.shape[0])
    small = len(hidden) <= chunk
    if _is_linear(head) and (not small or torch.is_autocast_enabled(device)):
        return chosen_logprobs(
            hidden, head.weight, targets, bias=head.bias, logits=logits, chunk=chunk, entropy=entropy
        )
    if small:
        return _chunk(head, hidden, targets, logits, entropy)
    # The head is more than a matrix (an adapter, a shard of several devices): its own forward computes it.
    logprobs, entropies = [], []
    for rows, wanted in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        part, uncertainty = checkpoint(_chunk, head, rows, wanted, logits, entropy, use_reentrant=False)
        logprobs.append(part)
        entropies.append(uncertainty)
    return torch.cat(logprobs), torch.cat(entropies) if entropy else None


def _is_linear(head: torch.nn.Module) -> bool:
    """Whether the head is a plain product with its weight, which nothing wraps or watches."""
    import torch

    return (
        type(head) is torch.nn.Linear
        and type(head.weight) in (torch.nn.Parameter, torch.Tensor)
        and not head._forward_hooks
        and not head._forward_pre_hooks
    )


def _logits(model: PreTrainedModel, temperature: float) -> Logits:
    """What the model does to its head's output, and then the temperature."""
    from rlcs.learner.head import Logits

    config = model.config.get_text_config()
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    return Logits(temperature, scale, getattr(config, "final_logit_softcapping", None))


def _chunk(
    head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, logits: Logits, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    import torch

    scores = logits.finish(head(hidden).float())
    logprobs = -torch.nn.functional.cross_entropy(scores, targets, reduction="none")
    if not entropy:
        return logprobs, None
    with torch.no_grad():
        all_logprobs = torch.log_softmax(scores.detach(), dim=-1)
        return logprobs, -(all_logprobs.exp() * all_logprobs).sum(-1)
