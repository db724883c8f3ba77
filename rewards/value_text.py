r"""The number at the start of a quantity: where it ends, and its value.

Whatever `rlcs.rewards.mathtext` reads without variables is a number: `3\sqrt{2}`, `\frac{\pi}{6}`, `6.02\times10^{23}`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from rlcs.rewards.mathtext import numeric
from rlcs.rewards.mathtext.grammar import parse_normalized
from rlcs.rewards.mathtext.normalize import normalize
from rlcs.rewards.mathtext.numbers import Number, parse_number
from rlcs.rewards.mathtext.structure import number_of
from rlcs.rewards.mathtext.tree import MathTextError, symbols_of

_MAX_DEPTH = 12
_PLAIN_VALUE = re.compile(
    r"[+-]?\s?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?:\s?(?:×|\*|\\times|\\cdot|·)\s?10\s?\^\s?(?:\{\s?[+-]?\d+\s?\}|[+-]?\d+))?"
)
_VALUE_TOKEN = re.compile(
    r"\s+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[-+*/^!×·÷⋅π√−]|\\(?:times|cdot|div|pi|d?frac|tfrac|sqrt)(?![A-Za-z])"
)
_TAIL = re.compile(r"(?:[\s*×·⋅/^+-]|\\times|\\cdot|\\div)+$")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


class QuantityTextError(ValueError):
    """A text is no quantity."""


class UnusableValueError(QuantityTextError):
    """What would be a quantity has a value that cannot be computed, such as `1/0 m`."""


def split_value(text: str) -> tuple[str, str]:
    """The longest start of `text` that could be a number, and the rest."""
    plain = _PLAIN_VALUE.match(text)
    rest = text[plain.end() :].lstrip() if plain else ""
    if plain and (not rest or rest[0].isalpha() or rest[0] in "%°"):
        return plain.group(), rest
    end = _value_end(text, 0, len(text), 0)
    tail = _TAIL.search(text, max(0, end - 24), end)
    stop = tail.start() if tail else end
    between = text[stop:end].strip()
    kept = "/" if between == "/" else "^" if between == "^" else ""
    if between and not kept and between.strip("*×·⋅ ") and between not in ("\\times", "\\cdot"):
        return "", text
    if text[:stop].rstrip().endswith(("sqrt", "√", "frac")):
        return "", text  # the root of what is no number
    return text[:stop].strip(), kept + text[end:].strip()


def _value_end(text: str, start: int, stop: int, depth: int) -> int:
    r"""Where the text stops being a number. A bracket, or a `\frac`, belongs to it only as a whole."""
    position = start
    pending = -1  # where a command began that still waits for its arguments
    waiting = 0
    while position < stop:
        character = text[position]
        if character in _BRACKETS:
            end = closing_bracket(text, position)
            if end < 0 or end >= stop or depth > _MAX_DEPTH or _value_end(text, position + 1, end, depth + 1) < end:
                return pending if waiting else position
            position = end + 1
            waiting = max(0, waiting - 1)
            continue
        match = _VALUE_TOKEN.match(text, position, stop)
        if match is None:
            return pending if waiting else position
        token = match.group()
        if token.endswith("frac"):
            pending, waiting = (position if not waiting else pending), 2
        elif waiting and token[0].isdigit():
            waiting = max(0, waiting - len(token))
        position = match.end()
    return position


def closing_bracket(text: str, opening: int) -> int:
    """Where the bracket at `opening` closes; -1 if it does not."""
    stack = []
    for position in range(opening, len(text)):
        character = text[position]
        if character in _BRACKETS:
            stack.append(_BRACKETS[character])
        elif character in ")]}":
            if stack.pop() != character:
                return -1
            if not stack:
                return position
    return -1


@lru_cache(maxsize=16_384)
def read_value(text: str) -> Number:
    try:
        plain = normalize(text)
        number = parse_number(plain)
        if number is not None:
            return number
        tree = parse_normalized(plain)
        if symbols_of(tree):
            raise QuantityTextError("the value holds variables")
        number = number_of(tree)
        if number is not None:
            return number
        value = numeric.evaluate(tree)[0]
    except (MathTextError, RecursionError, numeric.Undefined) as error:
        raise UnusableValueError(f"the value cannot be read: {error or 'it is too large'}") from error
    arithmetic = numeric.context()
    if abs(arithmetic.im(value)) > 1e-30:
        raise QuantityTextError("the value is not real")
    return Number(Fraction(arithmetic.nstr(arithmetic.re(value), 30)))
