"""What has become of all prompts: how many were never drawn, and what the last group of the others said.

Mastered: all right. Forgotten: once all right, and now less than half. One byte a prompt. Shapes: N prompts, n rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.errors import CheckpointError

STATES = ("never", "wrong", "between", "mastered", "forgotten")
"""Never drawn; the last group all wrong; neither; all right; all right once and now less than half."""
_NEVER, _WRONG, _BETWEEN, _MASTERED, _FORGOTTEN = range(len(STATES))
_ONCE = 8
"""Added to the state of a prompt that was all right once."""


class Coverage:
    """The state of each prompt, and how many are in each."""

    def __init__(self, num_rows: int) -> None:
        """None drawn yet."""
        self._codes = np.zeros(num_rows, dtype=np.uint8)  # [N] state, and `_ONCE`
        self.counts = np.zeros(len(STATES), dtype=np.int64)
        self.counts[_NEVER] = num_rows

    def observe(self, rows: NDArray[np.int64], pass_rates: NDArray[np.float64]) -> None:
        """Take the pass rates of the groups of `rows` [n]; of a row that is there several times, the mean."""
        rows, inverse, times = np.unique(rows, return_inverse=True, return_counts=True)
        rates = np.bincount(inverse, pass_rates) / times
        before = self._codes[rows]
        once = (before & _ONCE) > 0
        states = np.select(
            [rates >= 1, once & (rates < 0.5), rates <= 0], [_MASTERED, _FORGOTTEN, _WRONG], default=_BETWEEN
        )
        self._codes[rows] = states + np.where(once | (rates >= 1), _ONCE, 0)
        size = len(STATES)
        self.counts += np.bincount(states, minlength=size) - np.bincount(before & (_ONCE - 1), minlength=size)

    def metrics(self) -> dict[str, float]:
        """`curriculum/prompts/STATE`: how many prompts are in each of `STATES`."""
        return {f"curriculum/prompts/{name}": float(n) for name, n in zip(STATES, self.counts, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""
        return {"coverage": self._codes.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; one of an older version has none, and counting begins anew.

        Raises:
            CheckpointError: it holds what is no state of a prompt.
        """
        if "coverage" in state:
            codes = np.asarray(state["coverage"])
            if ((codes & (_ONCE - 1)) >= len(STATES)).any():
                raise CheckpointError("the saved curriculum's 'coverage' holds unknown states: it was changed")
            self._codes[:] = codes
            self.counts = np.bincount(self._codes & (_ONCE - 1), minlength=len(STATES)).astype(np.int64)
