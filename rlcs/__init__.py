"""RLCS: reinforcement learning with curriculum sampling for language and vision-language models."""

__version__ = "0.1.0"
