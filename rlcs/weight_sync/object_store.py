"""Weight sync through Ray's object store: shared memory on one machine, the network between machines.

The learner puts its weights there once; every engine reads them in place and copies them where they belong. A packed
LoRA adapter takes the same way: what travels is what `LearnerActor.weights` returns.
"""

from __future__ import annotations

from rlcs.weight_sync.base import WeightSync


class ObjectStoreSync(WeightSync):
    """`learner.weights()` to `rollouts.sync()`."""

    name = "object_store"

    def _send(self, version: int) -> int:
        return self._rollouts.sync(self._learner.weights(), version)


class AdapterSync(ObjectStoreSync):
    """The same where the policy is a LoRA adapter, which is all that travels (`rlcs.adapters`)."""

    name = "adapter"
