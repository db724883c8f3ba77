"""Leftover groups: groups with a signal that an update had no room for, kept for the next ones.

Oversampling yields more useful groups than a batch takes when it was luckier than expected, and draw-and-discard nearly
always. With `curriculum.leftover_age` the rest stays for so many further updates at most, and the next iteration aims at
so many groups fewer. Leftovers stand before the new groups, older ones first, so that selection breaks ties by age. A
leftover was sampled by an older policy: the learner's importance weights correct for that, and its age is bounded.

Shapes: n groups that an update could choose from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def groups_wanted(batch_size: int, num_leftovers: int) -> int:
    """How many new groups to learn from an iteration aims at: what leftovers lack, but at least half a batch.

    So half of an update is still aimed to be of the present policy, and the curriculum keeps observing.
    """
    return max(-(-batch_size // 2), batch_size - num_leftovers)


def leftovers(
    pass_rates: NDArray[np.float64],
    degenerate: NDArray[np.bool_],
    ages: NDArray[np.int64],
    learned: NDArray[np.int64],
    *,
    max_age: int,
    most: int,
) -> NDArray[np.int64]:
    """Indices of the groups to keep for the next update, ascending.

    Args:
        pass_rates: [n]
        degenerate: [n] groups without a signal are not kept.
        ages: [n] updates since each group was generated, 0 for the new ones.
        learned: indices of the groups that are learned from now.
        max_age: largest age at which a group may be learned from; 0 keeps nothing.
        most: how many are kept at most, those nearest to half right first, then the younger ones.
    """
    is_kept = ~degenerate & (ages < max_age)
    is_kept[learned] = False
    kept = np.flatnonzero(is_kept)
    distance = np.round(np.abs(pass_rates[kept] - 0.5), 9)
    order = np.lexsort((ages[kept], distance))
    return np.sort(kept[order[:most]])
