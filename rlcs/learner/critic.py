"""PPO's critic: a value for every learned token, learned beside the policy.

The value of a token is that of what stands before it: the head is applied to the hidden state that predicts the token.
The trunk is the critic's own (`learner.critic: own`, a second model with an optimizer of its own, of the same kind as the
policy's) or the policy's (`shared`): then `vf_coef` times the value loss is added to the policy's, in the same forward
pass, and the head alone has an optimizer of its own. In the first `critic_warmup` updates only the critic learns; with a
shared trunk, its head.

An update calls `prepare` once, `step` for each minibatch and `finish` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.learner.batching import Family, learned_counts
from rlcs.learner.critic_model import check_same_tokens, load_value_model, new_value_head
from rlcs.learner.optimizer import build_optimizer
from rlcs.learner.passes import IDLE, IDLE_FAMILIES, Passes
from rlcs.learner.schedule import learning_rate
from rlcs.learner.sharding import release, shard
from rlcs.learner.snapshot import Copies, Piece
from rlcs.learner.state import capture_state, load_state
from rlcs.learner.stepping import Counters, adamw, step_or_skip
from rlcs.learner.token_advantages import ValueTargets, token_advantages
from rlcs.learner.value_loss import ValueMetrics, explained_variance, value_loss
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch

FOLDER = "critic"
"""Its folder in the learner's part of a checkpoint."""


