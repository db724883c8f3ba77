"""Make a reward of its class and the options of a configuration; what they cannot be is told in one line."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from rlcs.errors import RewardError, one_line
from rlcs.rewards.base import Reward
from rlcs.rewards.extract import ExtractOptions, Fallback


def construct(form: str, cls: type[Reward], offered: Mapping[str, Any], options: Mapping[str, Any]) -> Reward:
    """An instance of `cls` made of the options, and of those of the offered arguments that its constructor has.

    The option `extract` may be a mapping, such as `{fallbacks: [boxed]}`.

    Raises:
        RewardError: there is no such option, or the constructor fails.
    """
    parameters = inspect.signature(cls).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in parameters and not takes_any:
            raise RewardError(f"reward {form!r} has no option {option!r}{_hint(option, parameters)}")
    arguments = {name: value for name, value in offered.items() if name in parameters} | dict(options)
    if isinstance(arguments.get("extract"), Mapping):
        arguments["extract"] = _extract_options(form, arguments["extract"])
    make: Callable[..., Reward] = cls
    try:
        return make(**arguments)
    except RewardError:
        raise
    except Exception as error:
        raise RewardError(f"reward {form!r} cannot be made: {one_line(error, typed=True)}") from error


def _extract_options(form: str, given: Mapping[str, Any]) -> ExtractOptions:
    where = f"reward {form!r}: the option 'extract'"
    known = [field.name for field in fields(ExtractOptions)]
    for name in given:
        if name not in known:
            raise RewardError(f"{where} has no {name!r}{_hint(name, known)}")
    fallbacks, is_open = given.get("fallbacks", ()), given.get("thinking_is_open", False)
    if not isinstance(fallbacks, list | tuple):
        raise RewardError(f"{where}.fallbacks must be a list, not {fallbacks!r}")
    for name in fallbacks:
        if name not in list(Fallback):
            raise RewardError(f"{where}.fallbacks has no {name!r}{_hint(str(name), Fallback)}")
    if not isinstance(is_open, bool):
        raise RewardError(f"{where}.thinking_is_open must be true or false, not {is_open!r}")
    return ExtractOptions(tuple(Fallback(name) for name in fallbacks), is_open)


def _hint(word: str, known: Iterable[str]) -> str:
    names = [str(name) for name in known]
    near = difflib.get_close_matches(word, names, n=1)
    return f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(names) or 'none'}"
