"""Curricula: which prompts are worth rolling out. Pure numpy, one row a training prompt."""