class Critic:
    """The critic of one learner; as a learner, one of each data-parallel rank."""

    def __init__(
        self,
        policy: Any,
        policy_path: str,
        config: LearnerConfig,
        passes: Passes,
        *,
        total_steps: int = 0,
        trust_remote_code: bool = False,
    ) -> None:
        """A critic with the trunk that `config` asks for; `policy` is the loaded model of `policy_path`.

        Raises:
            DataError, ConfigError: `config.critic_path`, or the policy, cannot be made a critic of.
        """
        self._config = config
        self._passes = passes
        self._ranks = passes.ranks
        self._total_steps = total_steps
        self._counters = Counters()
        self._sharded = False
        self.is_shared = config.critic == "shared"
        if self.is_shared:
            self._trunk = policy
            self.head: torch.nn.Module = new_value_head(policy, passes.device)
            self._trained: torch.nn.Module = self.head
        else:
            self._trunk = self._trained = self._load(policy_path, trust_remote_code)
            self.head = self._trunk.score
        rate, betas = config.critic_learning_rate, (config.adam_beta1, config.adam_beta2)
        self.optimizer = (  # a head alone has no layers for Muon, and moments too small to save in 8 bits
            adamw(self.head.parameters(), rate, config.weight_decay, betas)
            if self.is_shared
            else build_optimizer(self._trained, config, rate)
        )
        self._targets: ValueTargets | None = None
        self._metrics = ValueMetrics()
        self._figures: dict[str, float] = {}
        self._norms: list[float] = []

    def _load(self, policy_path: str, trust_remote_code: bool) -> Any:
        import torch

        path = self._config.critic_path or policy_path
        if self._config.critic_path is not None:
            check_same_tokens(path, policy_path, trust_remote_code=trust_remote_code)
        self._sharded = self._passes.is_sharded
        model: Any = load_value_model(
            path,
            layout=self._config.layout,
            device=torch.device("cpu") if self._sharded else self._passes.device,
            trust_remote_code=trust_remote_code,
        )
        if self._config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()  # transformers recomputes in training mode only; dropout is off
        if self._sharded:
            shard(model, self._ranks, self._passes.device)
        return model

    @property
    def is_warming_up(self) -> bool:
        """Whether the policy must not learn yet."""
        return self._counters.updates < self._config.critic_warmup

    def prepare(
        self,
        batch: Batch,
        rewards: NDArray[np.floating],
        penalties: NDArray[np.floating] | None,
        rate_factor: float = 1.0,
    ) -> Batch:
        """The batch with the advantages of its tokens, from rewards [S] and penalties [N] in the reward; begins an update.

        `rate_factor` is multiplied with the learning rate of the schedule.

        Raises:
            ValueError: a reward is not finite, or the arrays do not match the batch.
        """
        config = self._config
        batch, targets = token_advantages(batch, rewards, self.values(batch), config, penalties)
        rate = rate_factor * learning_rate(
            config.critic_learning_rate,
            self._counters.updates,
            warmup_steps=config.warmup_steps,
            total_steps=self._total_steps,
            schedule=config.lr_scheduler_type,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        values, returns = targets.values[batch.loss_mask], targets.returns[batch.loss_mask]
        self._targets = targets
        self._metrics = ValueMetrics()
        self._norms = []
        self._figures = {"critic_learning_rate": rate}
        if len(values):
            self._figures |= {
                "explained_variance": explained_variance(values, returns),
                "value_mean": float(values.mean(dtype=np.float64)),
                "return_mean": float(returns.mean(dtype=np.float64)),
                "advantage_std": float((returns - values).std(dtype=np.float64)),
            }
        return batch

    def values(self, batch: Batch) -> NDArray[np.float32]:
        """[N] values of the learned tokens, 0 where `loss_mask` is False; computed by all ranks for all."""
        import torch

        result = np.zeros(len(batch.token_ids), np.float32)
        own = self._passes.own(self._trunk, batch, np.arange(batch.num_sequences))
        with torch.no_grad():
            for families in self._passes.micro_batches(self._trunk, batch, own):
                if not families:
                    self._values(IDLE, IDLE_FAMILIES)
                    continue
                values, index = self._values(batch, families)
                result[index] = values.cpu().numpy()
        release(self._trunk)
        return self._ranks.sum(result)

    def step(self, batch: Batch, sequences: NDArray[np.int64]) -> None:
        """One optimizer step on the value loss of `sequences`.

        Where the policy's pass has already added its gradient (a shared trunk after the warm-up; see `loss`), the step
        of the head alone.

        Raises:
            RLCSError: `max_skipped_steps` steps in a row were skipped.
        """
        if not self.is_shared or self.is_warming_up:
            self._accumulate(batch, sequences)
        if not self._sharded:
            self._ranks.sum_gradients(self._trained.parameters())
        norm = step_or_skip(
            self.optimizer,
            self._trained.parameters(),
            self._counters,
            max_grad_norm=self._config.max_grad_norm,
            max_skipped_steps=self._config.max_skipped_steps,
            advice="go back to an earlier checkpoint with a lower learner.critic_learning_rate",
        )
        self._norms.append(norm)

    def _accumulate(self, batch: Batch, sequences: NDArray[np.int64]) -> None:
        """Add the gradient of this rank's part of the value loss of `sequences`."""
        num_tokens = int(learned_counts(batch)[sequences].sum())
        own = self._passes.own(self._trunk, batch, sequences)
        for families in self._passes.micro_batches(self._trunk, batch, own):
            if not families:
                (self._values(IDLE, IDLE_FAMILIES)[0] * 0).sum().backward()
                continue
            values, index = self._values(batch, families)
            self._loss(values, index, num_tokens).backward()
        if self.is_shared:
            release(self._trunk)

    def loss(self, values: torch.Tensor, index: NDArray[np.int64], num_tokens: int) -> torch.Tensor:
        """What a shared trunk adds to the policy's loss for the values [M] of the tokens at `index` [M] of the batch.

        `num_tokens`: the learned tokens of the whole minibatch.
        """
        return self._config.vf_coef * self._loss(values, index, num_tokens)

    def _loss(self, values: torch.Tensor, index: NDArray[np.int64], num_tokens: int) -> torch.Tensor:
        assert self._targets is not None, "prepare comes first"
        tensor = self._passes.tensor
        part = value_loss(
            values,
            tensor(self._targets.values[index]),
            tensor(self._targets.returns[index]),
            self._config.cliprange_value,
        )
        self._metrics.add(part)
        return part.loss.sum() / max(1, num_tokens)

    def _values(self, batch: Batch, families: Sequence[Family]) -> tuple[torch.Tensor, NDArray[np.int64]]:
        return self._passes.learned_values(self._trunk, batch, families, self.head, train_trunk=not self.is_shared)

    def finish(self) -> dict[str, float]:
        """End an update; its metrics, named without a prefix. All ranks must call it."""
        self._counters.updates += 1
        finite = [norm for norm in self._norms if np.isfinite(norm)]
        return {
            **self._figures,
            **self._metrics.means(self._ranks),
            "critic_grad_norm": float(np.mean(finite)) if finite else 0.0,
            "critic_skipped_steps": float(self._counters.skipped),
        }

    def capture(self, copies: Copies) -> Piece:
        """What `load_state` needs, for a folder in the learner's; all ranks must call it.

        That of a critic with a trunk of its own can be another run's `learner.critic_path`.
        """
        state = capture_state(self._trained, self.optimizer, asdict(self._counters), copies)

        def write(folder: Path) -> None:
            state.write(folder / FOLDER)
            if copies.keep and not self.is_shared:
                self._trunk.config.save_pretrained(folder / FOLDER)

        return Piece(state.num_bytes, write)

    def load_state(self, folder: Path) -> None:
        """Go on from what `capture` wrote.

        Raises:
            CheckpointError: a file is missing or damaged, or is of another critic or version.
        """
        self._counters = load_state(folder / FOLDER, self._trained, self.optimizer)
