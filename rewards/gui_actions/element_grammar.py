"""The grammar of WebVoyager with numbered elements (set of marks), as GLM-4.1V-Thinking's prompts give it.

`Click [12]`, `Type [3]; [text]`, `Scroll [WINDOW]; [down]`, `Key; [Return]`, `ANSWER; [text]`,
`ANSWER; <content>text</content>`, `Wait`, `GoBack`, `Bing`, `Google`. The brackets around `up` and `down` may be left out, and
a full stop may follow, as in the prompts.
"""

from __future__ import annotations

import re

from rlcs.rewards.gui_actions.action import Action, ActionType, Target, parse_chord, to_direction
from rlcs.rewards.literals import LiteralError, check_length

_WORDS = {
    "Wait": ActionType.WAIT,
    "GoBack": ActionType.BACK,
    "Bing": ActionType.SEARCH,
    "Google": ActionType.SEARCH,
}
_CLICK = re.compile(r"Click\s*\[([0-9]{1,6})\]\.?")
_SCROLL = re.compile(r"Scroll\s*\[([0-9]{1,6}|WINDOW)\]\s*;\s*(?:\[(up|down)\]|(up|down))\.?", re.IGNORECASE)
_TYPE = re.compile(r"Type\s*\[([0-9]{1,6})\]\s*;\s*(\[.*)", re.DOTALL)
_KEY = re.compile(r"Key\s*;\s*(\[.*)", re.DOTALL)
_ANSWER = re.compile(r"ANSWER\s*;\s*(?:<content>((?:(?!</?content>).)*)</content>\.?|(\[.*))", re.DOTALL)


def parse_element_action(text: str) -> Action:
    """The action of a text in this grammar.

    Raises:
        LiteralError: it is none, or text follows it.
    """
    check_length(text)
    word = text.removesuffix(".")
    if word in _WORDS:
        return Action(_WORDS[word])
    if match := _CLICK.fullmatch(text):
        return Action(ActionType.CLICK, target=_element(match[1]))
    if match := _SCROLL.fullmatch(text):
        return Action(ActionType.SCROLL, target=_element(match[1]), direction=to_direction(match[2] or match[3]))
    if match := _TYPE.fullmatch(text):
        return Action(ActionType.TYPE, target=_element(match[1]), text=_bracketed(match[2]))
    if match := _KEY.fullmatch(text):
        return Action(ActionType.KEY, keys=parse_chord(_bracketed(match[1])))
    if match := _ANSWER.fullmatch(text):
        return Action(ActionType.ANSWER, text=match[1].strip() if match[1] is not None else _bracketed(match[2]))
    raise LiteralError("it is no action of a known grammar")


def _element(number: str) -> Target:
    return Target(element=str(int(number)) if number.isdigit() else number.upper())


def _bracketed(text: str) -> str:
    """The content of the brackets around a text; it may hold brackets that are closed."""
    text = text.removesuffix(".").rstrip()
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            if index + 1 != len(text):
                raise LiteralError("there is text after the closing bracket")
            return text[1:-1]
    raise LiteralError("the bracket is never closed")
