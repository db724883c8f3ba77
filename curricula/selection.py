"""Balanced selection: of the groups rolled out, keep those nearest to half right, half wrong.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5). Whole groups are kept or dropped, never single responses. The selection
trains on a biased subset on purpose; the run log shows the share kept by tier.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def select_balanced(
    pass_rates: NDArray[np.float64], degenerate: NDArray[np.bool_], size: int, ages: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """Indices of the `size` groups to learn from, ascending; all of them if there are no more than `size`.

    Groups are ranked by distance of `pass_rates` [n] from 1/2, degenerate groups after all others whatever their pass
    rate (a group is degenerate if its rewards are equal, not if its mean is at a bound). Ties go to the older group
    (`ages` [n], larger is older, if given), then to the one that was drawn first, so that the result is a function of
    the arguments.

    Raises:
        ValueError: a pass rate is not in [0, 1], lengths differ, or size < 0.
    """
    n = len(pass_rates)
    if len(degenerate) != n or (ages is not None and len(ages) != n):
        raise ValueError(f"select_balanced: {n} pass rates, {len(degenerate)} degenerate marks; give one a group")
    if size < 0:
        raise ValueError(f"select_balanced: size {size} is negative")
    bad = ~((pass_rates >= 0) & (pass_rates <= 1))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"select_balanced: pass rate {pass_rates[i]} of group {i} is not in [0, 1]")
    if n <= size:
        return np.arange(n)
    distance = np.round(np.abs(pass_rates - 0.5), 9)  # 3/8 and 5/8 are equally far
    age = np.zeros(n, dtype=np.int64) if ages is None else -np.asarray(ages)
    order = np.lexsort((np.arange(n), age, distance, degenerate))
    return np.sort(order[:size])
