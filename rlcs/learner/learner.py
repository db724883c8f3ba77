"""The learner: a policy, its optimizer, and the update from a batch.

One call of `update` is one iteration: `num_iterations` passes over the batch, `num_minibatches` optimizer steps a pass,
each step the exact gradient of the loss of its minibatch, summed over micro-batches. Weights and optimizer are float32;
with `dtype="bfloat16"` the forward runs under autocast and weights leave as bfloat16.

A `Learner` is one data-parallel rank. All ranks get the same calls with the same batch; `self._ranks`
(`rlcs.learner.distributed`) sums what they have computed, `self._passes` (`rlcs.learner.passes`) says which sequences are
a rank's own and runs the models on them, and where the policy is sharded (`rlcs.learner.sharding`) every rank takes part
in what gathers weights. Whatever decides about a step (gradient norm, random order of minibatches, counters) is the same
on all ranks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlcs.adapters import base_model
from rlcs.config import LearnerConfig, ModelConfig
from rlcs.learner.adapter import Adapter, has_adapter, quantization
from rlcs.learner.advantages import assign_advantages
from rlcs.learner.batching import learned_counts, learned_sums, minibatches, run_lengths
from rlcs.learner.corrections import kl_estimate
from rlcs.learner.critic import Critic
from rlcs.learner.distributed import Ranks
from rlcs.learner.export import capture_policy, export_weights
from rlcs.learner.forward import FLOAT32_HEAD
from rlcs.learner.losses import policy_loss, sequence_weights
from rlcs.learner.metrics import TokenMetrics
from rlcs.learner.model import learner_device, load_model, named_weights
from rlcs.learner.optimizer import build_optimizer
from rlcs.learner.passes import Passes
from rlcs.learner.schedule import learning_rate
from rlcs.learner.sharding import forget_unused, is_wanted, shard
from rlcs.learner.snapshot import Copies, Piece, Snapshot
from rlcs.learner.state import capture_state, load_state
from rlcs.learner.stepping import Counters, step_or_skip
from rlcs.learner.vision import freeze
from rlcs.seeding import be_deterministic, seed_process
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch


class Learner:
    """A policy that learns from batches. Not thread-safe; sets the process's number of compute threads."""

    def __init__(
        self,
        model_path: str,
        config: LearnerConfig,
        *,
        dtype: Literal["float32", "bfloat16"] = "float32",
        seed: int = 0,
        max_completion_length: int = 256,
        temperature: float = 1.0,
        total_steps: int = 0,
        trust_remote_code: bool = False,
        freeze: Sequence[str] = (),
        model: ModelConfig | None = None,
        deterministic: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        """Load the policy in `model_path`; it is also the reference where `config.beta` > 0.

        `freeze`: parts of a vision-language model that do not learn (`ModelConfig.freeze`).
        `model`: the run's settings of the policy, for its adapter; none if not given, but that of an adapter folder.
        `deterministic`: only algorithms whose result does not depend on timing, for the whole process.
        `ranks`: the data-parallel group that this learner is one of; a group of its own if not given.

        Raises:
            DataError: no causal language model can be loaded from `model_path`.
            ConfigError: the model has a feature that the learner does not support.
        """
        import torch

        self._ranks = ranks or Ranks()
        torch.set_num_threads(config.threads or max(1, len(os.sched_getaffinity(0)) // self._ranks.local_size))
        torch.manual_seed(seed)
        if deterministic:
            be_deterministic()
        self.config = config
        self.device = learner_device(config)
        self._dtype = getattr(torch, dtype)
        self._seed = seed
        self._max_completion_length = max_completion_length
        self._total_steps = total_steps
        self._model_path = model_path
        self._trust_remote_code = trust_remote_code
        self._freeze = tuple(freeze)
        self._settings = model
        self._counters = Counters()

        self._sharded = is_wanted(config, self._ranks, self.device)
        self._passes = Passes(config, self._ranks, self.device, self._dtype, temperature, sharded=self._sharded)
        self._adapter: Adapter | None = None
        self.model: Any = self._load_model()
        # A base is the reference of the adapter on it.
        copied = config.beta > 0 and self._adapter is None
        self._reference: Any = self._load_model(frozen=True) if copied else None
        self.optimizer = build_optimizer(self.model, config)
        self._critic: Critic | None = None
        if config.advantage_estimator == "gae":
            self._critic = Critic(
                self.model,
                base_model(model_path),
                config,
                self._passes,
                total_steps=total_steps,
                trust_remote_code=trust_remote_code,
            )

    def _load_model(self, *, frozen: bool = False) -> Any:
        import torch

        base, adapted = base_model(self._model_path), has_adapter(self._model_path, self._settings)
        # A policy that is to be sharded passes through the memory of the machine: no GPU has to hold all of it.
        model: Any = load_model(
            base,
            layout=self.config.layout,
            device=torch.device("cpu") if self._sharded else self.device,
            trust_remote_code=self._trust_remote_code,
            # A frozen base needs no float32; sharding needs one type for all.
            dtype=self._dtype if adapted and not self._sharded else None,
            quantization=quantization(self._settings, self._dtype),
            beside=self.model if frozen else None,
        )
        if adapted:
            self._adapter = Adapter(
                model, self._model_path, base, self._settings, keep_reference=self.config.beta > 0, seed=self._seed
            )
        if self.config.cast_lm_head_to_fp32:
            setattr(model.get_output_embeddings(), FLOAT32_HEAD, True)
        freeze(model, self._freeze)
        if frozen:
            model.requires_grad_(False)
        elif self.config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()  # transformers recomputes in training mode only; dropout is off
        if self._sharded:
            shard(model, self._ranks, self.device)
        return model

    @property
    def updates(self) -> int:
        """Number of updates made."""
        return self._counters.updates

    @property
    def dtype(self) -> torch.dtype:
        """In which weights leave."""
        return self._dtype  # type: ignore[no-any-return]

    def update(
        self,
        batch: Batch,
        num_groups: int | None = None,
        group_sizes: Sequence[int] | None = None,
        rewards: NDArray[np.floating] | None = None,
        rate_factor: float = 1.0,
    ) -> dict[str, float]:
        """Learn from a batch; returns metrics named `learner/...`, averaged over learned tokens and optimizer steps.

        `group_sizes`, or `num_groups` where all are of one size, keeps groups whole when minibatches are drawn. A batch
        without a learned token changes nothing. Optimizer steps whose gradient is not finite are skipped and counted.
        `rewards` [S] are needed where there is a critic, and with `group_sizes` where the KL penalty is part of the
        reward: advantages are then estimated here, and those of the batch do not count. `rate_factor` is multiplied with
        the learning rates of the schedule.

        Raises:
            ValueError: `rewards` or `group_sizes` are needed and missing.
            RLCSError: `max_skipped_steps` steps in a row were skipped.
        """
        started = time.perf_counter()
        config = self.config
        # So that nothing random, such as an adapter's dropout, depends on more than the updates made before.
        seed_process(self._seed, self._counters.updates)
        rate = rate_factor * learning_rate(
            config.learning_rate,
            max(0, self._counters.updates - config.critic_warmup),
            warmup_steps=config.warmup_steps,
            total_steps=max(0, self._total_steps - config.critic_warmup),
            schedule=config.lr_scheduler_type,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # One step from the sampling policy: its log-probabilities are those of the step's own forward.
        one_step = config.num_iterations * config.num_minibatches == 1
        penalised = config.beta > 0 and config.kl_placement == "reward"
        before = None if one_step and not penalised else self.logprobs(batch)
        old = None if one_step else before
        reference = self.reference_logprobs(batch) if config.beta else None
        divergence = {}
        penalties = None
        if penalised:
            assert before is not None and reference is not None
            estimates = self._kl_estimates(before, reference)
            penalties = config.beta * estimates
            divergence = {"kl_reference": float(estimates[batch.loss_mask].mean()) if batch.loss_mask.any() else 0.0}
        if self._critic is not None:
            if rewards is None:
                raise ValueError("learner.advantage_estimator gae needs the rewards")
            batch = self._critic.prepare(batch, rewards, penalties, rate_factor)
        elif penalties is not None:
            batch = self._penalised(batch, penalties, rewards, group_sizes)

        tokens = TokenMetrics()
        losses: list[float] = []
        norms: list[float] = []
        rng = np.random.default_rng([self._seed, self._counters.updates])
        for _ in range(config.num_iterations):
            parts = minibatches(batch.num_sequences, config.num_minibatches, num_groups, rng, group_sizes)
            for sequences in parts:
                if self._critic is None or not self._critic.is_warming_up:
                    loss, norm = self._step(batch, sequences, old, reference, tokens)
                    losses.append(loss)
                    norms.append(norm)
                if self._critic is not None:
                    self._critic.step(batch, sequences)
        self._counters.updates += 1
        losses = self._ranks.sum(np.array(losses)).tolist()
        tokens.gather(self._ranks)
        seconds = time.perf_counter() - started
        finite = [norm for norm in norms if np.isfinite(norm)]
        metrics = {
            "loss": float(np.mean(losses)) if losses else 0.0,
            "grad_norm": float(np.mean(finite)) if finite else 0.0,
            "learning_rate": rate,
            **tokens.means(),
            **divergence,
            **(self._critic.finish() if self._critic is not None else {}),
            "skipped_steps": float(self._counters.skipped),
            "optimizer_steps": float(len(finite)),
            "learned_tokens": float(batch.loss_mask.sum()),
            "sequences": float(batch.num_sequences),
            "seconds": seconds,
            "tokens_per_second": float(batch.loss_mask.sum()) / seconds,
            **({"rank_spread": self._passes.take_spread()} if self._ranks.size > 1 else {}),
        }
        return {f"learner/{name}": value for name, value in metrics.items()}

    def _kl_estimates(self, logprobs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N] estimates of the KL divergence at each token."""
        import torch

        kind = self.config.kl_estimator
        estimates: NDArray[np.float32] = kl_estimate(
            torch.from_numpy(logprobs), torch.from_numpy(reference), kind
        ).numpy()
        return estimates

    def _penalised(
        self,
        batch: Batch,
        penalties: NDArray[np.float32],
        rewards: NDArray[np.floating] | None,
        group_sizes: Sequence[int] | None,
    ) -> Batch:
        """The batch with the advantages of `rewards` less the sum of the penalties [N] of a response's tokens (as TRL's
        RLOOTrainer has it).
        """
        if rewards is None or group_sizes is None:
            raise ValueError("learner.kl_placement reward needs the rewards and the sizes of the groups")
        return assign_advantages(batch, rewards - learned_sums(batch, penalties), group_sizes, self.config)

    def _step(
        self,
        batch: Batch,
        sequences: NDArray[np.int64],
        old: NDArray[np.float32] | None,
        reference: NDArray[np.float32] | None,
        tokens: TokenMetrics,
    ) -> tuple[float, float]:
        """One optimizer step on the loss of `sequences`; returns this rank's part of the loss, and the gradient's norm."""
        loss = self._accumulate(batch, sequences, old, reference, tokens)
        if self._sharded:
            forget_unused(self.model, self._ranks)
        else:
            self._ranks.sum_gradients(self.model.parameters())
        norm = step_or_skip(
            self.optimizer,
            self.model.parameters(),
            self._counters,
            max_grad_norm=self.config.max_grad_norm,
            max_skipped_steps=self.config.max_skipped_steps,
            advice="go back to an earlier checkpoint with a lower learner.learning_rate",
        )
        return loss, norm

    def _accumulate(
        self,
        batch: Batch,
        sequences: NDArray[np.int64],
        old: NDArray[np.float32] | None,
        reference: NDArray[np.float32] | None,
        tokens: TokenMetrics,
    ) -> float:
        """Add the gradient of this rank's part of the loss of `sequences` to the parameters; returns that part."""
        import torch

        config = self.config
        counts = learned_counts(batch)[sequences]
        weights = np.zeros(batch.num_sequences, np.float32)
        weights[sequences] = sequence_weights(counts, config.loss_type, self._max_completion_length)
        value_head = self._critic.head if self._critic is not None and self._critic.is_shared else None
        total = torch.zeros((), device=self.device)
        own = self._passes.own(self.model, batch, sequences)
        for families in self._passes.micro_batches(self.model, batch, own):
            if not families:
                self._passes.idle(self.model).backward()
                continue
            found = self._passes.learned_outputs(self.model, batch, families, value_head)
            logprobs, index, owners = found.logprobs, found.token_index, found.sequence_index
            assert found.entropies is not None
            sampled = self._passes.tensor(batch.logprobs[index])
            token_loss = policy_loss(
                logprobs,
                self._passes.tensor(batch.advantages[index]),
                config,
                old_logprobs=None if old is None else self._passes.tensor(old[index]),
                sampled_logprobs=sampled,
                reference_logprobs=None if reference is None else self._passes.tensor(reference[index]),
                counts=torch.from_numpy(run_lengths(owners)).to(self.device),
            )
            loss = (token_loss.loss * self._passes.tensor(weights[owners])).sum()
            total += loss.detach()
            if self._critic is not None and found.values is not None:
                loss = loss + self._critic.loss(found.values, index, int(counts.sum()))
            loss.backward()
            tokens.add(token_loss, logprobs.detach(), sampled, found.entropies)
        return float(total)

    def logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """[N] log-probabilities of the learned tokens under the policy as it is, 0 where `loss_mask` is False."""
        return self._passes.logprobs(self.model, batch)

    def reference_logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """[N] the same under the policy that training began from; `config.beta` must be over 0."""
        if self._adapter is None:
            return self._passes.logprobs(self._reference, batch)
        with self._adapter.reference():
            return self._passes.logprobs(self.model, batch)

    def weights(self) -> dict[str, torch.Tensor]:
        """The policy's weights on the CPU, in the run's dtype, under Hugging Face names, tied weights once.

        In float32 on a CPU these are views of the live weights: the next update changes them. Copy what must stay.
        Ranks other than the first get nothing. Of an adapter only it, packed as `rlcs.adapters` says.
        """
        if self._adapter is not None:
            return self._adapter.weights(self._dtype, keep=self._ranks.is_first)
        return export_weights(self.model, self._dtype, keep=self._ranks.is_first)

    def live_weights(self) -> dict[str, torch.Tensor]:
        """The policy's weights as they are kept, under Hugging Face names; not copied, but where they are sharded.

        All ranks must call it; those after the first get nothing.
        """
        weights = named_weights(self.model, dtype=self._dtype, keep=self._ranks.is_first)
        return weights if self._ranks.is_first else {}

    def snapshot(self, *, copy: bool = True) -> Snapshot:
        """What a checkpoint holds, as it is now; all ranks must call it. Without `copy` write it before the next update."""
        copies = Copies(keep=self._ranks.is_first, copy=copy)
        state = capture_state(self.model, self.optimizer, asdict(self._counters), copies)
        critic = [] if self._critic is None else [self._critic.capture(copies)]
        return Snapshot(self._captured_policy(copies), (state, *critic))

    def _captured_policy(self, copies: Copies) -> Piece:
        if self._adapter is not None:
            return self._adapter.capture(self._dtype, copies, self._trust_remote_code)
        return capture_policy(self.model, self._dtype, self._model_path, copies, self._trust_remote_code)

    def save_policy(self, folder: Path) -> None:
        """Write the policy of a `snapshot`; all ranks must call it."""
        self._captured_policy(Copies(keep=self._ranks.is_first, copy=False)).write(folder)

    def save_state(self, folder: Path) -> None:
        """Write the state of a `snapshot`; all ranks must call it."""
        for piece in self.snapshot(copy=False).state:
            piece.write(folder)

    def load_state(self, folder: Path) -> None:
        """Go on from the state of a `snapshot`.

        Raises:
            CheckpointError: a file is missing or damaged, or is of another model or version.
        """
        self._counters = load_state(folder, self.model, self.optimizer)
        if self._critic is not None:
            self._critic.load_state(folder)
