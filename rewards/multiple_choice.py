"""Multiple choice: the one label, or the very set of labels, that the reference names."""

from __future__ import annotations

from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.choices import read_choices, read_labels
from rlcs.rewards.verifier import Match, Verifier


class MultipleChoice(Verifier):
    """1 if the answer names the choices of the reference and no other, else 0. The judge is not asked.

    Columns:
        choices: the texts of the choices: a list, labelled from A, or a mapping of labels to texts, or JSON of one of
            them. With it, the text of a choice is as good as its label, and a label beside another choice's text is
            wrong.
    """

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            choices = read_choices(columns.get("choices"))
        except RewardError as error:
            return str(error)
        if read_labels(answer, choices):
            return None
        known = f" among {', '.join(choices)}" if choices else ""
        return (
            f"the reference {answer[:60]!r} names no choice{known}: give its label, such as B, or labels, such as A, C"
        )

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        choices = read_choices(columns.get("choices"))
        expected = read_labels(reference, choices)
        found = read_labels(answer, choices)
        if not expected or not found:
            return Match(0.0, "the answer names no choice, or more than it may", event="unreadable_answer")
        return Match(float(found == expected), f"the answer names {', '.join(sorted(found))}")
