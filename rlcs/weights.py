"""Weights on their way from the learner to the engines.

They travel as numpy arrays: Ray puts those into shared memory and hands readers views of it without a copy, while torch
tensors are pickled, copied on the way in and on the way out. numpy has no bfloat16; such weights travel as uint16 of the
same bits (no Hugging Face weight has that type), and `to_tensors` turns them back.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

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
