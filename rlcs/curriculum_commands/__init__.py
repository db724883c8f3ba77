"""`rlcs curriculum`: what a run's curriculum did, and why; `rlcs simulate`: what one would do. No Ray, no model."""
