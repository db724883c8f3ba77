r"""Electron configurations: `1s^2 2s^2 2p^4`, `[He]2s^{2}2p^{4}`, `1s²2s²2p⁴`, `1s22s22p4`."""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 200

_SUBSHELL = re.compile(r"([1-8])(?:(s)\^?([12])|(p)\^?([1-6])|(d)\^?(10|[1-9])|(f)\^?(1[0-4]|[1-9]))")
_CORE = re.compile(r"\[(He|Ne|Ar|Kr|Xe|Rn)\]")
_FULL = {"s": 2, "p": 6, "d": 10, "f": 14}
_ORDER = "1s 2s 2p 3s 3p 4s 3d 4p 5s 4d 5p 6s 4f 5d 6p".split()
_SIZES = {"He": 1, "Ne": 3, "Ar": 5, "Kr": 8, "Xe": 11, "Rn": 15}
"""How many subshells, in the order of filling, a noble gas has full."""
_MARKUP = re.compile(r"\\(?:mathrm|text|ce|rm|[,;:! ])|[\s{}$~.,·]")


def configuration(text: str) -> dict[str, int] | None:
    """Electrons by subshell, cores written out; None if the text is no configuration."""
    if len(text) > MAX_CHARACTERS:
        return None
    text = _MARKUP.sub("", unicodedata.normalize("NFKC", text))
    occupation: dict[str, int] = {}
    core = _CORE.match(text)
    if core:
        occupation = {name: _FULL[name[1]] for name in _ORDER[: _SIZES[core[1]]]}
    position = core.end() if core else 0
    if position == len(text):
        return None
    while position < len(text):
        match = _SUBSHELL.match(text, position)
        if match is None:
            return None
        letter, count = [group for group in match.groups()[1:] if group]
        name = match[1] + letter
        if name in occupation:
            return None
        occupation[name] = int(count)
        position = match.end()
    return occupation
