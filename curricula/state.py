"""What is kept a prompt: a structure of arrays, one row a training prompt, 16 bytes a row.

With the table (3 bytes), the label (1 byte) and the lists of cells (`rlcs.curricula.passes`, about 12 bytes) a prompt
takes under 40 bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FIELDS = ("mean", "variance", "last_step", "times")


class PromptState:
    """The arrays of all prompts, and the number of iterations observed."""

    def __init__(self, num_rows: int) -> None:
        """All zero: never rolled out."""
        self.mean = np.zeros(num_rows, dtype=np.float32)
        """[N] mean of the belief (what it is about, the estimator says)."""
        self.variance = np.zeros(num_rows, dtype=np.float32)
        """[N] variance of the belief, or the number of responses behind it."""
        self.last_step = np.zeros(num_rows, dtype=np.int32)
        """[N] iteration in which the prompt was last rolled out."""
        self.times = np.zeros(num_rows, dtype=np.int32)
        """[N] iterations in which it was rolled out."""
        self.step = 0
        """Iterations observed."""

    def state_dict(self) -> dict[str, Any]:
        """Arrays and a number that `load_state_dict` takes."""
        return {f"prompt_{name}": getattr(self, name).copy() for name in FIELDS} | {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name in FIELDS:
            getattr(self, name)[:] = state[f"prompt_{name}"]
        self.step = int(state["step"])
