"""The policy on its way out of the learner: to the engines, and to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.learner.model import named_weights, quiet
from rlcs.learner.sharding import is_sharded, whole
from rlcs.models import load_text_side

if TYPE_CHECKING:
    import torch


def export_weights(model: Any, dtype: torch.dtype, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Weights on the CPU as `dtype`, under Hugging Face names, tied weights once.

    In float32 on a CPU these are views of the live weights. Sharded ones are gathered: all ranks must then call this,
    and those with `keep` False get nothing.
    """
    return {
        name: value.to("cpu", dtype if value.is_floating_point() else value.dtype)
        for name, value in named_weights(model, dtype=dtype, keep=keep).items()
    }


def save_policy(
    model: Any, folder: Path, dtype: torch.dtype, tokenizer: str, *, trust_remote_code: bool = False, write: bool = True
) -> None:
    """Write the policy, as `dtype`, and the tokenizer or processor of `tokenizer` as an ordinary Hugging Face folder.

    Where the policy is sharded all ranks must call this, and only one with `write`.
    """
    gathered: dict[int, torch.Tensor] = {}  # a tied weight has two names
    state = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in gathered:
            full = whole(value.detach())
            if write and full.is_floating_point():
                full = full.to("cpu" if is_sharded(value) else full.device, dtype)
            gathered[id(value)] = full if write else value
        state[name] = gathered[id(value)]
    if not write:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder, state_dict=state)
    # save_pretrained writes down the type of the live weights, not of those that it was given.
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    load_text_side(tokenizer, trust_remote_code=trust_remote_code).save_pretrained(folder)
