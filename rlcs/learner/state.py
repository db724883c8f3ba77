"""A learner's state on disk: safetensors and JSON, nothing that runs code when it is read.

| file | holds |
|---|---|
| `weights.safetensors` | float32 weights and persistent buffers by the model's own names, tied weights once |
| `optimizer.safetensors` | what the optimizer keeps: of AdamW `exp_avg.NAME` and `exp_avg_sq.NAME` |
| `learner.json` | version, counters, and the optimizer's step of each parameter |

Of a model with a frozen base (LoRA) only what is trained is held.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.checkpoint import ODD_CONTENT
from rlcs.errors import CheckpointError, first_line
from rlcs.json_text import parse_json
from rlcs.learner.optimizer import SIDE_TENSORS, AnyOptimizer, expected_moments, restore
from rlcs.learner.optimizer import moments as kept_of
from rlcs.learner.sharding import sharded_like
from rlcs.learner.snapshot import Copies, Piece, nothing, num_bytes
from rlcs.learner.stepping import Counters

if TYPE_CHECKING:
    import torch

STATE_VERSION = 1
WEIGHTS = "weights.safetensors"


def capture_state(model: torch.nn.Module, optimizer: AnyOptimizer, counters: dict[str, int], copies: Copies) -> Piece:
    """The state of `model` and `optimizer`, ready to be written.

    What is sharded over ranks is gathered, so that any number of ranks can load it: all of them must call this.
    """
    weights = {name: copies.of(value) for name, value in _weights(model).items()}
    moments, steps = {}, {}
    for name, parameter in model.named_parameters():
        kept, step = kept_of(optimizer, parameter)
        if kept:
            moments.update({f"{key}.{name}": copies.of(value) for key, value in kept.items()})
            steps[name] = step
    if not copies.keep:
        return Piece(0, nothing)
    content = {"version": STATE_VERSION, "counters": counters, "steps": steps}

    def write(folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(_apart(weights), folder / WEIGHTS)
        save_file(_apart(moments), folder / "optimizer.safetensors")
        (folder / "learner.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    return Piece(num_bytes(weights) + num_bytes(moments), write)


def load_state(folder: Path, model: torch.nn.Module, optimizer: AnyOptimizer) -> Counters:
    """Put the state in `folder` into `model` and `optimizer`; returns the counters. Changes nothing if it raises.

    Tensors are read one after the other; a rank keeps its own shard of each.

    Raises:
        CheckpointError: a file is missing or damaged, or is of another model or version.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    own = _weights(model)
    try:
        content = parse_json((folder / "learner.json").read_bytes())
        version, steps = content["version"], content["steps"]
        counters = Counters(**{name: int(value) for name, value in content["counters"].items()})
        with (
            safe_open(folder / WEIGHTS, framework="pt") as weights,
            safe_open(folder / "optimizer.safetensors", framework="pt") as moments,
        ):
            expected = {
                f"{key}.{name}": list(own[name].shape)
                for name, parameter in model.named_parameters()
                if name in steps
                for key in expected_moments(optimizer, parameter)
            }
            _check(folder, version, _shapes(weights), _shapes(moments), own, expected)
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(sharded_like(weights.get_tensor(name), value))
            keys: dict[str, list[str]] = {}
            for key in moments.keys():  # noqa: SIM118 - it is no dict
                keys.setdefault(key.partition(".")[2], []).append(key)
            for name, parameter in model.named_parameters():
                kept = {
                    key.partition(".")[0]: sharded_like(moments.get_tensor(key), own[name])
                    if key in expected
                    else moments.get_tensor(key).to(parameter.device)
                    for key in keys.get(name, [])
                }
                restore(optimizer, parameter, kept, steps.get(name, 0.0))
    except (*ODD_CONTENT, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the learner's state cannot be read ({first_line(error, typed=True)})"
        ) from error
    return counters


def _check(
    folder: Path,
    version: Any,
    weights: dict[str, list[int]],
    moments: dict[str, list[int]],
    own: dict[str, torch.Tensor],
    expected: dict[str, list[int]],
) -> None:
    """Refuse files whose names and shapes are not those of the model `own` and its optimizer's `expected` moments."""
    if version != STATE_VERSION:
        raise CheckpointError(f"{folder}: the learner's state has version {version}; {STATE_VERSION} can be read")
    if weights != {name: list(value.shape) for name, value in own.items()}:
        raise CheckpointError(f"{folder}: the learner's state is of another model than the one that is loaded")
    side = {f"{key}.{name}" for key in SIDE_TENSORS for name in own if f"state1.{name}" in expected}
    if {key: shape for key, shape in moments.items() if key not in side} != expected:
        raise CheckpointError(
            f"{folder}: optimizer.safetensors does not match learner.json: the checkpoint is damaged, or was written with "
            "another learner.optimizer"
        )


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, tied weights once, not copied; only parameters where some are frozen."""
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    if any(not value.requires_grad for value in model.parameters()):
        return parameters
    known = set(model.state_dict())
    return parameters | {name: value for name, value in model.named_buffers() if name in known}


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors, each with memory of its own: a file holds none twice."""
    seen: set[int] = set()
    kept = {}
    for name, value in tensors.items():
        value = value.contiguous()
        kept[name] = value.clone() if value.numel() and value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return kept


def _shapes(file: Any) -> dict[str, list[int]]:
    return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - it is no dict
