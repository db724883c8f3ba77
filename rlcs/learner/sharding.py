"""Weights, gradients and optimizer state cut over the ranks: PyTorch's FSDP2 (`torch.distributed.fsdp.fully_shard`).

Each decoder layer is a unit that is gathered when it is computed and freed again; what remains (embeddings, the last
norm, the head) is one unit of the whole model. Gradients are summed over ranks, not averaged. The functions below take
models and tensors that are not sharded too, and then do nothing, so that their callers need not know.

Every rank must run the same forward and backward passes in the same order: see `rlcs.learner.passes`.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rlcs.config import LearnerConfig
from rlcs.learner.distributed import Ranks

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def is_wanted(config: LearnerConfig, ranks: Ranks, device: torch.device) -> bool:
    """Whether the policy is to be sharded: `learner.parallel`, where `auto` shards on GPUs; never for one rank."""
    if ranks.size == 1 or config.parallel == "ddp":
        return False
    return config.parallel == "fsdp" or device.type == "cuda"


def shard(model: Any, ranks: Ranks, device: torch.device) -> None:
    """Cut the parameters of a model of transformers over the ranks, in place, on `device`; all ranks must call it.

    Make the optimizer after it. Call the model through `run` only.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (ranks.size,))
    names = set(getattr(model, "_no_split_modules", None) or ())
    decoder = getattr(getattr(model, "model", None), "language_model", model)
    # A vision tower is no unit: a rank whose rows show nothing would not gather it with the others.
    for module in list(decoder.modules()):
        if type(module).__name__ in names and any(True for _ in module.parameters()):
            fully_shard(module, mesh=mesh)
    # Passes run functions of ours inside the model, which use its parts: see `run`.
    model._rlcs_run = types.MethodType(_run, model)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "_rlcs_run")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction
            module.set_reduce_scatter_unused_params(decoder is not model)
    model.to(device)  # buffers, and whatever FSDP does not keep
    assert all(isinstance(p, torch.distributed.tensor.DTensor) for p in model.parameters())


def run(model: Any, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """`function(model, *arguments, **options)` with the model's own parameters whole while it runs.

    Decoder layers are gathered by their forward; what the function returns is a tensor or a tuple of tensors and None.
    """
    inside = getattr(model, "_rlcs_run", None)
    if inside is None:
        return function(model, *arguments, **options)
    result: T = inside(function, *arguments, **options)
    return result


def _run(self: Any, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    import torch
    from torch.utils._pytree import tree_map_only

    result = function(self, *arguments, **options)
    # FSDP hangs hooks on what comes out, and warns that those of a view could get lost.
    plain: T = tree_map_only(torch.Tensor, lambda tensor: tensor.clone() if tensor._is_view() else tensor, result)
    return plain


def forget_unused(model: Any, ranks: Ranks) -> None:
    """Drop the gradients of a sharded vision tower that no rank has used: FSDP makes zeros of them.

    The optimizer then leaves it as it is, as it does with one rank. All ranks must call it.
    """
    tower = getattr(getattr(model, "model", None), "visual", None)
    if tower is None:
        return
    gradients = [parameter.grad for parameter in tower.parameters() if parameter.grad is not None]
    used = any(bool(gradient.to_local().any()) for gradient in gradients)
    if not ranks.max(np.array([used], np.uint8))[0]:
        for parameter in tower.parameters():
            parameter.grad = None


def release(model: Any) -> None:
    """Free what a forward without a backward has left whole. Weights that are set afterwards are then seen."""
    if hasattr(model, "_rlcs_run"):
        model.reshard()


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether a rank has only a part of the tensor."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor; all ranks must call it for a sharded one. A plain tensor itself, not copied."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(whole: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """This rank's part of `whole`, sharded as `example` is and on its device; without messages to other ranks."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(example, DTensor):
        return whole.to(example.device)
    device = example.to_local().device
    return distribute_tensor(whole.to(device), example.device_mesh, example.placements, src_data_rank=None)
