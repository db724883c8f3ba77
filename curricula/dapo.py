"""Dynamic sampling of DAPO (arXiv 2503.14476): draw uniformly, discard degenerate groups, draw until the batch is full.

It saves updates, not responses: what it discards was generated. The baseline to compare with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.uniform import Uniform


class DAPO(Uniform):
    """Uniform sampling with redraws."""

    def redraw(self, batch_size: int, num_useful: int) -> int:
        """Another batch until `batch_size` groups have a signal; the trainer bounds the number of redraws."""
        return 0 if num_useful >= batch_size else batch_size

    def select(self, pass_rates: NDArray[np.float64], degenerate: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
        """The first `size` groups with a signal; the rest is cut off, as the reference implementation does."""
        order = np.argsort(degenerate, kind="stable")
        return np.sort(order[:size])
