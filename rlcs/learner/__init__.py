"""The learner: advantages, losses, packing and the optimizer step.

| module | holds |
|---|---|
| `advantages` | rewards of groups to advantages of responses |
| `gae` | rewards and values of tokens to advantages of tokens |
| `token_advantages` | rewards and values of a batch to advantages of its tokens: PPO's part of `advantages` |
| `value_loss` | the critic's loss and what is logged of it |
| `critic_model` | loading a critic |
| `critic` | `Critic`: values, optimizer, its part of an update |
| `optimizer` | AdamW, AdamW with moments of 8 bits, Muon |
| `stepping` | the optimizer step, clipped, or skipped if not finite |
| `losses` | policy losses and averaging, over flat arrays of learned tokens |
| `corrections` | sequence ratios, importance sampling, off-policy masks and KL estimates, over the same |
| `batching` | groups to a `Batch`; a batch to minibatches and micro-batches |
| `filling` | families put into as few micro-batches as the token budget allows |
| `limits` | sequences over the token budget; memory that runs out |
| `packing` | the tokens of a micro-batch laid end to end, prompts shared by their responses |
| `attention` | attention over packed tokens |
| `forward` | log-probabilities and entropies of the learned tokens |
| `model` | loading the policy, naming its weights |
| `passes` | which sequences a rank computes, and running models on them |
| `balance`, `partition` | sequences dealt to ranks by cost |
| `distributed` | the group of data-parallel ranks: sums over them |
| `sharding` | weights, gradients and optimizer cut over ranks (FSDP2) |
| `export` | weights to the engines, the policy to a folder |
| `schedule` | the learning rate over iterations |
| `metrics` | sums over learned tokens, and means of them |
| `state` | weights, optimizer and counters on disk |
| `learner` | `Learner`: model, optimizer, update |
| `actor` | `Learner` as a Ray actor |
| `group` | the learner actors of a run, as one |
"""

from __future__ import annotations
