"""Attention over packed tokens, as an attention function of transformers.

`register()` makes it known under the name `NAME`; a model with `set_attn_implementation(NAME)` builds no mask and hands
the layout, given to its forward as `packed=`, down to every layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from rlcs.learner.packing import Packed

NAME = "rlcs_packed"


def register() -> None:
    """Make the attention known to transformers; doing it again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def is_packed(model: Any) -> bool:
    """Whether a model's decoder uses this attention."""
    return bool(model.config.get_text_config()._attn_implementation == NAME)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed: Packed | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """[1, N, H, D] from query [1, H, N, D] and key and value [1, KV heads, N, D]; each sequence sees itself only.

    Raises:
        ValueError: the layout is missing, or the model's attention has a feature that is not computed here.
    """
    import torch

    if packed is None:
        raise ValueError(f"attention {NAME} needs packed=; call the model through rlcs.learner.forward")
    for feature in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(feature) is not None:
            raise ValueError(f"attention with {feature} cannot be packed; set learner.layout to padded")

    flat = [states[0].transpose(0, 1) for states in (query, key, value)]  # [N, heads, D]
    grouped = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}
    outputs = []
    for bucket in packed.buckets:
        q, k, v = (
            states.index_select(0, bucket.gather).unflatten(0, (bucket.size, bucket.width)).transpose(1, 2)
            for states in flat
        )  # [B, heads, W, D]
        mask = None
        if sliding_window is not None and bucket.width > sliding_window:
            steps = torch.arange(bucket.width, device=query.device)
            distance = steps[:, None] - steps[None, :]
            mask = (distance >= 0) & (distance < sliding_window)
        output = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, **grouped
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1).index_select(0, bucket.keep))
    return torch.cat(outputs).index_select(0, packed.order)[None], None
