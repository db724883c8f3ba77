"""A rank's forward passes: which sequences are its own, in which micro-batches, and under which types.

Sequences are dealt to ranks by cost (`rlcs.learner.balance`), anew for each set of them. Ranks of a sharded policy must
run equally many passes, so one that has fewer micro-batches than another runs a tiny one whose result counts nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.learner import attention
from rlcs.learner.balance import CostModel, deal
from rlcs.learner.batching import Family, micro_batches, padded_micro_batches
from rlcs.learner.distributed import Ranks
from rlcs.learner.forward import Outputs, learned_logprobs, learned_outputs, learned_values
from rlcs.learner.sharding import release
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

IDLE = Batch(
    token_ids=np.zeros(2, np.int64),
    offsets=np.array([0, 2], np.int64),
    loss_mask=np.array([False, True]),
    logprobs=np.zeros(2, np.float32),
    advantages=np.zeros(2, np.float32),
)
"""Two tokens for a rank that has nothing to compute while others have."""
IDLE_FAMILIES = [Family(np.zeros(1, np.int64), 0)]


class Passes:
    """How a learner runs its models; one for a learner."""

    def __init__(
        self,
        config: LearnerConfig,
        ranks: Ranks,
        device: torch.device,
        dtype: torch.dtype,
        temperature: float,
        *,
        sharded: bool,
    ) -> None:
        """`sharded`: the models are cut over ranks, which must then run equally many passes."""
        self.ranks = ranks
        self.device = device
        self.dtype = dtype
        self.temperature = temperature
        self._budget = config.tokens_per_micro_batch
        self.is_sharded = sharded
        self._costs: CostModel | None = None
        self._heaviest = self._mean = 0.0

    def own(self, model: Any, batch: Batch, sequences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `sequences` that this rank computes, ascending; all ranks must call it."""
        if self.ranks.size == 1:
            return sequences
        if self._costs is None:
            self._costs = _costs(model)
        share = attention.is_packed(model)
        dealt = deal(batch, self.ranks.size, self._costs, sequences=sequences, share=share)
        # Rank 0's deal counts: one that rounds in another way elsewhere would lose a sequence, or take it twice.
        owners = np.full(batch.num_sequences, -1, np.int32)
        for rank, members in enumerate(dealt.ranks):
            owners[members] = rank
        owners = self.ranks.broadcast(owners)
        self._heaviest += float(dealt.loads.max())
        self._mean += float(dealt.loads.mean())
        return np.flatnonzero(owners == self.ranks.rank)

    def take_spread(self) -> float:
        """max / mean - 1 of the ranks' loads, over all that was dealt since the last call; 0.05 for 5 %."""
        spread = self._heaviest / self._mean - 1 if self._mean else 0.0
        self._heaviest = self._mean = 0.0
        return spread

    def micro_batches(self, model: Any, batch: Batch, sequences: NDArray[np.int64]) -> list[Sequence[Family]]:
        """This rank's micro-batches of its own `sequences`; empty ones at the end stand for idle passes."""
        split = micro_batches if attention.is_packed(model) else padded_micro_batches
        parts: list[Sequence[Family]] = list(split(batch, sequences, self._budget))
        if self.is_sharded:
            most = int(self.ranks.max(np.array([len(parts)], np.int64))[0])
            parts += [[] for _ in range(most - len(parts))]
        return parts

    def learned_logprobs(
        self, model: Any, batch: Batch, families: Sequence[Family], *, entropy: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor | None, NDArray[np.int64], NDArray[np.int64]]:
        """`rlcs.learner.forward.learned_logprobs` at the run's temperature and type."""
        with self.autocast():
            return learned_logprobs(model, batch, families, temperature=self.temperature, entropy=entropy)

    def learned_outputs(
        self, model: Any, batch: Batch, families: Sequence[Family], value_head: torch.nn.Module | None = None
    ) -> Outputs:
        """`rlcs.learner.forward.learned_outputs` likewise."""
        with self.autocast():
            return learned_outputs(model, batch, families, temperature=self.temperature, value_head=value_head)

    def learned_values(
        self, model: Any, batch: Batch, families: Sequence[Family], value_head: torch.nn.Module, **options: Any
    ) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """`rlcs.learner.forward.learned_values` likewise."""
        with self.autocast():
            return learned_values(model, batch, families, value_head, **options)

    def idle(self, model: Any) -> torch.Tensor:
        """A forward pass of two tokens; 0, with a gradient of 0."""
        logprobs, *_ = self.learned_logprobs(model, IDLE, IDLE_FAMILIES, entropy=False)
        return (logprobs * 0).sum()

    def logprobs(self, model: Any, batch: Batch) -> NDArray[np.float32]:
        """[N] log-probabilities of the learned tokens, 0 where `loss_mask` is False; computed by all ranks for all."""
        import torch

        result = np.zeros(len(batch.token_ids), np.float32)
        own = self.own(model, batch, np.arange(batch.num_sequences))
        with torch.no_grad():
            for families in self.micro_batches(model, batch, own):
                if not families:
                    self.idle(model)
                    continue
                logprobs, _, index, _ = self.learned_logprobs(model, batch, families, entropy=False)
                result[index] = logprobs.float().cpu().numpy()
        release(model)
        return self.ranks.sum(result)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The type of matrix products."""
        import torch

        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def tensor(self, values: NDArray[np.float32]) -> torch.Tensor:
        """An array on the learner's device."""
        import torch

        return torch.from_numpy(values).to(self.device, non_blocking=True)


def _costs(model: Any) -> CostModel:
    try:
        return CostModel.of(model.config)
    except ValueError as error:
        logger.warning("%s; ranks are balanced by the number of tokens", error)
        return CostModel(linear=1.0)
