"""Actions on screens: three grammars (JSON, calls, numbered elements) and one internal form.

| grammar | example | module |
|---|---|---|
| GLM-4.1V-Thinking and AndroidWorld | `{"action_type": "click", "box_2d": [[27, 840, 122, 885]]}` | `json_grammar` |
| OSWorld | `left_click(start_box='[511, 32]', element_info='Save')` | `call_grammar` |
| WebVoyager with coordinates | `CLICK(point=(200, 100), box=[[198, 92, 229, 107]])` | `call_grammar` |
| WebVoyager with numbered elements | `Type [3]; [blue shoes]` | `element_grammar` |

No text is evaluated; each grammar is a scanner that takes time linear in the length of the text.
"""

from __future__ import annotations

import re
from enum import StrEnum

from rlcs.rewards.gui_actions.action import Action, ActionType, parse_chord
from rlcs.rewards.gui_actions.call_grammar import parse_call
from rlcs.rewards.gui_actions.element_grammar import parse_element_action
from rlcs.rewards.gui_actions.json_grammar import parse_json_action
from rlcs.rewards.literals import LiteralError, check_length
from rlcs.rewards.text import unfenced

__all__ = ["Action", "ActionType", "Grammar", "parse_action", "parse_chord"]

_PREFIX = re.compile(r"\s*Action\s*:\s*")
_CALL = re.compile(r"([a-z][a-z_]*|[A-Z][A-Z_]*)\s*\(")
_OSWORLD_WORDS = frozenset({"WAIT", "DONE", "FAIL"})


class Grammar(StrEnum):
    """How an action is written."""

    ANY = "any"
    """Any of the others: their first characters tell them apart."""
    JSON = "json"
    """GLM-4.1V-Thinking's and AndroidWorld's."""
    OSWORLD = "osworld"
    """Calls in lower case; `WAIT`, `DONE` and `FAIL` with or without brackets."""
    WEBVOYAGER = "webvoyager"
    """Calls in upper case, and the older form with numbered elements."""


def parse_action(text: str, *, grammar: Grammar = Grammar.ANY, max_coordinate: float = 1000) -> Action:
    """The one action that a text spells, after an optional `Action:`, perhaps in a code fence; nothing may follow it.

    Args:
        text: what to read.
        grammar: how it must be written.
        max_coordinate: the largest coordinate, from 0.

    Raises:
        LiteralError: it is no action of the grammar, or is beyond a limit.
    """
    check_length(text)
    text = unfenced(text)
    prefix = _PREFIX.match(text)
    text = unfenced(text[prefix.end() if prefix else 0 :])
    found = _grammars_of(text)
    if grammar is not Grammar.ANY and grammar not in found:
        raise LiteralError(f"the action is not written in the {grammar} grammar")
    if Grammar.JSON in found:
        return parse_json_action(text, max_coordinate)
    if text in _OSWORLD_WORDS or _CALL.match(text):
        return parse_call(text, max_coordinate)
    return parse_element_action(text)


def _grammars_of(text: str) -> tuple[Grammar, ...]:
    """The grammars that a text can be of, by its first characters."""
    if text.startswith("{"):
        return (Grammar.JSON,)
    call = _CALL.match(text)
    name = call[1] if call else text
    if name == "WAIT":
        return (Grammar.OSWORLD, Grammar.WEBVOYAGER)
    if name in _OSWORLD_WORDS or (call and name.islower()):
        return (Grammar.OSWORLD,)
    return (Grammar.WEBVOYAGER,)
