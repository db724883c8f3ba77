"""Instruction following that rules can check: IFEval's 25 kinds (arXiv 2311.07911), in strict and loose modes.

The answer is open-ended: what is checked is the answer segment, and a box marker in it gives 0, as the paper has it
(GLM-4.1V-Thinking, arXiv 2507.01006, section 5). The kinds and their arguments are in `rlcs.rewards.instructions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

from rlcs.errors import RewardError
from rlcs.rewards.base import Reward
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.instructions.registry import Instruction as Rule
from rlcs.rewards.instructions.registry import InstructionError, read_instructions
from rlcs.rewards.open_answer import read_open_answer
from rlcs.types import Score

MAX_ANSWER = 100_000
"""Longest answer, in characters."""

Mode = Literal["share", "all"]


class Instruction(Reward):
    """How many of a prompt's instructions an answer follows.

    The instructions are in the columns `instruction_id_list` and `kwargs`, as in IFEval's own dataset, or in the reference
    answer as a JSON list of `{"id": ..., "kwargs": {...}}`. Each is a named part of the score.

    Args:
        extract: how the answer segment is found in a response.
        mode: `share`: the share of instructions followed; `all`: 1 if all are, else 0.
        loose: also try the answer without its first line, its last line, both, and without asterisks, as IFEval's loose
            accuracy does; an instruction is followed if one of these follows it.

    Raises:
        RewardError: an option has no such value.
    """

    def __init__(self, extract: ExtractOptions | None = None, *, mode: Mode = "share", loose: bool = False) -> None:
        if mode not in get_args(Mode):
            raise RewardError(f"reward 'instruction': mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        if not isinstance(loose, bool):
            raise RewardError(f"reward 'instruction': loose must be true or false, not {loose!r}")
        # Other ways of marking an answer are of no use here: there is nothing to mark.
        self._extract = ExtractOptions(thinking_is_open=extract is not None and extract.thinking_is_open)
        self._mode = mode
        self._loose = loose

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            read_instructions(answer, columns)
        except InstructionError as error:
            return str(error)
        return None

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        found = read_open_answer(completion, self._extract)
        segment = found.text
        if found.problem:
            self.count(found.event)
            return Score(0.0, correct=False, detail=found.problem)
        if len(segment) > MAX_ANSWER:
            self.count("format_too_long")
            return Score(0.0, correct=False, detail=f"the answer is longer than {MAX_ANSWER} characters")
        try:
            rules = read_instructions(answer, columns)
        except InstructionError as error:
            self.count("bad_references")
            return Score(0.0, correct=False, detail=f"the instructions cannot be checked: {error}")
        parts = self._check(segment, rules)
        followed = sum(parts.values())
        correct = followed == len(parts)
        value = followed / len(parts) if self._mode == "share" else float(correct)
        missed = ", ".join(name for name, part in parts.items() if not part)
        return Score(
            value, correct=correct, parts=parts, detail=f"not followed: {missed}" if missed else "all followed"
        )

    def _check(self, segment: str, rules: list[Rule]) -> dict[str, float]:
        """1 or 0 for each instruction; the second of one kind is `name#2`."""
        variants = list(_loose_variants(segment)) if self._loose else [segment]
        parts: dict[str, float] = {}
        for rule in rules:
            name, number = rule.id, 1
            while name in parts:
                number += 1
                name = f"{rule.id}#{number}"
            parts[name] = float(any(rule.is_followed(variant) for variant in variants))
        return parts


def _loose_variants(answer: str) -> Iterator[str]:
    """The answer, and the answer without an introduction, a closing line or both, each with and without asterisks."""
    lines = answer.split("\n")
    for chosen in (lines, lines[1:], lines[:-1], lines[1:-1]):
        text = "\n".join(chosen).strip()
        for variant in (text, text.replace("*", "")):
            if variant.strip():
                yield variant
