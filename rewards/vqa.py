"""Visual question answering: short answers by rule, the rest by a judge.

Words are compared in any case, without articles (a, an, the) and without punctuation but inside of numbers; hyphens are
blanks; the last word may be singular or plural (`apple`, `apples`), if the two forms are one word (`glass` and `glasses`
are not). Numbers are compared as numbers, yes and no as such, and neither ever goes to a judge.
"""

from __future__ import annotations

from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.items import ItemsError, read_json
from rlcs.rewards.short_answers import compare_any, compare_short, validate_short
from rlcs.rewards.text import check_flag, texts_of
from rlcs.rewards.verifier import Judge, Match, Verifier

_MAX_REFERENCES = 64


class Vqa(Verifier):
    """1 if the answer is one of the accepted references, else 0; other words than theirs are the judge's to decide.

    The reference is a text, or a JSON list of texts of which each is accepted.

    Args:
        extract: how the answer is found in a response.
        judge: decides on words that no rule settles.
        plurals: the last word may be singular or plural.

    Columns:
        answers: a list of further accepted references.
    """

    def __init__(
        self, extract: ExtractOptions | None = None, *, judge: Judge | None = None, plurals: bool = True
    ) -> None:
        super().__init__(extract, judge=judge)
        self._plurals = check_flag("plurals", plurals)

    def validate(self, answer: str, **columns: Any) -> str | None:
        try:
            references = accepted_references(answer, columns.get("answers"))
        except RewardError as error:
            return str(error)
        return next((reason for reason in map(validate_short, references) if reason), None)

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        references = accepted_references(reference, columns.get("answers"))
        return compare_any([compare_short(answer, one, plurals=self._plurals, domain="vqa") for one in references])


def accepted_references(answer: str, answers: Any = None) -> list[str]:
    """The different references of which each is accepted: a text, or the texts of a JSON list, and those of a column.

    Raises:
        RewardError: a list is empty, too long, or holds anything but texts and numbers.
    """
    found = [answer] if answer.strip() or answers is None else []
    if answer.lstrip().startswith("["):
        try:
            found = texts_of(read_json(answer, max_characters=20_000), "the reference list")
        except ItemsError:
            found = [answer]
    if answers is not None:
        found += texts_of(answers, "column answers")
    found = list(dict.fromkeys(found))
    if len(found) > _MAX_REFERENCES:
        raise RewardError(f"there are {len(found)} accepted references: {_MAX_REFERENCES} at most")
    return found
