"""Rewards: verifiers for each domain, and the base, extraction and loading code that they share.

Write one by subclassing `Reward`, or as a plain function with TRL's reward signature; `load_reward` takes either.
"""

from rlcs.rewards.base import Reward
from rlcs.rewards.extract import Extraction, ExtractOptions, Outcome, extract_answer
from rlcs.rewards.loading import BUILTIN_REWARDS, LoadedReward, load_reward

__all__ = [
    "BUILTIN_REWARDS",
    "ExtractOptions",
    "Extraction",
    "LoadedReward",
    "Outcome",
    "Reward",
    "extract_answer",
    "load_reward",
]
