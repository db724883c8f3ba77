"""A response of several turns for a person: what the policy said, and between that what the environment said and showed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlcs.dashboard.pictures import Box, Picture, answered_boxes, picture_source
from rlcs.dashboard.pieces import Piece, split_thinking
from rlcs.dashboard.store import Run

_MARKS = re.compile(r"<\|[^<>|]{1,40}\|>|<\|?endoftext\|?>")


@dataclass(slots=True)
class ShownTurn:
    """A part of an episode."""

    is_observation: bool
    thinking: list[Piece] = field(default_factory=list)
    rest: list[Piece] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    """What an observation shows, with the boxes of the response to it."""


def turns_of(run: Run, row: dict[str, Any], pieces: Sequence[Piece] | None, *, inline: bool = False) -> list[ShownTurn]:
    """The parts of the response of a row; empty where it has a single turn.

    `pieces` has one for each token, or is None where tokens are not known. `inline`: the files of pictures themselves.
    """
    observations = row.get("observations") or []
    if not observations:
        return []
    text: str = row["response"]
    turns: list[ShownTurn] = []
    token = character = 0
    texts = []
    for each in [*observations, None]:
        end, text_end = (None, None) if each is None else (each["start"], each["text_start"])
        said = text[character:text_end]
        texts.append(said)
        of_turn = [Piece(said)] if pieces is None else [piece for piece in pieces[token:end] if piece.text]
        thinking, rest = split_thinking(of_turn, "".join(piece.text for piece in of_turn))
        turns.append(ShownTurn(False, thinking, rest))
        if each is None:
            break
        told = _MARKS.sub(" ", text[each["text_start"] : each["text_end"]]).strip()
        shown = [Piece(told)] if told else []
        turns.append(ShownTurn(True, rest=shown, pictures=_pictures(run, each["images"] or [], inline)))
        token, character = each["end"], each["text_end"]
    for place, said in enumerate(texts[1:]):
        boxes = answered_boxes(said)
        for picture in turns[2 * place + 1].pictures:
            picture.predicted.extend(boxes)
    return turns


def _pictures(run: Run, digests: Sequence[str], inline: bool) -> list[Picture]:
    nothing: list[Box] = []
    sources = [picture_source(run, digest, inline=inline) for digest in digests]
    return [Picture(source, nothing, [], "What the environment shows") for source in sources if source is not None]
