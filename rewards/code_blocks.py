"""Find the program in a response: the marked answer, or the only code block of an answer without a box."""

from __future__ import annotations

from rlcs.response_format import BOX_CLOSE, BOX_OPEN
from rlcs.rewards.extract import ExtractOptions, Outcome, extract_answer

MAX_PROGRAM = 100_000
"""Longest program, in characters."""
_LANGUAGES = frozenset({"", "python", "python3", "py"})


def find_program(completion: str, options: ExtractOptions) -> tuple[str | None, str, str]:
    """The program in a response; or None, the reason, and the event to count."""
    extraction = extract_answer(completion, options)
    if extraction.ok:
        text, is_boxed = extraction.answer, True
    elif extraction.outcome is Outcome.NO_BOX and BOX_OPEN not in completion and BOX_CLOSE not in completion:
        text, is_boxed = extraction.segment, False
    else:
        return None, extraction.detail, f"format_{extraction.outcome}"
    blocks, rest = _code_blocks(text)
    if blocks is None:
        return None, "a code block is never closed", "format_unclosed_block"
    if len(blocks) > 1:
        return None, f"there are {len(blocks)} code blocks, not one", "format_several_blocks"
    if not blocks and not is_boxed:
        return None, "there is neither a box nor a code block", "format_no_box"
    if blocks and is_boxed and rest.strip():
        return None, "there is text beside the code block in the box", "format_text_outside"
    language, program = blocks[0] if blocks else ("", text)
    if language not in _LANGUAGES:
        return None, f"the code block is marked as {language[:20]!r}, not Python", "format_language"
    if len(program) > MAX_PROGRAM:
        return None, f"the program is longer than {MAX_PROGRAM} characters", "format_too_long"
    if not program.strip():
        return None, "the program is empty", "format_empty_box"
    return program, "", ""


def _code_blocks(text: str) -> tuple[list[tuple[str, str]] | None, str]:
    """The fenced blocks of a text as (language, code), None if one is not closed; and the text outside of them."""
    blocks: list[tuple[str, str]] = []
    outside: list[str] = []
    inside: list[str] | None = None
    fence = language = ""
    for line in text.split("\n"):
        stripped = line.strip()
        if inside is None and stripped.startswith(("```", "~~~")):
            fence = stripped[: len(stripped) - len(stripped.lstrip(stripped[0]))]
            language = stripped[len(fence) :].strip().split(" ")[0].casefold()
            inside = []
        elif inside is not None and stripped.startswith(fence) and not stripped.strip(fence[0]):
            blocks.append((language, "\n".join(inside) + "\n"))
            inside = None
        elif inside is not None:
            inside.append(line)
        else:
            outside.append(line)
    return (None if inside is not None else blocks), "\n".join(outside)
