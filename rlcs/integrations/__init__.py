"""RLCS's rewards in other training frameworks. TRL needs nothing of this: a `Reward` is a TRL reward function."""
