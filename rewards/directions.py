"""Directions at the end of a quantity: `5 N upward`, `3 m/s to the left`, `10 N，方向向右`."""

from __future__ import annotations

import re

_SPELLINGS = {
    "up": ("upwards", "upward", "up", "vertically upward", "vertically upwards", "竖直向上", "向上"),
    "down": ("downwards", "downward", "down", "vertically downward", "vertically downwards", "竖直向下", "向下"),
    "left": ("left", "leftward", "leftwards", "水平向左", "向左"),
    "right": ("right", "rightward", "rightwards", "水平向右", "向右"),
    "north": ("north", "northward", "northwards", "向北"),
    "south": ("south", "southward", "southwards", "向南"),
    "east": ("east", "eastward", "eastwards", "向东"),
    "west": ("west", "westward", "westwards", "向西"),
    "northeast": ("northeast", "north-east", "向东北"),
    "northwest": ("northwest", "north-west", "向西北"),
    "southeast": ("southeast", "south-east", "向东南"),
    "southwest": ("southwest", "south-west", "向西南"),
    "clockwise": ("clockwise", "顺时针"),
    "counterclockwise": ("counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise", "逆时针"),
    "into the page": ("into the page", "into page", "垂直纸面向里", "垂直于纸面向里"),
    "out of the page": ("out of the page", "out of page", "垂直纸面向外", "垂直于纸面向外"),
    "forward": ("forward", "forwards", "向前"),
    "backward": ("backward", "backwards", "向后"),
}
_DIRECTION_OF = {spelling: direction for direction, spellings in _SPELLINGS.items() for spelling in spellings}
_WORDS = "|".join(sorted(map(re.escape, _DIRECTION_OF), key=len, reverse=True))
_AT_END = re.compile(
    r"(?:^|(?<=[\s,(}\u4e00-\u9fff])|(?=[\u4e00-\u9fff]))"
    r"(?P<lead>(?:directed |due |toward |towards |to the |in the |the |方向为?|方向是){0,3})"
    rf"(?P<words>{_WORDS})(?: direction)?\s?$",
    re.IGNORECASE,
)
_LONGEST = 60
"""Characters at the end of a text in which a direction is looked for."""


def split_direction(text: str) -> tuple[str, str]:
    r"""The text without the direction at its end, and the direction; also inside of brackets or `\text{}`."""
    bare = text.rstrip()
    closing = ""
    for opening, end in (("\\text{", "}"), ("\\mathrm{", "}"), ("(", ")"), ("[", "]")):
        start = bare.rfind(opening) if bare.endswith(end) else -1
        if start >= 0 and len(bare) - start <= _LONGEST:
            inner = bare[start + len(opening) : -1].strip()
            match = _AT_END.search(inner)
            if match:
                before = inner[: match.start()].strip()
                kept = f"{opening}{before}{end}" if before else closing
                return f"{bare[:start]}{kept}".rstrip(" ,"), _DIRECTION_OF[match["words"].lower()]
    match = _AT_END.search(bare, max(0, len(bare) - _LONGEST))
    if match is None:
        return text, ""
    return bare[: match.start()].rstrip(" ,"), _DIRECTION_OF[match["words"].lower()]
