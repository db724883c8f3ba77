"""The learner as a Ray actor.

Weights travel as numpy arrays: see `rlcs.weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.types import Batch
from rlcs.weights import to_arrays


class LearnerActor:
    """`rlcs.learner.learner.Learner` behind Ray.

    `ray.remote(LearnerActor).options(...).remote(model_path, config, ...)` starts one.
    Arguments and methods are the learner's, but `weights` returns numpy arrays.
    """

    def __init__(self, model_path: str, config: LearnerConfig, **options: Any) -> None:
        from rlcs.learner.learner import Learner

        self._learner = Learner(model_path, config, **options)

    def ready(self) -> bool:
        """True, once the policy is loaded."""
        return True

    def update(
        self,
        batch: Batch,
        num_groups: int | None = None,
        group_sizes: list[int] | None = None,
        rewards: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """See `Learner.update`."""
        return self._learner.update(batch, num_groups, group_sizes, rewards)

    def logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """See `Learner.logprobs`."""
        return self._learner.logprobs(batch)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The policy's weights; `to_tensors` makes tensors of them. Ray copies them once, into shared memory."""
        return to_arrays(self._learner.weights())

    def save_policy(self, folder: Path) -> None:
        """See `Learner.save_policy`."""
        self._learner.save_policy(folder)

    def save_state(self, folder: Path) -> None:
        """See `Learner.save_state`."""
        self._learner.save_state(folder)

    def load_state(self, folder: Path) -> None:
        """See `Learner.load_state`."""
        self._learner.load_state(folder)
