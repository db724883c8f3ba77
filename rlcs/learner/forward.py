"""Log-probabilities and entropies of learned tokens under a causal language model.

The head is computed for the positions that predict a learned token, and for no other. Logits are divided by the
sampling temperature first, so that log-probabilities are those of the distribution that was sampled from.

Two layouts give the same numbers: packed rows (`rlcs.learner.packing`), and padded rows for models whose attention
cannot be packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.learner import attention
from rlcs.learner.batching import Family
from rlcs.learner.packing import pack
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MAX_LOGITS = 2**27
"""Logits held at once; more are computed in chunks and again in the backward pass."""


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
    if model.config._attn_implementation == attention.NAME:
        packed = pack(batch, families, model.device)
        hidden = (
            _base(model)(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False, packed=packed)
            .last_hidden_state[0]
            .index_select(0, packed.predictors)
        )
        targets, tokens, sequences = packed.targets, packed.token_index, packed.sequence_index
    else:
        hidden, targets, tokens, sequences = _padded_hidden(model, batch, families)
    logprobs, entropies = _head(model, hidden, targets, temperature, entropy)
    return logprobs, entropies, tokens, sequences


def _padded_hidden(
    model: PreTrainedModel, batch: Batch, families: Sequence[Family]
) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.int64], NDArray[np.int64]]:
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
    hidden = _base(model)(input_ids=torch.from_numpy(ids).to(model.device), use_cache=False).last_hidden_state
    selected = hidden.flatten(0, 1).index_select(0, torch.from_numpy(np.concatenate(predictors)).to(model.device))
    targets = torch.from_numpy(batch.token_ids[index]).to(model.device)
    return selected, targets, index, np.concatenate(owners)


def _base(model: PreTrainedModel) -> Any:
    """The model without its head."""
    return getattr(model, model.base_model_prefix)


def _head(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities [M] of `targets` [M] and entropies from hidden states [M, width]."""
    import torch
    from torch.utils.checkpoint import checkpoint

    head = model.get_output_embeddings()
    chunk = max(1, MAX_LOGITS // head.weight.shape[0])
    if len(hidden) <= chunk:
        return _chunk(head, hidden, targets, temperature, entropy)
    logprobs, entropies = [], []
    for rows, wanted in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        part, uncertainty = checkpoint(_chunk, head, rows, wanted, temperature, entropy, use_reentrant=False)
        logprobs.append(part)
        entropies.append(uncertainty)
    return torch.cat(logprobs), torch.cat(entropies) if entropy else None


def _chunk(
    head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    import torch

    logits = head(hidden).float()
    if temperature != 1.0:
        logits = logits / temperature
    logprobs = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if not entropy:
        return logprobs, None
    with torch.no_grad():
        all_logprobs = torch.log_softmax(logits.detach(), dim=-1)
        return logprobs, -(all_logprobs.exp() * all_logprobs).sum(-1)
