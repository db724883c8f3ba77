"""Offline difficulty: sample from models, estimate pass rates, write a dataset with tiers (`rlcs grade`)."""
