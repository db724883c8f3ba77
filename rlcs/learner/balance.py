"""Sequences dealt to data-parallel ranks so that all have about the same to compute.

What one sequence of n tokens costs is `linear * n + quadratic * n^2`, in multiply-adds of a forward pass; the backward
pass is in proportion. A model with L layers, width h, H query and K key-value heads of d, and m as MLP width has

    linear    = L * (h * d * (2 * H + 2 * K) + 3 * h * m)      the projections and the gated MLP (the experts in use)
    quadratic = L * H * d                                      two products over n^2 / 2 pairs of a causal attention
    head      = h * vocabulary                                 for learned tokens only

A shared prompt is linear once for its family. Its attention is not shared (see `rlcs.learner.attention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.learner.batching import Family, families, learned_counts
from rlcs.learner.partition import MAX_EXCHANGES, partition
from rlcs.types import Batch


@dataclass(frozen=True, slots=True)
class CostModel:
    """What tokens cost, in multiply-adds of a forward pass or any other unit."""

    linear: float
    """A computed token."""
    quadratic: float = 0.0
    """The square of a sequence's length in tokens."""
    head: float = 0.0
    """A learned token, for its logits."""

    @classmethod
    def of(cls, config: Any) -> CostModel:
        """The costs of a model with this configuration of transformers, by the formulas of the module.

        Sliding windows are counted as whole attention.

        Raises:
            ValueError: the configuration does not say how large the model is.
        """
        text = config.get_text_config() if hasattr(config, "get_text_config") else config

        def size(*names: str, default: int | None = None) -> int:
            for name in names:
                value = getattr(text, name, None)
                if value is not None:
                    return int(value)
            if default is None:
                raise ValueError(f"the model's config has no {names[0]}; give learner costs by hand")
            return default

        width, layers = size("hidden_size", "n_embd"), size("num_hidden_layers", "n_layer")
        heads = size("num_attention_heads", "n_head")
        kv_heads = size("num_key_value_heads", default=heads)
        head_width = size("head_dim", default=width // heads)
        experts = size("num_experts_per_tok", default=0)
        if experts:
            inner = experts * size("moe_intermediate_size", "intermediate_size")
        else:
            inner = size("intermediate_size", "n_inner", default=4 * width)
        return cls(
            linear=float(layers * (width * head_width * (2 * heads + 2 * kv_heads) + 3 * width * inner)),
            quadratic=float(layers * heads * head_width),
            head=float(width * size("vocab_size")),
        )


@dataclass(frozen=True, slots=True)
class Deal:
    """Who computes what."""

    ranks: list[NDArray[np.int64]]
    """For each rank its sequences, ascending, so that families stay neighbours."""
    loads: NDArray[np.float64]
    """[R] cost of each rank, prompts that are computed on several ranks included."""
    split_families: int
    """Families that stand on more than one rank."""
    labels: NDArray[np.int64]
    """[n] the rank of each sequence that is dealt, families in the order of `rlcs.learner.batching.families`."""

    @property
    def spread(self) -> float:
        """max / mean - 1 of the loads: the share of its time that the average rank waits, 0.05 for 5 %."""
        return spread(self.loads)


def deal(
    batch: Batch,
    num_ranks: int,
    model: CostModel,
    *,
    sequences: NDArray[np.int64] | None = None,
    share: bool = True,
    equal_count: bool = False,
    tolerance: float = 0.01,
) -> Deal:
    """Deal `sequences` (all by default) to ranks; those without a learned token cost nothing and are left out.

    Families of a shared prompt stay whole unless that leaves the largest load more than `tolerance` above the mean;
    then large families are cut into ever smaller parts, and single sequences exchanged, for as long as it lowers the
    largest load, prompts that are computed again included. With `equal_count` the
    numbers of sequences differ by one at most, and families are not kept together.

    Raises:
        ValueError: `num_ranks` is less than 1, or a sequence has no prompt.
    """
    if num_ranks < 1:
        raise ValueError(f"cannot deal to {num_ranks} ranks; at least 1 is needed")
    chosen = np.arange(batch.num_sequences) if sequences is None else sequences
    units = families(batch, chosen, share=share and not equal_count)
    if not units:
        return Deal([np.zeros(0, np.int64)] * num_ranks, np.zeros(num_ranks), 0, np.zeros(0, np.int64))
    work = _Work.of(batch, units, model)
    if equal_count:
        return work.gather(partition(work.own, num_ranks, equal_count=True), num_ranks)
    whole = np.bincount(work.family, work.own) + work.prompt
    target = float(whole.sum()) / num_ranks
    limit, pieces_before = np.inf, 0
    best: Deal | None = None
    while True:
        pieces = np.minimum(np.ceil(whole / limit).clip(1).astype(np.int64), work.sizes)
        if pieces.sum() > pieces_before:
            pieces_before = int(pieces.sum())
            found = work.gather(work.dealt_in_pieces(pieces, num_ranks), num_ranks)
            if best is None or found.loads.max() < best.loads.max():
                best = found
        assert best is not None
        enough = target * (1 + tolerance)
        if best.loads.max() <= enough or (pieces == work.sizes).all():
            break
        limit = target if np.isinf(limit) else limit / 2
    if best.loads.max() > enough:
        best = work.gather(work.exchanged(best.labels, num_ranks, enough), num_ranks)
    return best


@dataclass(frozen=True, slots=True)
class _Work:
    """What is dealt: n sequences of F families, side by side."""

    sequences: NDArray[np.int64]
    """[n] indices into the batch."""
    family: NDArray[np.int64]
    """[n] the family of each."""
    own: NDArray[np.float64]
    """[n] the cost of each without the linear part of its family's prompt."""
    prompt: NDArray[np.float64]
    """[F] that part, once a rank that has a sequence of the family."""
    sizes: NDArray[np.int64]
    """[F] sequences of each family."""

    @classmethod
    def of(cls, batch: Batch, units: Sequence[Family], model: CostModel) -> _Work:
        sequences = np.concatenate([family.sequences for family in units])
        sizes = np.array([len(family.sequences) for family in units], np.int64)
        prefixes = np.array([family.prefix for family in units], np.float64)
        lengths = batch.lengths[sequences].astype(np.float64)
        own = model.linear * (lengths - np.repeat(prefixes, sizes)) + model.quadratic * lengths**2
        own += model.head * learned_counts(batch)[sequences]
        return cls(sequences, np.repeat(np.arange(len(units)), sizes), own, model.linear * prefixes, sizes)

    def gather(self, labels: NDArray[np.int64], num_ranks: int) -> Deal:
        """The deal in which sequence i of n stands on rank `labels[i]`."""
        counts = self.counts(labels, num_ranks)
        loads = np.bincount(labels, self.own, num_ranks) + self.prompt @ (counts > 0)
        ranks = [np.sort(self.sequences[labels == rank]) for rank in range(num_ranks)]
        return Deal(ranks, loads, int(((counts > 0).sum(1) > 1).sum()), labels)

    def counts(self, labels: NDArray[np.int64], num_ranks: int) -> NDArray[np.int64]:
        """[F, R] sequences of each family on each rank."""
        flat = np.bincount(self.family * num_ranks + labels, minlength=len(self.sizes) * num_ranks)
        return flat.reshape(len(self.sizes), num_ranks)

    def dealt_in_pieces(self, pieces: NDArray[np.int64], num_ranks: int) -> NDArray[np.int64]:
        """[n] ranks, where family f is cut into `pieces[f]` parts that stay whole."""
        first = np.cumsum(pieces) - pieces
        piece = np.repeat(first, self.sizes)
        starts = np.cumsum(self.sizes) - self.sizes
        for index in np.flatnonzero(pieces > 1):
            members = slice(starts[index], starts[index] + self.sizes[index])
            piece[members] += partition(self.own[members], int(pieces[index]))
        costs = np.bincount(piece, self.own, int(pieces.sum())).astype(np.float64) + np.repeat(self.prompt, pieces)
        return partition(costs, num_ranks)[piece]

    def exchanged(self, labels: NDArray[np.int64], num_ranks: int, enough: float) -> NDArray[np.int64]:
        """[n] ranks after sequences of the most loaded rank have been moved away, or exchanged for others."""
        labels = labels.copy()
        prompts = self.prompt[self.family]
        for _ in range(MAX_EXCHANGES + 4 * num_ranks):
            counts = self.counts(labels, num_ranks)
            loads = np.bincount(labels, self.own, num_ranks) + self.prompt @ (counts > 0)
            heaviest = int(loads.argmax())
            if loads[heaviest] <= enough:
                break
            mine = np.flatnonzero(labels == heaviest)
            mates = counts[self.family]  # [n, R]
            leaves = self.own + prompts * (mates[np.arange(len(labels)), labels] == 1)  # [n] what its rank saves
            joins = self.own[:, None] + prompts[:, None] * (mates == 0)  # [n, R] what a rank gets
            moved = np.maximum(loads[heaviest] - leaves[mine][:, None], loads + joins[mine])  # [m, R]
            moved[:, heaviest] = np.inf
            traded = np.maximum(
                loads[heaviest] - leaves[mine][:, None] + joins[None, :, heaviest],
                (loads[labels] - leaves)[None] + joins[mine][:, labels],
            )  # [m, n]
            traded[(labels == heaviest)[None] | (self.family[mine][:, None] == self.family[None])] = np.inf
            after = min(float(moved.min()), float(traded.min()))
            if after >= loads[heaviest] * (1 - 1e-9):
                break
            if moved.min() <= traded.min():
                row, rank = divmod(int(moved.argmin()), num_ranks)
                labels[mine[row]] = rank
            else:
                row, other = divmod(int(traded.argmin()), len(labels))
                labels[mine[row]], labels[other] = labels[other], heaviest
        return labels


def spread(loads: NDArray[np.floating]) -> float:
    """max / mean - 1 of the loads [R]; 0 where there is no load."""
    mean = float(np.mean(loads)) if len(loads) else 0.0
    return float(np.max(loads)) / mean - 1 if mean > 0 else 0.0
