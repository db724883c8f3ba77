"""From groups to a `Batch`, and from a batch to the parts of an optimizer step.

A batch is cut twice: into minibatches, one optimizer step each, and each of these into micro-batches, one forward and
backward each, under a budget of computed tokens. Sequences that start with the same prompt and stand side by side in
the batch form a *family*: its prompt is computed once (see `rlcs.learner.packing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.learner.filling import Work, fill
from rlcs.types import Batch, FinishReason, Group, Response
from rlcs.vision.pixels import EpisodeMedia, prompt_media


def make_batch(
    groups: Sequence[Group],
    advantages: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    *,
    mask_truncated: bool = False,
) -> Batch:
    """Lay the responses of `groups` end to end, each behind its prompt.

    `advantages` is a list with the [G] advantages of each group, or one array [S] over all responses. With
    `mask_truncated` no token of a response that was cut off is learned; it still counts as a sequence.

    Raises:
        ValueError: advantages, log-probabilities or loss masks do not match the responses in number.
    """
    responses = [(group, response) for group in groups for response in group.responses]
    parts = [np.atleast_1d(np.asarray(part, np.float32)) for part in advantages]
    flat: NDArray[np.float32] = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(flat) != len(responses):
        raise ValueError(f"{len(flat)} advantages for {len(responses)} responses")
    lengths = [len(group.prompt_ids) + len(response.token_ids) for group, response in responses]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(offsets[-1])
    batch = Batch(
        token_ids=np.zeros(total, np.int64),
        offsets=offsets,
        loss_mask=np.zeros(total, np.bool_),
        logprobs=np.zeros(total, np.float32),
        advantages=np.zeros(total, np.float32),
        media=_media(responses),
    )
    for (group, response), advantage, start, end in zip(responses, flat, offsets[:-1], offsets[1:], strict=True):
        size = len(response.token_ids)
        if len(response.logprobs) != size or len(response.loss_mask) != size:
            raise ValueError(
                f"a response to prompt {group.prompt.id} has {size} tokens, {len(response.logprobs)} logprobs and "
                f"{len(response.loss_mask)} loss mask entries"
            )
        first = end - size
        mask = np.asarray(response.loss_mask, np.bool_)
        if mask_truncated and response.finish_reason == FinishReason.LENGTH:
            mask = np.zeros_like(mask)
        batch.token_ids[start:first] = group.prompt_ids
        batch.token_ids[first:end] = response.token_ids
        if start == first:  # without a prompt nothing predicts the first token
            mask = mask.copy()
            mask[:1] = False
        batch.loss_mask[first:end] = mask
        batch.logprobs[first:end] = np.where(mask, response.logprobs, 0)
        batch.advantages[first:end] = np.where(mask, advantage, 0)
    return batch


def _media(responses: Sequence[tuple[Group, Response]]) -> Sequence[Any]:
    """What each sequence shows; empty where all is text."""
    shown = [
        group.media if response.media is None else EpisodeMedia(group.media, response.media)
        for group, response in responses
    ]
    return shown if any(shown) else ()


def learned_counts(batch: Batch) -> NDArray[np.int64]:
    """[S] learned tokens of each sequence."""
    running = np.concatenate([[0], np.cumsum(batch.loss_mask)])
    return np.asarray(running[batch.offsets[1:]] - running[batch.offsets[:-1]], dtype=np.int64)


def learned_sums(batch: Batch, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """[S] sums of `values` [N] over the learned tokens of each sequence."""
    owners = np.repeat(np.arange(batch.num_sequences), batch.lengths)[batch.loss_mask]
    sums = np.bincount(owners, weights=values[batch.loss_mask], minlength=batch.num_sequences)
    return np.asarray(sums, dtype=np.float64)


def with_advantages(batch: Batch, advantages: NDArray[np.floating]) -> Batch:
    """The batch with other advantages, [S] of its sequences; shares the other arrays."""
    spread = np.repeat(np.asarray(advantages, np.float32), batch.lengths)
    return replace(batch, advantages=np.where(batch.loss_mask, spread, np.float32(0)))


def run_lengths(owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """[R] lengths of the runs of equal values in `owners` [M]: the learned tokens of each sequence of a micro-batch."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    return np.diff(starts, append=len(owners))


