"""The policy on its way out of the learner: to the engines, and to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.learner.model import named_weights, quiet
from rlcs.learner.snapshot import Copies, Piece, cast, nothing, num_bytes
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


def capture_policy(
    model: Any, dtype: torch.dtype, tokenizer: str, copies: Copies, trust_remote_code: bool = False
) -> Piece:
    """The policy, as `dtype`, and the tokenizer or processor of `tokenizer`, as an ordinary Hugging Face folder.

    Where the policy is sharded all ranks must call this.
    """
    state = {name: copies.of(value) for name, value in model.state_dict(keep_vars=True).items()}
    if not copies.keep:
        return Piece(0, nothing)

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            model.save_pretrained(folder, state_dict=cast(state, dtype))
        # save_pretrained writes down the type of the live weights, not of those that it was given.
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["dtype"] = str(dtype).removeprefix("torch.")
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        load_text_side(tokenizer, trust_remote_code=trust_remote_code).save_pretrained(folder)

    return Piece(num_bytes(state, dtype), write)
