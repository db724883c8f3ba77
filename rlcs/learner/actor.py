"""The learner as a Ray actor.

Weights travel as numpy arrays: Ray puts those into shared memory and hands readers views of it without a copy, while
torch tensors are pickled, copied on the way in and on the way out. numpy has no bfloat16; such weights travel as uint16
of the same bits (no Hugging Face weight has that type), and `to_tensors` turns them back.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.types import Batch

if TYPE_CHECKING:
    import torch


def to_arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """CPU tensors as numpy arrays that share their memory; bfloat16 as uint16 of the same bits."""
    import torch

    return {
        name: (value.view(torch.uint16) if value.dtype == torch.bfloat16 else value).numpy()
        for name, value in weights.items()
    }


def to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """The tensors that `to_arrays` took, sharing the arrays' memory. Only read them: Ray's memory is read-only."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    return {
        name: value.view(torch.bfloat16) if value.dtype == torch.uint16 else value for name, value in tensors.items()
    }


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

    def update(self, batch: Batch, num_groups: int | None = None) -> dict[str, float]:
        """See `Learner.update`."""
        return self._learner.update(batch, num_groups)

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
