"""Log-probabilities of chosen tokens and entropies from hidden states, without a table of [tokens, vocabulary].

With z = cap(scale * (W h + b)) / temperature and cap(x) = c * tanh(x / c) where the model has a soft cap c,

    logprob_i = z_i[target_i] - logsumexp(z_i)              d logprob_i / d z_i = onehot(target_i) - softmax(z_i)
    entropy_i = -sum_v p_iv log p_iv,  p_i = softmax(z_i)   (no gradient)

The logits of a chunk of tokens are computed, used and overwritten; the backward pass computes them again from the
saved logsumexp [M]. Gradients of W and b are summed in float32 (float64 where the weight is), whatever the type of
the hidden states, and logits are never rounded to less: bfloat16 logits of about 20 would be off by up to 0.06.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class Logits:
    """What happens between the head's product and the softmax."""

    temperature: float = 1.0
    """Divides the logits, last of all."""
    scale: float = 1.0
    """Multiplies the head's output, as in Cohere's and (as a division) Granite's models."""
    softcap: float | None = None
    """Bounds the scaled output, as in Gemma 2: softcap * tanh(x / softcap)."""

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        """The final logits from the head's output `raw`, with a gradient."""
        if self.scale != 1.0:
            raw = raw * self.scale
        if self.softcap is not None:
            raw = torch.tanh(raw / self.softcap) * self.softcap
        return raw if self.temperature == 1.0 else raw / self.temperature

    def finish_(self, raw: torch.Tensor) -> torch.Tensor:
        """The same in the memory of `raw`, without a gradient."""
        if self.scale != 1.0:
            raw.mul_(self.scale)
        if self.softcap is not None:
            raw.div_(self.softcap).tanh_().mul_(self.softcap)
        return raw if self.temperature == 1.0 else raw.div_(self.temperature)


def chosen_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    logits: Logits | None = None,
    chunk: int = 1024,
    entropy: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities [M] of `targets` [M] and entropies [M] (None if not asked for), float32 or the weight's float64.

    `hidden` is [M, width], `weight` [vocabulary, width], `bias` [vocabulary]; `chunk` tokens have their logits in
    memory at once. Under autocast on a GPU the products take the autocast type and give float32; on a CPU they are
    computed in float32.

    Raises:
        ValueError: shapes do not fit, or `chunk` is less than 1.
    """
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1] or len(targets) != len(hidden):
        shapes = [list(tensor.shape) for tensor in (hidden, weight, targets)]
        raise ValueError(
            f"hidden states {shapes[0]}, a head of {shapes[1]} and targets {shapes[2]} do not fit together"
        )
    if chunk < 1:
        raise ValueError(f"a chunk of {chunk} tokens; at least 1 is needed")
    device = hidden.device.type
    low = torch.get_autocast_dtype(device) if device == "cuda" and torch.is_autocast_enabled(device) else None
    logprobs, entropies = _ChosenLogprobs.apply(hidden, weight, bias, targets, logits or Logits(), chunk, entropy, low)
    return logprobs, entropies if entropy else None


class _ChosenLogprobs(torch.autograd.Function):
    """Forward and backward by chunks of tokens; see the module."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        logits: Logits,
        chunk: int,
        entropy: bool,
        low: torch.dtype | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        product = _Product(weight, bias, low)
        logprobs = hidden.new_empty(len(hidden), dtype=product.exact)
        entropies = hidden.new_empty(len(hidden) if entropy else 0, dtype=product.exact)
        normalizers = torch.empty_like(logprobs)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk):
                part = slice(start, start + chunk)
                scores = logits.finish_(product(hidden[part]))  # [C, V]
                normalizers[part] = torch.logsumexp(scores, -1)
                scores.sub_(normalizers[part, None])
                logprobs[part] = scores.gather(1, targets[part, None])[:, 0]
                if entropy:
                    entropies[part] = -torch.linalg.vecdot(scores.exp(), scores)
        ctx.save_for_backward(hidden, weight, bias, targets, normalizers)
        ctx.settings = logits, chunk, low
        ctx.mark_non_differentiable(entropies)
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor | None, _: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        hidden, weight, bias, targets, normalizers = ctx.saved_tensors
        logits, chunk, low = ctx.settings
        product = _Product(weight, bias, low)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=product.exact) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=product.exact) if ctx.needs_input_grad[2] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk):
                part = slice(start, start + chunk)
                slope = None
                scores = logits.finish_(product(hidden[part]))
                if logits.softcap is not None:  # d cap(x) / dx = 1 - tanh(x / cap)^2
                    slope = 1 - (scores * (logits.temperature / logits.softcap)).square_()
                scores.sub_(normalizers[part, None]).exp_()
                weights = grad[part, None] * (logits.scale / logits.temperature)
                scores.mul_(-weights).scatter_add_(1, targets[part, None], weights)
                if slope is not None:
                    scores.mul_(slope)
                if grad_hidden is not None:
                    grad_hidden[part] = product.to_hidden(scores)
                if grad_weight is not None:
                    product.add_to_weight(grad_weight, scores, hidden[part])
                if grad_bias is not None:
                    grad_bias += scores.sum(0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            *(None,) * 5,
        )


class _Product:
    """The head's matrix products, with exact sums: inputs of `low` type where a GPU multiplies them fast, else exact.

    The output's memory is used again for the next chunk: what the caller keeps it must copy.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, low: torch.dtype | None) -> None:
        self.exact = torch.float64 if weight.dtype == torch.float64 else torch.float32
        if low is None and weight.is_cuda and weight.dtype in (torch.bfloat16, torch.float16):
            low = weight.dtype
        self.low = low
        self.weight = weight.detach().to(low or self.exact)
        self.bias = None if bias is None else bias.detach().to(self.exact)
        self._buffer: torch.Tensor | None = None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """[C, V] from [C, width]."""
        if self.low is not None:
            raw = torch.mm(hidden.to(self.low), self.weight.T, out_dtype=self.exact)
            return raw if self.bias is None else raw.add_(self.bias)
        if self._buffer is None or len(self._buffer) < len(hidden):
            self._buffer = hidden.new_empty((len(hidden), len(self.weight)), dtype=self.exact)
        out = self._buffer[: len(hidden)]
        with torch.no_grad():
            torch.mm(hidden.to(self.exact), self.weight.T, out=out)
        return out if self.bias is None else out.add_(self.bias)

    def to_hidden(self, scores: torch.Tensor) -> torch.Tensor:
        """[C, width] from the gradient [C, V] of the head's output."""
        return torch.mm(scores.to(self.weight.dtype), self.weight)

    def add_to_weight(self, total: torch.Tensor, scores: torch.Tensor, hidden: torch.Tensor) -> None:
        """Add the gradient of the weight to `total` [V, width]."""
        if self.low is None:
            total.addmm_(scores.T, hidden.to(self.exact))
        else:
            total += torch.mm(scores.to(self.low).T, hidden.to(self.low), out_dtype=self.exact)
