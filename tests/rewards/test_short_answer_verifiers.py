"""What holds for every verifier of short text answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.response_format import render_response
from rlcs.rewards.chart import Chart
from rlcs.rewards.counting import Counting
from rlcs.rewards.logic import Logic
from rlcs.rewards.long_document import LongDocument
from rlcs.rewards.multiple_choice import MultipleChoice
from rlcs.rewards.ocr import Ocr
from rlcs.rewards.spatial import Spatial
from rlcs.rewards.verifier import Verifier
from rlcs.rewards.vqa import Vqa

_VERIFIERS: list[Verifier] = [Chart(), Counting(), Logic(), LongDocument(), MultipleChoice(), Ocr(), Spatial(), Vqa()]
_REFERENCES = {
    "chart": "Asia: 50, Europe: 70", "counting": "3", "logic": '{"A": {"b": 1}}', "long_document": "['a', 'b']",
    "multiple_choice": "A, C", "ocr": "hello", "spatial": "upper left", "vqa": "red",
}  # fmt: skip
_PIECES = ["a", "B", "1", "2,000", "½", "三", "十", "万", "%", "$", "left", "or", " ", ",", ";", ":", "=", ">",
           "[", "]", "{", "}", '"',
           "'", "\n", "|", ".", "-", "+", "the", "yes", "nan", "²", "\u202e",
           "\ud800", "ﬁ", "Ａ", "\\text{", "}", "**"]  # fmt: skip
_ANSWERS = st.lists(st.sampled_from(_PIECES), max_size=14).map("".join) | st.text(max_size=40)

every_verifier = pytest.mark.parametrize("verifier", _VERIFIERS, ids=lambda verifier: verifier.name)


@every_verifier
@given(text=_ANSWERS.filter(str.strip))
def test_a_reference_that_is_accepted_is_right_as_an_answer(verifier: Verifier, text: str) -> None:
    if isinstance(verifier, Vqa) and text.lstrip().startswith("["):
        return  # a list of accepted references is no answer
    match = verifier.match(text.strip(), text)
    expected = float(verifier.validate(text) is None)
    assert match.value == expected, match.detail


@every_verifier
@given(answer=_ANSWERS, reference=_ANSWERS)
def test_any_texts_have_a_value_and_a_reason(verifier: Verifier, answer: str, reference: str) -> None:
    if verifier.validate(reference) is None and answer.strip():
        match = verifier.match(answer.strip(), reference)
        assert 0.0 <= match.value <= 1.0
        assert match.detail and "\n" not in match.detail


@every_verifier
@pytest.mark.parametrize(
    "answer",
    ["[" * 100_000, "{" * 100_000, '{"a":' * 20_000, "9" * 100_000, "a," * 50_000, "a:1," * 25_000, "三" * 100_000, "A " * 50_000,
     "left " * 20_000, "\\text{" * 20_000, "'" * 100_000, "\n" * 50_000 + "a", "1e" + "9" * 50_000, "\u202e" * 100_000 + "x",
     "\ud800" * 1000, "nan", "inf", "-inf", "NaN", "1e999999999", "٣٣", "__import__('os').system('true')", "1/0", "2**10**10"],
    ids=lambda answer: ascii(answer[:12]),
)  # fmt: skip
def test_hostile_answers_are_worth_nothing_with_a_reason(verifier: Verifier, answer: str) -> None:
    score = verifier.score(render_response("", answer), _REFERENCES[verifier.name])
    assert score is not None and score.detail
    assert score.value < 0.01 or verifier.name == "ocr"


@every_verifier
def test_a_missing_box_is_worth_nothing(verifier: Verifier) -> None:
    reference = _REFERENCES[verifier.name]
    score = verifier.score(reference, reference)
    assert score is not None and score.value == 0.0 and "no box" in score.detail
