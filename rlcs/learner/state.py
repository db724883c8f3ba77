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

if TYPE_CHECKING:
    import torch

STATE_VERSION = 1
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, counters: dict[str, int]
) -> None:
    """Write the state of `model` and `optimizer` to `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    moments = {}
    steps = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            moments.update({f"{moment}.{name}": state[moment].contiguous() for moment in MOMENTS})
            steps[name] = float(state["step"])
    save_file({name: value.contiguous() for name, value in _weights(model).items()}, folder / "weights.safetensors")
    save_file(moments, folder / "optimizer.safetensors")
    content = {"version": STATE_VERSION, "counters": counters, "steps": steps}
    (folder / "learner.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Put the state in `folder` into `model` and `optimizer`; returns the counters. Changes nothing if it raises.

    Raises:
        CheckpointError: a file is missing or damaged, or is of another model or version.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    own = _weights(model)
    device = str(next(iter(own.values())).device)
    try:
        content = json.loads((folder / "learner.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors", device=device)
        moments = load_file(folder / "optimizer.safetensors", device=device)
        version, counters, steps = content["version"], content["counters"], content["steps"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the learner's state cannot be read ({error!r})") from error
    if version != STATE_VERSION:
        raise CheckpointError(f"{folder}: the learner's state has version {version}; {STATE_VERSION} can be read")
    if _shapes(weights) != _shapes(own):
        raise CheckpointError(f"{folder}: the learner's state is of another model than the one that is loaded")
    expected = {f"{moment}.{name}": own[name].shape for name in steps if name in own for moment in MOMENTS}
    if _shapes(moments) != expected:
        raise CheckpointError(f"{folder}: optimizer.safetensors does not match learner.json; the checkpoint is damaged")

    with torch.no_grad():
        for name, value in own.items():
            value.copy_(weights[name])
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        if name in steps:
            state: dict[str, Any] = {moment: moments[f"{moment}.{name}"] for moment in MOMENTS}
            state["step"] = torch.tensor(steps[name], dtype=torch.float32, device=device)
            optimizer.state[parameter] = state
    return {name: int(value) for name, value in counters.items()}


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, tied weights once, not copied."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    known = set(model.state_dict())
    return parameters | {name: value for name, value in model.named_buffers() if name in known}


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}
