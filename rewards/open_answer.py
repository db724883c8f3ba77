"""What a judge or a reward model reads of an open-ended response: the answer segment, if the response keeps the format.

The paper (GLM-4.1V-Thinking, arXiv 2507.01006, section 5) gives the minimum to open answers that hold a box: the markers
are for answers that a rule compares, and a policy that finds them rewarded everywhere puts them everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlcs.response_format import BOX_CLOSE, BOX_OPEN
from rlcs.rewards.extract import ExtractOptions, Outcome, extract_answer

_BROKEN = (
    Outcome.EMPTY_RESPONSE,
    Outcome.UNCLOSED_THINKING,
    Outcome.UNCLOSED_ANSWER,
    Outcome.MISPLACED_MARKER,
    Outcome.TEXT_OUTSIDE,
)
"""Outcomes that leave no answer segment; all others are about the box, which an open answer does not need."""


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """The answer segment of a response, or why it is worth nothing."""

    text: str = ""
    """Stripped; empty if there is a problem."""
    problem: str = ""
    """What is wrong, for a person; empty if nothing is."""
    event: str = ""
    """The problem's name in the metrics."""


def read_open_answer(completion: str, options: ExtractOptions) -> OpenAnswer:
    """The answer segment of an open-ended response. Never raises."""
    extraction = extract_answer(completion, options)
    if extraction.outcome in _BROKEN:
        return OpenAnswer(problem=extraction.detail, event=f"format_{extraction.outcome}")
    text = extraction.segment.strip()
    if not text:
        return OpenAnswer(problem="the answer is empty", event="format_empty_answer")
    if BOX_OPEN in text or BOX_CLOSE in text:
        return OpenAnswer(problem="box markers in an open-ended answer", event="format_box_in_open_answer")
    return OpenAnswer(text)
