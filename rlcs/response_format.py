"""The response format of GLM-4.1V-Thinking (arXiv 2507.01006, section 4): thinking, then an answer with one box."""

from __future__ import annotations

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
BOX_OPEN, BOX_CLOSE = "<|begin_of_box|>", "<|end_of_box|>"

FORMAT_TOKENS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE, BOX_OPEN, BOX_CLOSE)
"""Each is one special token of a policy that RLCS makes."""


def render_response(thinking: str, answer: str) -> str:
    """The text of a response that thinks `thinking` and boxes `answer`."""
    return f"{THINK_OPEN}{thinking}{THINK_CLOSE}{ANSWER_OPEN}{BOX_OPEN}{answer}{BOX_CLOSE}{ANSWER_CLOSE}"
