"""Spatial relations as sets of plain directions: `to the left of` is {left}, `upper left` and 左上角 are {above, left}.

A text is a relation only if nothing but relations is in it. Words that are near in meaning and not the same stay apart:
`on` is not `above`, `near` is not `next to`, `top` (a place within) is not `above` (a place beyond) but in a corner.
"""

from __future__ import annotations

import re

from rlcs.rewards.text import folded, plain

_MAX_CHARACTERS = 120

_PHRASES = {
    "left": "left|on left|lefthand|left hand|leftward|leftwards",
    "right": "right|on right|righthand|right hand|rightward|rightwards",
    "above": "above|over|higher than",
    "below": "below|under|beneath|underneath|lower than",
    "top": "top|upper",
    "bottom": "bottom|lower",
    "up": "up|upward|upwards",
    "down": "down|downward|downwards",
    "front": "in front of|in front|infront of|front|ahead of",
    "behind": "behind|in back of|back|rear|in the back of",
    "on": "on top of|on|atop|upon",
    "inside": "inside of|inside|within|in",
    "outside": "outside of|outside",
    "beside": "next to|beside|adjacent to|alongside",
    "near": "near to|near|close to|nearby|close",
    "far": "far away from|far from|far away|far",
    "between": "in between|between",
    "middle": "middle|center|centre",
    "opposite": "opposite to|opposite|across from",
    "closer": "closer|nearer",
    "farther": "farther away|further away|farther|further",
    "larger": "larger|bigger",
    "smaller": "smaller",
    "clockwise": "clockwise",
    "counterclockwise": "counterclockwise|counter clockwise|anticlockwise|anti clockwise",
    "north": "north|northward",
    "south": "south|southward",
    "east": "east|eastward",
    "west": "west|westward",
}
_RELATION_OF = {phrase: relation for relation, phrases in _PHRASES.items() for phrase in phrases.split("|")}
_ANY = f"(?:{'|'.join(sorted(_RELATION_OF, key=len, reverse=True))})"
_FILL = r"(?:(?:to|on|at|in|toward|towards|from) (?:the|its|their) |(?:to|at|toward|towards) |the |its )"
_TAIL = r"(?: (?:side|part|corner|edge|direction|half))?(?: (?:of(?: it| them)?|than|to))?"
_ENGLISH = re.compile(
    rf"(?:(?:it|they|this|that) (?:is|are) )?(?:{_FILL}(?P<filled>{_ANY}(?![^\W_]))|(?P<bare>{_ANY}(?![^\W_]))){_TAIL}(?![^\W_])"
)
_BETWEEN = re.compile(r"\s*(?:,\s*and\s|,|\band\b)?\s*")
_COMPASS = re.compile(r"\b(north|south)[ -]?(east|west)(?=ern\b|ward\b|wards\b|\b)")
_ABBREVIATIONS = {
    "N": "north", "S": "south", "E": "east", "W": "west", "NE": "north east", "NW": "north west", "SE": "south east",
    "SW": "south west",
}  # fmt: skip

_CHINESE_RELATIONS = {
    "左": "left", "右": "right", "上": "above", "下": "below", "前": "front", "后": "behind", "里": "inside", "内": "inside",
    "外": "outside", "东": "east", "南": "south", "西": "west", "北": "north",
}  # fmt: skip
_CHINESE_WORDS = {
    "旁边": "beside", "附近": "near", "中间": "middle", "中央": "middle", "之间": "between", "对面": "opposite", "顶部": "top",
    "底部": "bottom", "顺时针": "clockwise", "逆时针": "counterclockwise", "上部": "top", "下部": "bottom",
}  # fmt: skip
_CHINESE = re.compile(r"(?:它|位于|它在|在)?([左右上下前后里内外东南西北]{1,3})(?:手边|边|侧|面|方|方向|角|部|端)?")

_AXES = (
    {"left", "right"}, {"above", "below", "top", "bottom", "up", "down"}, {"front", "behind"}, {"inside", "outside"},
    {"near", "far"}, {"closer", "farther"}, {"larger", "smaller"}, {"clockwise", "counterclockwise"},
    {"north", "south"}, {"east", "west"},
)  # fmt: skip
_IN_A_CORNER = {"top": "above", "up": "above", "bottom": "below", "down": "below"}


def read_relation(text: str) -> frozenset[str] | None:
    """The relations that a text consists of; None if it holds anything else, or contradicts itself. Never raises."""
    if len(text) > _MAX_CHARACTERS:
        return None
    found = _relations_in(text)
    if not found or contradicts(found):
        return None
    return frozenset(found if len(found) == 1 else {_IN_A_CORNER.get(relation, relation) for relation in found})


def contradicts(relations: set[str]) -> bool:
    """Whether two of the relations exclude each other."""
    return any(len(relations & axis) > 1 for axis in _AXES)


def names_several(text: str) -> bool:
    """Whether a short text is of relations that exclude each other, such as `left and right`."""
    found = _relations_in(text) if len(text) <= _MAX_CHARACTERS else None
    return bool(found) and contradicts(found or set())


def _relations_in(text: str) -> set[str] | None:
    abbreviation = _ABBREVIATIONS.get(plain(text).strip("."))
    text = abbreviation or folded(text)
    if not text.isascii():
        return _relations_in_chinese(text)
    text = " ".join(_COMPASS.sub(r"\1 \2", text.replace("-", " ")).split())
    found: set[str] = set()
    position = 0
    while position < len(text):
        if position:
            between = _BETWEEN.match(text, position)
            position = between.end() if between else position
        match = _ENGLISH.match(text, position)
        if match is None:
            return None
        found.add(_RELATION_OF[match["bare"] or match["filled"]])
        position = match.end()
    return found


def _relations_in_chinese(text: str) -> set[str] | None:
    word = text.removeprefix("它").removeprefix("位于").removeprefix("在").removeprefix("正")
    if word in _CHINESE_WORDS:
        return {_CHINESE_WORDS[word]}
    match = _CHINESE.fullmatch(word)
    return {_CHINESE_RELATIONS[character] for character in match[1]} if match else None
