"""The table of instructions, and reading them from a dataset's row. Names and arguments are those of Google's IFEval."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcs.rewards.instructions import arguments as read
from rlcs.rewards.instructions import case, combination, formats, keywords, language, length

MAX_INSTRUCTIONS = 100
_MAX_REFERENCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of instruction."""

    check: Callable[..., bool]
    """Called with the answer and the arguments by name."""
    arguments: Mapping[str, Callable[[Any], Any]]
    """Name of each argument, all needed, to its reader."""


INSTRUCTIONS: dict[str, Kind] = {
    "keywords:existence": Kind(keywords.existence, {"keywords": read.texts}),
    "keywords:frequency": Kind(
        keywords.frequency, {"keyword": read.text, "frequency": read.count, "relation": read.relation}
    ),
    "keywords:forbidden_words": Kind(keywords.forbidden_words, {"forbidden_words": read.texts}),
    "keywords:letter_frequency": Kind(
        keywords.letter_frequency,
        {"letter": read.letter, "let_frequency": read.count, "let_relation": read.relation},
    ),
    "language:response_language": Kind(language.response_language, {"language": read.language}),
    "length_constraints:number_sentences": Kind(
        length.number_sentences, {"num_sentences": read.count, "relation": read.relation}
    ),
    "length_constraints:number_paragraphs": Kind(length.number_paragraphs, {"num_paragraphs": read.position}),
    "length_constraints:number_words": Kind(length.number_words, {"num_words": read.count, "relation": read.relation}),
    "length_constraints:nth_paragraph_first_word": Kind(
        length.nth_paragraph_first_word,
        {"num_paragraphs": read.position, "nth_paragraph": read.position, "first_word": read.text},
    ),
    "detectable_content:number_placeholders": Kind(formats.number_placeholders, {"num_placeholders": read.count}),
    "detectable_content:postscript": Kind(formats.postscript, {"postscript_marker": read.text}),
    "detectable_format:number_bullet_lists": Kind(formats.number_bullet_lists, {"num_bullets": read.count}),
    "detectable_format:constrained_response": Kind(formats.constrained_response, {}),
    "detectable_format:number_highlighted_sections": Kind(
        formats.number_highlighted_sections, {"num_highlights": read.count}
    ),
    "detectable_format:multiple_sections": Kind(
        formats.multiple_sections, {"section_spliter": read.text, "num_sections": read.count}
    ),
    "detectable_format:json_format": Kind(formats.json_format, {}),
    "detectable_format:title": Kind(formats.title, {}),
    "combination:two_responses": Kind(combination.two_responses, {}),
    "combination:repeat_prompt": Kind(combination.repeat_prompt, {"prompt_to_repeat": read.text}),
    "startend:end_checker": Kind(formats.end_checker, {"end_phrase": read.text}),
    "startend:quotation": Kind(formats.quotation, {}),
    "change_case:capital_word_frequency": Kind(
        case.capital_word_frequency, {"capital_frequency": read.count, "capital_relation": read.relation}
    ),
    "change_case:english_capital": Kind(case.english_capital, {}),
    "change_case:english_lowercase": Kind(case.english_lowercase, {}),
    "punctuation:no_comma": Kind(keywords.no_comma, {}),
}


class InstructionError(ValueError):
    """A row's instructions cannot be checked."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a prompt."""

    id: str
    arguments: Mapping[str, Any]

    def is_followed(self, answer: str) -> bool:
        """Whether an answer follows it."""
        return INSTRUCTIONS[self.id].check(answer, **self.arguments)


def read_instructions(reference: str, columns: Mapping[str, Any]) -> list[Instruction]:
    """The instructions of a row: of its columns `instruction_id_list` and `kwargs`, else of the reference answer.

    The reference is JSON: a list of `{"id": ..., "kwargs": {...}}`, or an object with the two columns' names as keys.

    Raises:
        InstructionError: there are none, or one is of no known kind, or its arguments are not right.
    """
    if columns.get("instruction_id_list") is not None:
        return _of_lists(columns["instruction_id_list"], columns.get("kwargs"))
    if len(reference) > _MAX_REFERENCE:
        raise InstructionError(f"the reference is longer than {_MAX_REFERENCE} characters")
    try:
        form = json.loads(reference)
    except (ValueError, RecursionError):
        raise InstructionError(
            "there is no column `instruction_id_list`, and the reference is no JSON list of {id, kwargs}"
        ) from None
    if isinstance(form, dict) and "instruction_id_list" in form:
        return _of_lists(form["instruction_id_list"], form.get("kwargs"))
    if not isinstance(form, list) or not all(isinstance(row, dict) and "id" in row for row in form):
        raise InstructionError("the reference is no JSON list of {id, kwargs}")
    return _of_lists([row["id"] for row in form], [row.get("kwargs") for row in form])


def _of_lists(ids: Any, kwargs: Any) -> list[Instruction]:
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not 0 < len(ids) <= MAX_INSTRUCTIONS:
        raise InstructionError(f"`instruction_id_list` must be a list of 1 to {MAX_INSTRUCTIONS} names")
    kwargs = [None] * len(ids) if kwargs is None else kwargs
    if not isinstance(kwargs, Sequence) or isinstance(kwargs, str) or len(kwargs) != len(ids):
        raise InstructionError("`kwargs` must be a list as long as `instruction_id_list`")
    return [_instruction(name, values) for name, values in zip(ids, kwargs, strict=True)]


def _instruction(name: Any, values: Any) -> Instruction:
    kind = INSTRUCTIONS.get(name) if isinstance(name, str) else None
    if kind is None:
        near = difflib.get_close_matches(str(name)[:100], INSTRUCTIONS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise InstructionError(f"there is no instruction {name!r:.80}{hint}")
    if isinstance(values, str):
        try:
            values = json.loads(values)
        except (ValueError, RecursionError):
            raise InstructionError(f"the kwargs of {name} are no JSON") from None
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise InstructionError(f"the kwargs of {name} must be an object")
    # Tables give every row the arguments of all kinds, None where they are another's.
    given = {key: value for key, value in values.items() if value is not None}
    for key in given:
        if key not in kind.arguments:
            raise InstructionError(f"{name} has no argument {key!r:.40}")
    found = {}
    for key, reader in kind.arguments.items():
        if key not in given:
            raise InstructionError(f"{name} needs the argument {key}")
        try:
            found[key] = reader(given[key])
        except (ValueError, OverflowError) as error:
            raise InstructionError(f"{key} of {name} {error}") from None
    if name == "length_constraints:nth_paragraph_first_word" and found["nth_paragraph"] > found["num_paragraphs"]:
        raise InstructionError(f"nth_paragraph of {name} is greater than num_paragraphs")
    return Instruction(name, found)
