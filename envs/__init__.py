"""Environments: procedural tasks with difficulty levels, references and worked solutions."""
