"""The tokens of a micro-batch laid end to end, without padding, each shared prompt once.

A row of N computed tokens holds, for every family, its prefix and then the rest of each sequence; position ids run on
from the prefix. Everything but attention works on that row as it is. Attention gathers each sequence's tokens (the
shared prefix and its own) into buckets of similar length; causal attention needs no mask there, since what stands
behind a sequence's end is never looked at. Only the sequences' own outputs are put back.

Seen on two cores with 256 sequences of 28 to 150 tokens in groups of 8 and 1.9 M parameters, seconds a step: this 1.6,
the same without shared prompts 2.2, rows sorted by length and padded 2.2, packed rows with a block-diagonal mask 2.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlcs.learner.batching import Family
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch

BUCKET_SPREAD = 1.25
"""The longest sequence of a bucket is at most so many times its shortest."""
BUCKET_SLACK = 8
"""... or so many tokens longer."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sequences of similar length that attention takes together."""

    gather: torch.Tensor
    """[B * W] position in the row of each cell of a [B, W] table of sequences."""
    size: int
    """B."""
    width: int
    """W."""
    keep: torch.Tensor
    """[K] cells of the table whose output goes back to the row."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A micro-batch, ready for the model: N computed tokens, M learned ones."""

    input_ids: torch.Tensor
    """[1, N]"""
    position_ids: torch.Tensor
    """[1, N]"""
    buckets: list[Bucket]
    order: torch.Tensor
    """[N] for each place of the row, its place in the buckets' kept outputs laid end to end."""
    predictors: torch.Tensor
    """[M] the place in the row whose hidden state predicts each learned token."""
    targets: torch.Tensor
    """[M] the learned tokens."""
    token_index: NDArray[np.int64]
    """[M] where they stand in the batch's flat arrays."""
    sequence_index: NDArray[np.int64]
    """[M] the sequence of the batch that each belongs to."""


def pack(batch: Batch, families: Sequence[Family], device: torch.device) -> Packed:
    """Lay out the sequences of `families`."""
    import torch

    ids: list[NDArray[np.int64]] = []
    positions: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []  # for each sequence, the place in the row of each of its tokens
    owned: list[int] = []  # the first of a sequence's tokens that is its own to compute
    predictors: list[NDArray[np.int64]] = []
    token_index: list[NDArray[np.int64]] = []
    sequence_index: list[NDArray[np.int64]] = []
    cursor = 0
    for family in families:
        prefix = np.arange(cursor, cursor + family.prefix)
        for rank, sequence in enumerate(family.sequences):
            start, end = int(batch.offsets[sequence]), int(batch.offsets[sequence + 1])
            own = family.prefix if rank else 0  # the first of a family computes the prefix
            if rank:
                row = np.concatenate([prefix, np.arange(cursor, cursor + end - start - own)])
            else:
                row = np.arange(cursor, cursor + end - start)
            ids.append(batch.token_ids[start + own : end])
            positions.append(np.arange(own, end - start))
            cursor += end - start - own
            rows.append(row)
            owned.append(own)
            learned = np.flatnonzero(batch.loss_mask[start:end])
            predictors.append(row[learned - 1])
            token_index.append(start + learned)
            sequence_index.append(np.full(len(learned), sequence, np.int64))

    def tensor(parts: list[NDArray[np.int64]]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(device, non_blocking=True)

    buckets, order = _buckets(rows, owned, cursor)
    flat_index = np.concatenate(token_index)
    return Packed(
        input_ids=tensor(ids)[None],
        position_ids=tensor(positions)[None],
        buckets=[Bucket(tensor([gather]), size, width, tensor([keep])) for gather, size, width, keep in buckets],
        order=tensor([order]),
        predictors=tensor(predictors),
        targets=tensor([batch.token_ids[flat_index]]),
        token_index=flat_index,
        sequence_index=np.concatenate(sequence_index),
    )


def _buckets(
    rows: list[NDArray[np.int64]], owned: list[int], num_tokens: int
) -> tuple[list[tuple[NDArray[np.int64], int, int, NDArray[np.int64]]], NDArray[np.int64]]:
    lengths = np.array([len(row) for row in rows])
    cuts: list[list[int]] = []
    for index in np.argsort(lengths, kind="stable"):
        shortest = lengths[cuts[-1][0]] if cuts else 0
        if cuts and lengths[index] <= max(shortest * BUCKET_SPREAD, shortest + BUCKET_SLACK):
            cuts[-1].append(int(index))
        else:
            cuts.append([int(index)])
    buckets = []
    places: list[NDArray[np.int64]] = []
    for members in cuts:
        width = int(lengths[members[-1]])
        table = np.zeros((len(members), width), np.int64)
        keep = []
        for line, index in enumerate(members):
            row = rows[index]
            table[line, : len(row)] = row
            keep.append(np.arange(line * width + owned[index], line * width + len(row)))
            places.append(row[owned[index] :])
        buckets.append((table.reshape(-1), len(members), width, np.concatenate(keep)))
    order = np.empty(num_tokens, np.int64)
    order[np.concatenate(places)] = np.arange(num_tokens)
    return buckets, order