def minibatches(
    num_sequences: int,
    num_minibatches: int,
    num_groups: int | None,
    rng: np.random.Generator,
    group_sizes: Sequence[int] | None = None,
) -> list[NDArray[np.int64]]:
    """Sequence indices of each minibatch, in ascending order within it; every sequence in exactly one.

    Whole groups stay together where `group_sizes` are given, or `num_groups` divides the number of sequences, so that
    advantages still sum to zero within a minibatch and prompts stay shared. Minibatches have about equally many
    sequences; one that a group larger than it has crowded out is left out. One minibatch takes no random number.

    Raises:
        ValueError: `group_sizes` do not add up to `num_sequences`.
    """
    if group_sizes is not None and sum(group_sizes) != num_sequences:
        raise ValueError(f"the groups have {sum(group_sizes)} responses, the batch has {num_sequences}")
    if num_minibatches == 1:
        return [np.arange(num_sequences)]
    if group_sizes is not None:
        sizes = np.asarray(group_sizes, dtype=np.int64)
    else:
        size = num_sequences // num_groups if num_groups and num_sequences % num_groups == 0 else 1
        sizes = np.full(num_sequences // size, size, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    units = rng.permutation(len(sizes))
    middles = np.cumsum(sizes[units]) - sizes[units] / 2
    cuts = np.searchsorted(middles, num_sequences * np.arange(1, num_minibatches) / num_minibatches)
    return [
        np.concatenate([np.arange(starts[unit], starts[unit] + sizes[unit]) for unit in np.sort(part)])
        for part in np.split(units, cuts)
        if len(part)
    ]


@dataclass(frozen=True, slots=True)
class Family:
    """Sequences that share their first `prefix` tokens, which are computed once."""

    sequences: NDArray[np.int64]
    """Indices into the batch."""
    prefix: int
    """Tokens shared; every sequence is longer."""


def families(batch: Batch, sequences: NDArray[np.int64], *, share: bool = True) -> list[Family]:
    """Runs of neighbours in `sequences` that have the same tokens, and pixels, before their first learned one.

    Sequences without a learned token take no part in the forward and are left out. With `share` False each sequence is
    its own family, with prefix 0.

    Raises:
        ValueError: the first token of a sequence is to be learned.
    """
    found: list[Family] = []
    run: list[int] = []
    shared: NDArray[np.int64] | None = None
    media: Any = None

    def close() -> None:
        if run and shared is not None:
            found.append(Family(np.asarray(run, np.int64), len(shared) if share and len(run) > 1 else 0))

    for sequence in sequences:
        start, end = batch.offsets[sequence], batch.offsets[sequence + 1]
        mask = batch.loss_mask[start:end]
        first = int(mask.argmax()) if len(mask) else 0
        if not len(mask) or not mask[first]:
            continue
        if first == 0:
            raise ValueError(f"sequence {sequence} learns its first token, which nothing predicts; it needs a prompt")
        prefix = batch.token_ids[start : start + first]
        shown = prompt_media(batch.media[sequence]) if batch.media else None
        # Two pictures of one size have the same tokens.
        if share and shared is not None and shown is media and np.array_equal(shared, prefix):
            run.append(int(sequence))
        else:
            close()
            run, shared, media = [int(sequence)], prefix, shown
    close()
    return found


def micro_batches(
    batch: Batch, sequences: NDArray[np.int64], budget_tokens: int, *, share: bool = True
) -> list[list[Family]]:
    """Split `sequences` into micro-batches of at most `budget_tokens` computed tokens each, as few as can be found.

    A family that is cut has its prompt computed once a part; a single sequence over the budget stands alone. See
    `rlcs.learner.filling`.
    """
    units = families(batch, sequences, share=share)
    work = packing_work(batch, units)
    return [
        [Family(units[index].sequences[members], units[index].prefix) for index, members in part]
        for part in fill(work, budget_tokens)
    ]


def packing_work(batch: Batch, units: Sequence[Family]) -> Work:
    """The tokens of families, as `rlcs.learner.filling` takes them."""
    own = [(batch.lengths[family.sequences] - family.prefix).tolist() for family in units]
    return Work([family.prefix for family in units], own)


def padded_micro_batches(batch: Batch, sequences: NDArray[np.int64], budget_tokens: int) -> list[list[Family]]:
    """Split `sequences`, sorted by length, into micro-batches of at most `budget_tokens` cells, padding included."""
    singles = families(batch, sequences, share=False)
    singles.sort(key=lambda family: int(batch.lengths[family.sequences[0]]))
    parts: list[list[Family]] = []
    for family in singles:
        width = int(batch.lengths[family.sequences[0]])
        if parts and (len(parts[-1]) + 1) * width <= budget_tokens:
            parts[-1].append(family)
        else:
            parts.append([family])
    return parts
