"""The tokens between two turns of an episode: what a chat template puts after a response, up to the next one.

A conversation is never rendered and tokenized again: what the policy sampled stays as it is, and what the environment
says is appended. The chat template is asked once for a conversation with a mark in the place of the response; what stands
behind the mark is the end of that turn, the message of the environment and the opening of the next response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlcs.errors import DataError, one_line
from rlcs.types import Message

_MARK = "RLCS-RESPONSE-8f1c"


@dataclass(frozen=True, slots=True)
class Between:
    """What stands between two responses."""

    token_ids: list[int]
    """One placeholder token for each picture."""
    text: str


class TurnTemplate:
    """What the chat template of a policy puts between two responses."""

    def __init__(self, tokenizer: Any) -> None:
        """For a tokenizer of transformers with a chat template."""
        self._tokenizer = tokenizer

    def between(self, messages: Sequence[Message], parts: Sequence[dict[str, Any]], last_token: int | None) -> Between:
        """What follows a response that ended with `last_token` where the environment then says `parts`.

        `messages` is the prompt. The end of turn is not repeated where the policy sampled it itself; it is put there where a
        response was cut off.

        Raises:
            DataError: the template shows no responses, or refuses the conversation.
        """
        conversation = [
            *messages,
            {"role": "assistant", "content": _MARK},
            {"role": "user", "content": message_content(parts)},
        ]
        try:
            text = self._tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is foreign code: jinja's errors, and any that its operations raise
            raise DataError(f"the model's chat template refuses a second turn: {one_line(error)}") from error
        _, found, rest = text.rpartition(_MARK)
        if not found:
            raise DataError(
                "the model's chat template leaves out earlier responses: it cannot be used for several turns"
            )
        ids: list[int] = self._tokenizer.encode(rest, add_special_tokens=False)
        if ids and ids[0] == last_token:
            rest = rest.removeprefix(self._tokenizer.decode(ids[:1], skip_special_tokens=False))
            ids = ids[1:]
        return Between(ids, rest)


def message_content(parts: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The content of a message: plain text where no part shows something, which every template takes."""
    if all(part.get("type") == "text" for part in parts):
        return "\n".join(str(part["text"]) for part in parts)
    return list(parts)
