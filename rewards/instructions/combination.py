"""Instructions about the answer as a whole: two answers, the request repeated."""

from __future__ import annotations


def two_responses(answer: str) -> bool:
    """Two different answers, parted by `******`."""
    answers = answer.split("******")
    if any(not text.strip() for text in answers[1:-1]):
        return False
    found = [text.strip() for text in answers if text.strip()]
    return len(found) == 2 and found[0] != found[1]


def repeat_prompt(answer: str, *, prompt_to_repeat: str) -> bool:
    """The answer starts with the request, case aside, and something follows."""
    text, request = answer.strip().lower(), prompt_to_repeat.lower()
    return text.startswith(request) and bool(text[len(request) :].strip())
