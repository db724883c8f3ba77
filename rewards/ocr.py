"""OCR: how much of a text was read right, 1 - edit distance / longer length (GLM-4.1V-Thinking's measure).

The edit distance is Levenshtein's, by rapidfuzz. Its cost grows with the product of both lengths, so that longer texts
than a cap are not compared: 16,384 characters against as many take about 12 ms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from rlcs.errors import RewardError
from rlcs.rewards.base import Columns
from rlcs.rewards.extract import ExtractOptions, Outcome, extract_answer
from rlcs.rewards.literals import LiteralError, parse_json
from rlcs.rewards.text import check_flag, without_invisible
from rlcs.rewards.text import nfkc as to_nfkc
from rlcs.rewards.verifier import Judge, Match, Verifier
from rlcs.types import Score

MAX_CHARACTERS = 16_384
WHITESPACE = ("auto", "none", "collapse", "remove")

_CJK = (
    "\u2e80-\u2fdf\u3000-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff65\U00020000-\U0003ffff"
)
"""Chinese and Japanese characters and their punctuation; Korean writes blanks between words."""
_BLANK_BY_CJK = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")


def normalize_ocr(text: str, *, nfkc: bool = True, whitespace: str = "auto", ignore_case: bool = False) -> str:
    """A text as it is compared.

    Args:
        text: what was read.
        nfkc: full-width letters, ligatures and the like are their plain forms; zero-width and direction marks are left out.
        whitespace: `none`: every blank counts (but those around the whole); `collapse`: a run of blanks and line ends
            is one blank; `remove`: blanks do not count; `auto`: as collapse, and blanks beside a Chinese or Japanese
            character do not count.
        ignore_case: capitals are small letters.
    """
    if nfkc and not text.isascii():
        text = without_invisible(to_nfkc(text))
    if whitespace == "none":
        text = text.strip()
    elif whitespace == "remove":
        text = "".join(text.split())
    else:
        text = " ".join(text.split())
        if whitespace == "auto" and " " in text and not text.isascii():
            text = _BLANK_BY_CJK.sub("", text)
    return text.casefold() if ignore_case else text


def ocr_similarity(
    answer: str,
    reference: str,
    *,
    nfkc: bool = True,
    whitespace: str = "auto",
    ignore_case: bool = False,
    lower: float = 0.0,
    upper: float = 1.0,
    max_characters: int = MAX_CHARACTERS,
) -> float:
    """1 - edit distance / longer length, in [0, 1]; symmetric; 1 for two empty texts.

    Args:
        answer: what was read.
        reference: what there is to read.
        nfkc: see `normalize_ocr`, as `whitespace` and `ignore_case`.
        whitespace: see `normalize_ocr`.
        ignore_case: see `normalize_ocr`.
        lower: a similarity of this or less is 0.
        upper: a similarity of this or more is 1.
        max_characters: 0 if either text is longer, before or after normalisation.
    """
    if len(answer) > max_characters or len(reference) > max_characters:
        return 0.0
    one = normalize_ocr(answer, nfkc=nfkc, whitespace=whitespace, ignore_case=ignore_case)
    other = normalize_ocr(reference, nfkc=nfkc, whitespace=whitespace, ignore_case=ignore_case)
    return _compare(one, other, lower, upper, max_characters)


def ocr_similarities(
    answers: Sequence[str],
    references: Sequence[str],
    *,
    nfkc: bool = True,
    whitespace: str = "auto",
    ignore_case: bool = False,
    lower: float = 0.0,
    upper: float = 1.0,
    max_characters: int = MAX_CHARACTERS,
) -> NDArray[np.float64]:
    """`ocr_similarity` of each answer and the reference at its place, [n].

    A reference that comes several times, as it does for the responses to one prompt, is normalised once. Measured, a
    loop over rapidfuzz's distance is faster than its `process.cpdist` for lines of text.
    """

    def form(text: str) -> str | None:
        if len(text) > max_characters:
            return None
        return normalize_ocr(text, nfkc=nfkc, whitespace=whitespace, ignore_case=ignore_case)

    forms = {reference: form(reference) for reference in references}
    values = []
    for answer, reference in zip(answers, references, strict=True):
        one, other = form(answer), forms[reference]
        is_too_long = one is None or other is None
        values.append(0.0 if is_too_long else _compare(one or "", other or "", lower, upper, max_characters))
    return np.array(values, np.float64)


def _compare(one: str, other: str, lower: float, upper: float, max_characters: int) -> float:
    """The similarity of two normalised texts."""
    if one == other:
        return 1.0
    length = max(len(one), len(other))
    if length > max_characters:
        return 0.0
    similarity = 1.0 - Levenshtein.distance(one, other) / length
    return 0.0 if similarity <= lower else 1.0 if similarity >= upper else similarity


def _accepted_texts(reference: str) -> list[str]:
    """The reference, and the texts that it lists if it is a JSON list of texts."""
    if not reference.lstrip().startswith("["):
        return [reference]
    try:
        items = parse_json(reference)
    except LiteralError:
        return [reference]
    is_list = isinstance(items, list) and bool(items) and all(isinstance(item, str) and item for item in items)
    return [reference, *items] if is_list else [reference]


class Ocr(Verifier):
    """The similarity of the boxed text and the reference; it is right if the value is 1.

    Two empty texts are equal: a reference that is empty is met by an empty box, and by nothing else. Of a reference that is
    a JSON list of texts, as in OCRBench, the most similar one counts.

    Args:
        extract: how the answer is found in a response.
        judge: not asked.
        nfkc: full-width letters, ligatures and the like are their plain forms; zero-width and direction marks are left out.
        whitespace: `auto`, `none`, `collapse` or `remove` (`normalize_ocr`).
        ignore_case: capitals are small letters.
        lower: a similarity of this or less is 0.
        upper: a similarity of this or more is 1, and right.
        max_characters: a longer answer is worth 0, and a longer reference is refused.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        nfkc: bool = True,
        whitespace: str = "auto",
        ignore_case: bool = False,
        lower: float = 0.0,
        upper: float = 1.0,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        super().__init__(extract, judge=judge)
        if whitespace not in WHITESPACE:
            raise RewardError(f"option whitespace must be one of {', '.join(WHITESPACE)}, not {whitespace!r}")
        for bound in (lower, upper):
            if isinstance(bound, bool) or not isinstance(bound, int | float):
                raise RewardError(f"options lower and upper must be numbers, not {bound!r}")
        if not 0 <= lower < upper <= 1:
            raise RewardError(f"options lower and upper must be 0 <= lower < upper <= 1, not {lower} and {upper}")
        if isinstance(max_characters, bool) or not isinstance(max_characters, int) or max_characters < 1:
            raise RewardError(f"option max_characters must be a whole number above 0, not {max_characters!r}")
        self._form: dict[str, Any] = {
            "nfkc": check_flag("nfkc", nfkc),
            "whitespace": whitespace,
            "ignore_case": check_flag("ignore_case", ignore_case),
        }
        self._bounds: dict[str, Any] = {"lower": lower, "upper": upper, "max_characters": max_characters}
        self._max_characters = max_characters

    def validate(self, answer: str, **columns: Any) -> str | None:
        if max(len(answer), len(normalize_ocr(answer, **self._form))) > self._max_characters:
            return f"the reference text has more than {self._max_characters:,} characters (option max_characters)"
        return None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        return self.match_batch([answer], [reference], [columns])[0]

    def match_batch(self, answers: Sequence[str], references: Sequence[str], columns: Sequence[Columns]) -> list[Match]:
        accepted = [_accepted_texts(reference) for reference in references]
        repeated = [answer for answer, texts in zip(answers, accepted, strict=True) for _ in texts]
        listed = [text for texts in accepted for text in texts]
        found = iter(ocr_similarities(repeated, listed, **self._form, **self._bounds).tolist())
        values: list[float] = [max(next(found) for _ in texts) for texts in accepted]
        return [
            Match(value, f"{value:.1%} of the text is right")
            if len(answer) <= self._max_characters
            else Match(0.0, f"the answer is longer than {self._max_characters:,} characters")
            for value, answer in zip(values, answers, strict=True)
        ]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Verifier.score_batch`; the empty box, a fault elsewhere, is right for an empty reference."""
        is_empty = [
            not answer.strip() and extract_answer(completion, self._extract).outcome is Outcome.EMPTY_BOX
            for completion, answer in zip(completions, answers, strict=True)
        ]
        others = [index for index, empty in enumerate(is_empty) if not empty]
        scores: list[Score | None] = [Score(1.0, correct=True, detail="both texts are empty")] * len(completions)
        scored = super().score_batch(
            [completions[index] for index in others],
            [answers[index] for index in others],
            [columns[index] for index in others],
        )
        for index, score in zip(others, scored, strict=True):
            scores[index] = score
        return scores
