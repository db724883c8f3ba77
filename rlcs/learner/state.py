"""A learner's state on disk: safetensors and JSON, nothing that runs code when it is read.

| file | holds |
|---|---|
| `weights.safetensors` | float32 weights and persistent buffers by the model's own names, tied weights once |
| `optimizer.safetensors` | AdamW's moments, `exp_avg.NAME` and `exp_avg_sq.NAME` |
| `learner.json` | version, counters, and AdamW's step of each parameter |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.errors import CheckpointError
from rlcs.learner.sharding import sharded_like, whole

if TYPE_CHECKING:
    import torch

STATE_VERSION = 1
WEIGHTS = "weights.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    counters: dict[str, int],
    *,
    write: bool = True,
) -> None:
    """Write the state of `model` and `optimizer` to `folder`.

    What is sharded over ranks is gathered, so that any number of ranks can load it: all of them must call this, and only
    one with `write`.
    """
    from safetensors.torch import save_file

    weights = _gathered(_weights(model), write)
    moments, steps = {}, {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            moments.update({f"{moment}.{name}": state[moment] for moment in MOMENTS})
            steps[name] = float(state["step"])
    moments = _gathered(moments, write)
    if not write:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)
    save_file(moments, folder / "optimizer.safetensors")
    content = {"version": STATE_VERSION, "counters": counters, "steps": steps}
    (folder / "learner.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Put the state in `folder` into `model` and `optimizer`; returns the counters. Changes nothing if it raises.

    Tensors are read one after the other; a rank keeps its own shard of each.

    Raises:
        CheckpointError: a file is missing or damaged, or is of another model or version.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    own = _weights(model)
    try:
        content = json.loads((folder / "learner.json").read_text(encoding="utf-8"))
        version, counters, steps = content["version"], content["counters"], content["steps"]
        with (
            safe_open(folder / WEIGHTS, framework="pt") as weights,
            safe_open(folder / "optimizer.safetensors", framework="pt") as moments,
        ):
            _check(folder, version, steps, _shapes(weights), _shapes(moments), own)
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(sharded_like(weights.get_tensor(name), value))
            optimizer.state.clear()
            for name, parameter in model.named_parameters():
                if name in steps:
                    state: dict[str, Any] = {
                        moment: sharded_like(moments.get_tensor(f"{moment}.{name}"), own[name]) for moment in MOMENTS
                    }
                    state["step"] = torch.tensor(steps[name], dtype=torch.float32, device=parameter.device)
                    optimizer.state[parameter] = state
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the learner's state cannot be read ({error!r})") from error
    return {name: int(value) for name, value in counters.items()}


def _check(
    folder: Path,
    version: Any,
    steps: dict[str, float],
    weights: dict[str, list[int]],
    moments: dict[str, list[int]],
    own: dict[str, torch.Tensor],
) -> None:
    """Refuse files whose names and shapes are not those of the model `own`."""
    if version != STATE_VERSION:
        raise CheckpointError(f"{folder}: the learner's state has version {version}; {STATE_VERSION} can be read")
    shapes = {name: list(value.shape) for name, value in own.items()}
    if weights != shapes:
        raise CheckpointError(f"{folder}: the learner's state is of another model than the one that is loaded")
    if moments != {f"{moment}.{name}": shapes[name] for name in steps if name in shapes for moment in MOMENTS}:
        raise CheckpointError(f"{folder}: optimizer.safetensors does not match learner.json; the checkpoint is damaged")


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, tied weights once, not copied."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    known = set(model.state_dict())
    return parameters | {name: value for name, value in model.named_buffers() if name in known}


def _gathered(tensors: dict[str, torch.Tensor], keep: bool) -> dict[str, torch.Tensor]:
    """Whole tensors; those that were sharded on the CPU. Empty where `keep` is False."""
    kept = {}
    for name, value in tensors.items():
        full = whole(value)
        if keep:
            kept[name] = (full if full is value else full.cpu()).contiguous()
    return kept


def _shapes(file: Any) -> dict[str, list[int]]:
    return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - it is no dict
