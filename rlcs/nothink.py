"""Prompts that ask for an answer without thinking: a share of the data ends with the tag `/nothink`.

GLM-4.5V and its siblings answer such prompts with an empty thinking block (arXiv 2507.01006); both kinds are trained together.
Which prompts are tagged depends on the run's seed and the prompt alone, so that a resumed run and an evaluation have the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlcs.response_format import THINK_CLOSE, THINK_OPEN
from rlcs.types import Group, Prompt, prompt_id

TAG = "/nothink"
_COLUMN = "nothink"
_THINKING = re.compile(rf"{re.escape(THINK_OPEN)}.*?{re.escape(THINK_CLOSE)}", re.S)


def tag_share(prompts: Sequence[Prompt], share: float, seed: int) -> list[Prompt]:
    """The prompts, about `share` of them with the tag behind their last message; the same ones for the same seed."""
    if not share:
        return list(prompts)
    return [_tagged(prompt) if is_chosen(prompt, share, seed) else prompt for prompt in prompts]


def is_chosen(prompt: Prompt, share: float, seed: int) -> bool:
    """Whether an untagged prompt is one of the `share`."""
    digest = hashlib.sha256(f"{TAG}/{seed}/{prompt.id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53 < share


def is_tagged(prompt: Prompt) -> bool:
    """Whether a prompt asks for no thinking, by `tag_share`."""
    return prompt.metadata.get(_COLUMN) is True


def untagged(prompt: Prompt) -> Prompt:
    """The prompt as it was before it was tagged."""
    if not is_tagged(prompt):
        return prompt
    metadata = {key: value for key, value in prompt.metadata.items() if key != _COLUMN}
    return _with_last(prompt, lambda text: text.removesuffix(TAG).removesuffix(" "), metadata)


def without_thinking(response: str) -> str:
    """A worked response with its thinking left empty."""
    return _THINKING.sub(THINK_OPEN + THINK_CLOSE, response, count=1)


def nothink_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """`rollout/nothink`: share of the groups whose prompt is tagged; `rollout/nothink_obeyed`: share of their responses
    whose thinking is empty, where there are some."""
    tagged = [group for group in groups if is_tagged(group.prompt)]
    if not tagged:
        return {}
    texts = [response.text for group in tagged for response in group.responses]
    obeyed = sum(not text.partition(THINK_CLOSE)[0].replace(THINK_OPEN, "").strip() for text in texts)
    return {"rollout/nothink": len(tagged) / len(groups), "rollout/nothink_obeyed": obeyed / len(texts)}


def _tagged(prompt: Prompt) -> Prompt:
    return _with_last(prompt, lambda text: f"{text} {TAG}" if text else TAG, {**prompt.metadata, _COLUMN: True})


def _with_last(prompt: Prompt, change: Any, metadata: dict[str, Any]) -> Prompt:
    """The prompt with the text of its last message changed."""
    last = dict(prompt.messages[-1])
    if isinstance(last["content"], str):
        last["content"] = change(last["content"])
    else:
        parts = [dict(part) for part in last["content"]]
        texts = [part for part in parts if part.get("type") == "text"]
        if not texts:
            texts = [{"type": "text", "text": ""}]
            parts += texts
        texts[-1]["text"] = change(texts[-1]["text"])
        last["content"] = parts
    messages = [*prompt.messages[:-1], last]
    identity = prompt_id(messages, prompt.answer, prompt.images, prompt.videos)
    return replace(prompt, id=identity, messages=messages, metadata=metadata)
