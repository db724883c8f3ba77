"""Generalised advantage estimation (arXiv 1506.02438, equation 16) over flat token arrays.

With rewards `r`, values `V` and `V` after the last token the sequence's `bootstrap`,

    delta_t = r_t + gamma V_{t+1} - V_t        A_t = delta_t + gamma lam A_{t+1}        return_t = A_t + V_t

Tokens that the policy did not choose are no steps: the recursion passes over them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gae(
    rewards: NDArray[np.floating],
    values: NDArray[np.floating],
    offsets: NDArray[np.integer],
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    mask: NDArray[np.bool_] | None = None,
    bootstrap: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Advantages [N] and returns [N] of tokens, from their rewards [N] and values [N]; defaults as in TRL's PPO.

    Sequence s is `[offsets[s], offsets[s + 1])`, as in `rlcs.types.Batch`. `mask` [N] is True on the tokens that are
    steps (all without it); both results are 0 elsewhere. `bootstrap` [S] is the value of what would follow a sequence
    that was cut off; 0 without it.

    Raises:
        ValueError: shapes do not match, `gamma` or `lam` is not in [0, 1], or a reward lies on a token outside `mask`.
    """
    size, num_sequences = len(values), len(offsets) - 1
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gamma ({gamma}) and lam ({lam}) must be in [0, 1]")
    if len(rewards) != size or offsets[0] != 0 or offsets[-1] != size or (mask is not None and len(mask) != size):
        raise ValueError(f"{len(rewards)} rewards, {size} values and offsets up to {offsets[-1]} do not match")
    if bootstrap is not None and len(bootstrap) != num_sequences:
        raise ValueError(f"{len(bootstrap)} bootstrap values for {num_sequences} sequences")
    steps = np.ones(size, np.bool_) if mask is None else np.asarray(mask, np.bool_)
    if np.any(np.asarray(rewards)[~steps]):
        raise ValueError("a token outside the mask has a reward; give it to the last token inside")

    # From here on only steps: ends are those of the sequences among them.
    ends = np.concatenate([[0], np.cumsum(steps)])[offsets[1:]]
    lengths = np.diff(ends, prepend=0)
    own = np.asarray(values, np.float64)[steps]
    following = np.append(own[1:], 0.0)
    some = lengths > 0
    following[ends[some] - 1] = 0.0 if bootstrap is None else np.asarray(bootstrap, np.float64)[some]
    deltas = np.asarray(rewards, np.float64)[steps] + gamma * following - own

    # One step of all sequences at once, from their ends, the longest sequences first.
    order = np.argsort(-lengths, kind="stable")
    lasts, left = ends[order] - 1, lengths[order]
    carry = np.zeros(num_sequences)
    result = np.zeros(len(own))
    for step in range(int(lengths.max(initial=0))):
        active = int(np.searchsorted(-left, -step, side="left"))
        places = lasts[:active] - step
        carry = deltas[places] + gamma * lam * carry[:active]
        result[places] = carry

    advantages, returns = np.zeros(size, np.float32), np.zeros(size, np.float32)
    advantages[steps] = result
    returns[steps] = result + own
    return advantages, returns
