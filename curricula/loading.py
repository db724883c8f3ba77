"""Curricula by name."""

from __future__ import annotations

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Curriculum, PromptTable
from rlcs.errors import ConfigError
from rlcs.plugins import load_object

BUILTIN_CURRICULA = {
    "uniform": "rlcs.curricula.uniform:Uniform",
    "rlcs": "rlcs.curricula.rlcs:RLCS",
    "posterior": "rlcs.curricula.posterior_sampler:Posterior",
    "easy_to_hard": "rlcs.curricula.easy_to_hard:EasyToHard",
    "dapo": "rlcs.curricula.dapo:DAPO",
}


def load_curriculum(kind: str, table: PromptTable, config: CurriculumConfig, seed: int) -> Curriculum:
    """The curriculum named `kind`: built-in, `path/to/file.py:Class`, `package.module:Class` or an entry point.

    Raises:
        ConfigError: there is no such curriculum, or it is not a subclass of `Curriculum`, or the config does not fit.
    """
    cls = load_object(kind, group="rlcs.curricula", builtins=BUILTIN_CURRICULA, what="curriculum", error=ConfigError)
    if not (isinstance(cls, type) and issubclass(cls, Curriculum)):
        raise ConfigError(f"curriculum.kind {kind!r}: {cls!r} is not a subclass of rlcs.curricula.base.Curriculum")
    return cls(table, config, seed)
