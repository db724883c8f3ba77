"""The optimizers: AdamW, AdamW with moments of 8 bits, and Muon.

Muon (Jordan et al. 2024; torch.optim.Muon) makes the step of a matrix nearly orthogonal. It takes the matrices of the
layers; embeddings, head, norms and biases go to AdamW. Its steps are scaled to the root mean square of AdamW's (Liu et
al. 2025, arXiv 2502.16982), so that one learning rate serves both.

Whatever the optimizer, `moments` and `restore` are the way of its state to a checkpoint and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlcs.config import LearnerConfig
from rlcs.errors import ConfigError, first_line
from rlcs.learner.stepping import adamw, decay_groups

if TYPE_CHECKING:
    import torch


class Combined:
    """Several optimizers that step as one, each with parameters of its own."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all parts; what is written to them counts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """One step of each."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)


AnyOptimizer = Any
"""A torch.optim.Optimizer or a `Combined`."""

SIDE_TENSORS = ("qmap1", "qmap2", "absmax1", "absmax2")
"""What bitsandbytes keeps beside moments of 8 bits: tables and scales, not of the parameter's shape."""


def build_optimizer(model: torch.nn.Module, config: LearnerConfig, learning_rate: float | None = None) -> AnyOptimizer:
    """The configured optimizer of the trained parameters of `model`, at `config.learning_rate` if no other is given.

    Raises:
        ConfigError: its package is missing.
    """
    import torch

    betas = (config.adam_beta1, config.adam_beta2)
    rate = config.learning_rate if learning_rate is None else learning_rate
    if config.optimizer == "adamw":
        return adamw(model.parameters(), rate, config.weight_decay, betas)
    if config.optimizer == "adamw_8bit":
        groups = decay_groups(model.parameters(), config.weight_decay)
        return _eight_bit()(groups, lr=rate, betas=betas)
    matrices = _layer_matrices(model)
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
    return Combined([muon, adamw(others, rate, config.weight_decay, betas)])


def moments(optimizer: AnyOptimizer, parameter: torch.nn.Parameter) -> tuple[dict[str, torch.Tensor], float]:
    """What the optimizer keeps of a parameter: tensors by name, and its number of steps. Empty before its first step."""
    state = _part_of(optimizer, parameter).state.get(parameter) or {}
    tensors = {key: value for key, value in state.items() if key != "step" and hasattr(value, "dtype")}
    return tensors, float(state.get("step", 1 if state else 0))


def restore(
    optimizer: AnyOptimizer, parameter: torch.nn.Parameter, tensors: Mapping[str, torch.Tensor], step: float
) -> None:
    """Put back what `moments` gave; without tensors, forget the parameter."""
    import torch

    part = _part_of(optimizer, parameter)
    part.state.pop(parameter, None)
    if not tensors:
        return
    state: dict[str, Any] = dict(tensors)
    if isinstance(part, torch.optim.AdamW):
        state["step"] = torch.tensor(step, dtype=torch.float32, device=parameter.device)
    elif not isinstance(part, torch.optim.Muon):
        state["step"] = int(step)  # bitsandbytes
    part.state[parameter] = state


def expected_moments(optimizer: AnyOptimizer, parameter: torch.nn.Parameter) -> frozenset[str]:
    """Names of the tensors of a parameter's shape that the optimizer keeps of it after a step."""
    import torch

    part = _part_of(optimizer, parameter)
    if isinstance(part, torch.optim.AdamW):
        return frozenset({"exp_avg", "exp_avg_sq"})
    return frozenset({"momentum_buffer"} if isinstance(part, torch.optim.Muon) else {"state1", "state2"})


def _part_of(optimizer: AnyOptimizer, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
    parts: list[torch.optim.Optimizer] = optimizer.parts if isinstance(optimizer, Combined) else [optimizer]
    for part in parts[:-1]:
        if any(parameter is own for group in part.param_groups for own in group["params"]):
            return part
    return parts[-1]


def _layer_matrices(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Trained matrices of the layers: not embeddings, nor the head (of a value model, `score`)."""
    import torch

    outer = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    for head in (getattr(model, "get_output_embeddings", lambda: None)(), getattr(model, "score", None)):
        if head is not None:
            outer |= {id(p) for p in head.parameters()}
    return [p for p in model.parameters() if p.requires_grad and p.dim() == 2 and id(p) not in outer]


def _eight_bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, RuntimeError, OSError) as error:  # it loads libraries of its own when it is imported
        reason = first_line(error, limit=None)
        raise ConfigError(
            f"learner.optimizer adamw_8bit needs bitsandbytes ({reason}): pip install bitsandbytes, or set "
            "learner.optimizer to adamw"
        ) from error
    return AdamW8bit
