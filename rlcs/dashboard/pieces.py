"""Pieces of a response's text in one colour each, and where its thinking ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_THINK = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.S)


@dataclass(slots=True)
class Piece:
    """Some characters of a response in one colour."""

    text: str
    css: str = ""
    """Classes of style.css."""
    title: str = ""


def split_thinking(pieces: Sequence[Piece], text: str) -> tuple[list[Piece], list[Piece]]:
    """What stands in the thinking, and what comes after, by the characters of the pieces."""
    match = _THINK.search(text)
    if match is None:
        return [], list(pieces)
    if len(pieces) == 1:
        css, title = pieces[0].css, pieces[0].title
        outside = Piece(text[: match.start()] + text[match.end() :], css, title)
        return [Piece(text[match.start() : match.end()], css, title)], [outside] if outside.text else []
    thinking: list[Piece] = []
    rest: list[Piece] = []
    position = 0
    for piece in pieces:
        inside = match.start() <= position < match.end()
        (thinking if inside else rest).append(piece)
        position += len(piece.text)
    return thinking, rest
