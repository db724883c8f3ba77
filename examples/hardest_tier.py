"""A curriculum of the README."""

import numpy as np

from rlcs.curricula.base import Curriculum


class HardestTier(Curriculum):
    """Draws from the hardest offline tier only."""

    def draw(self, n):
        """See `Curriculum.draw`."""
        rows = np.flatnonzero(self.table.tiers == self.table.tiers.max())
        return self.rng.choice(rows, size=n, replace=len(rows) < n)

    def observe(self, observation):
        """Learns nothing from the pass rates `observation.pass_rates` of `observation.rows`."""
