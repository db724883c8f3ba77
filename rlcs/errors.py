"""The errors that RLCS raises on purpose.

A message is one line: what is wrong, where (file, row, key) and what to do. The command line prints it without a
traceback and exits with `exit_code`; the library lets it pass to the caller.
"""

from __future__ import annotations


class RLCSError(Exception):
    """Base of every error that RLCS raises on purpose."""

    exit_code = 1


class ConfigError(RLCSError):
    """The configuration or a command-line argument is wrong: the user's to mend."""

    exit_code = 2


class DataError(RLCSError):
    """A dataset, a row of it, or a model folder cannot be used: the user's to mend."""

    exit_code = 2


class RewardError(RLCSError):
    """A reward function cannot be found, raised, or returned something that is no list of scores."""

    exit_code = 2


class EngineError(RLCSError):
    """A rollout engine could not start, or a request to it failed or ran past its deadline."""


class DeadlineError(EngineError):
    """Engines that work as they should are too slow for `rollout.timeout_s`: nothing that is replaced would help."""


class LearnerLostError(EngineError):
    """A rank of the learner died, hangs, or raised what RLCS does not know: a new learner may go on from a checkpoint."""


class TooManyFaultsError(EngineError):
    """Actors failed again and again (`cluster.max_restarts`): the run ends, its last checkpoint stays."""


class HealthError(RLCSError):
    """Training went wrong, and `health` says to stop then."""


class CheckpointError(RLCSError):
    """A checkpoint or a run folder is missing, damaged or of another version."""

    exit_code = 2


def one_line(error: BaseException | str, limit: int = 300, *, typed: bool = False) -> str:
    """An exception's message on one line, cut to `limit` characters; its type before it (`typed`), or alone if it is empty."""
    text, name = " ".join(str(error).split()), type(error).__name__
    return (f"{name}: {text}" if text and typed else text or name)[:limit]


def first_line(error: BaseException, limit: int | None = 200, *, typed: bool = False) -> str:
    """The first line of a message, for errors that go on with details (`limit` None: all of it); else as `one_line`."""
    text, name = (str(error).strip().splitlines() or [""])[0], type(error).__name__
    return (f"{name}: {text}" if text and typed else text or name)[:limit]
