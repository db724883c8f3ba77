from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.rewards.case_files import builtin_cases
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.instruction import Instruction
from rlcs.rewards.instructions.language import LANGUAGES, is_language
from rlcs.rewards.instructions.length import count_sentences
from rlcs.rewards.instructions.registry import INSTRUCTIONS, InstructionError, read_instructions
from rlcs.rewards.loading import load_reward

EXAMPLES: dict[str, dict[str, Any]] = {
    "keywords:existence": {"keywords": ["sun", "sea"]},
    "keywords:frequency": {"keyword": "sun", "frequency": 2, "relation": "at least"},
    "keywords:forbidden_words": {"forbidden_words": ["rain", "a*b("]},
    "keywords:letter_frequency": {"letter": "q", "let_frequency": 3, "let_relation": "less than"},
    "language:response_language": {"language": "ur"},
    "length_constraints:number_sentences": {"num_sentences": 3, "relation": "at least"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "length_constraints:number_words": {"num_words": 3, "relation": "less than"},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "sun"},
    "detectable_content:number_placeholders": {"num_placeholders": 2},
    "detectable_content:postscript": {"postscript_marker": "P.S."},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
    "detectable_format:constrained_response": {},
    "detectable_format:number_highlighted_sections": {"num_highlights": 2},
    "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": 2},
    "detectable_format:json_format": {},
    "detectable_format:title": {},
    "combination:two_responses": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "Write."},
    "startend:end_checker": {"end_phrase": "Done."},
    "startend:quotation": {},
    "change_case:capital_word_frequency": {"capital_frequency": 2, "capital_relation": "at least"},
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "punctuation:no_comma": {},
}
ALL = json.dumps([{"id": name, "kwargs": kwargs} for name, kwargs in EXAMPLES.items()])
NO_COMMA = json.dumps([{"id": "punctuation:no_comma", "kwargs": {}}])

SENTENCES = {
    "ar": "في البداية كان الرجل يعيش مع عائلته في هذا البيت الذي كان على النهر",
    "bg": "Кучето е в градината и не иска да се прибира, защото ще вали.",
    "bn": "আজ আবহাওয়া খুব ভালো।",
    "de": "Die Sonne scheint und wir gehen mit dem Hund in den Park.",
    "en": "The sun is out and we are going to the park with the dog.",
    "es": "El sol brilla y vamos con el perro al parque de la ciudad.",
    "fa": "این کتاب را از یک دوست گرفتم که در تهران است",
    "fi": "Aurinko paistaa ja me olemme puistossa, mutta koira ei ole siellä.",
    "fr": "Le soleil brille et nous allons au parc avec le chien dans une heure.",
    "gu": "આજે હવામાન ખૂબ સારું છે.",
    "he": "מזג האוויר היום טוב מאוד",
    "hi": "आज मौसम बहुत अच्छा है और हम पार्क में जा रहे हैं।",
    "it": "Il sole splende e noi andiamo al parco con il cane per una passeggiata.",
    "ja": "今日は天気がいいので、公園に行きます。",
    "kn": "ಇಂದು ಹವಾಮಾನ ತುಂಬಾ ಚೆನ್ನಾಗಿದೆ.",
    "ko": "오늘은 날씨가 좋아서 공원에 갑니다.",
    "ml": "ഇന്ന് കാലാവസ്ഥ വളരെ നല്ലതാണ്.",
    "mr": "आज हवामान खूप चांगले आहे आणि आम्ही बागेत जात आहोत.",
    "ne": "आज मौसम धेरै राम्रो छ र हामी पार्कमा जाने हो।",
    "pa": "ਅੱਜ ਮੌਸਮ ਬਹੁਤ ਵਧੀਆ ਹੈ।",
    "pl": "Słońce świeci i idziemy z psem do parku, który jest w mieście.",
    "pt": "O sol brilha e nós não vamos com o cão ao parque, mas para uma praia.",
    "ru": "Солнце светит, и мы идём с собакой в парк, но это не всё.",
    "sw": "Jua linawaka na sisi tunakwenda katika bustani kwa sababu ni siku ya furaha.",
    "ta": "இன்று வானிலை மிகவும் நன்றாக உள்ளது.",
    "te": "ఈ రోజు వాతావరణం చాలా బాగుంది.",
    "th": "วันนี้อากาศดีมาก",
    "uk": "Сонце світить, і ми йдемо з собакою у парк, але це ще не все.",
    "ur": "آج موسم بہت اچھا ہے اور ہم پارک میں جا رہے ہیں",
    "vi": "Hôm nay trời đẹp và tôi đi với con chó của tôi.",
    "zh": "今天天气很好，我们去公园。",
}


def score(answer: str, reference: str, **options: Any) -> float:
    found = Instruction(**options).score(f"<think></think><answer>{answer}</answer>", reference)
    assert found is not None
    return found.value


def test_every_kind_of_ifeval_has_a_case_that_follows_it_and_one_that_does_not() -> None:
    for correct in (True, False):
        seen = {name for case in builtin_cases("instruction") if case.correct is correct for name in EXAMPLES
                if name in case.answer}  # fmt: skip
        assert seen == set(INSTRUCTIONS) == set(EXAMPLES)


def test_the_reward_is_loaded_by_name() -> None:
    reward = load_reward("instruction", options={"mode": "all", "loose": True})
    assert reward.name == "instruction"


def test_parts_are_named_and_the_share_is_the_value() -> None:
    rules = [
        {"id": "punctuation:no_comma", "kwargs": {}},
        {"id": "keywords:existence", "kwargs": {"keywords": ["sun"]}},
        {"id": "keywords:existence", "kwargs": {"keywords": ["moon"]}},
    ]
    found = Instruction().score("The sun", json.dumps(rules))
    assert found is not None
    assert found.parts == {"punctuation:no_comma": 1.0, "keywords:existence": 1.0, "keywords:existence#2": 0.0}
    assert found.value == pytest.approx(2 / 3)
    assert found.correct is False
    assert "keywords:existence#2" in found.detail
    assert score("The sun", json.dumps(rules), mode="all") == 0.0


def test_loose_mode_forgives_an_introduction_a_closing_line_and_asterisks() -> None:
    rule = json.dumps([{"id": "startend:quotation", "kwargs": {}}])
    answer = 'Sure, here it is:\n"To be *or* not."\nI hope it helps!'
    assert score(answer, rule) == 0.0
    assert score(answer, rule, loose=True) == 1.0


def test_the_thinking_that_the_template_opened_is_not_part_of_the_answer() -> None:
    reward = Instruction(ExtractOptions(thinking_is_open=True))
    found = reward.score("well, well</think>No commas", NO_COMMA)
    assert found is not None
    assert found.value == 1.0


@pytest.mark.parametrize("name", EXAMPLES)
def test_arguments_may_be_json_and_have_gaps(name: str) -> None:
    gaps = {"prompt_to_repeat": None, "num_words": None, "language": None} | EXAMPLES[name]
    columns = {"instruction_id_list": [name], "kwargs": [gaps]}
    assert Instruction().validate("-", **columns) is None
    assert Instruction().validate("-", instruction_id_list=[name], kwargs=[json.dumps(gaps)]) is None
    assert Instruction().validate(json.dumps({"instruction_id_list": [name], "kwargs": [gaps]})) is None


@pytest.mark.parametrize("name", [name for name, kwargs in EXAMPLES.items() if kwargs])
def test_a_missing_argument_is_found_before_training(name: str) -> None:
    for argument in EXAMPLES[name]:
        kwargs = {key: value for key, value in EXAMPLES[name].items() if key != argument}
        with pytest.raises(InstructionError, match=argument):
            read_instructions(json.dumps([{"id": name, "kwargs": kwargs}]), {})


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("42", "no JSON list"),
        ("[]", "1 to 100"),
        ("not json", "no column `instruction_id_list`"),
        ("[" * 100_000, "no JSON"),
        ('[{"id": "punctuation:no_coma"}]', "did you mean 'punctuation:no_comma'"),
        ('[{"id": 3}]', "there is no instruction 3"),
        ('[{"id": "punctuation:no_comma", "kwargs": {"x": 1}}]', "no argument 'x'"),
        ('[{"id": "punctuation:no_comma", "kwargs": [1]}]', "must be an object"),
        ('[{"id": "keywords:existence", "kwargs": {"keywords": "sun"}}]', "list of 1 to"),
        ('[{"id": "keywords:existence", "kwargs": {"keywords": [" "]}}]', "must be a text"),
        (
            '[{"id": "keywords:letter_frequency", "kwargs": {"letter": "ab", "let_frequency": 1}}]',
            "one letter",
        ),
        ('[{"id": "length_constraints:number_words", "kwargs": {"num_words": 2.5, "relation": "at least"}}]', "whole"),
        ('[{"id": "length_constraints:number_words", "kwargs": {"num_words": NaN, "relation": "at least"}}]', "whole"),
        ('[{"id": "length_constraints:number_words", "kwargs": {"num_words": Infinity, "relation": "at least"}}]', ""),
        ('[{"id": "length_constraints:number_words", "kwargs": {"num_words": true, "relation": "at least"}}]', "whole"),
        ('[{"id": "length_constraints:number_words", "kwargs": {"num_words": -1, "relation": "at least"}}]', "between"),
        ('[{"id": "length_constraints:number_words", "kwargs": {"num_words": 1, "relation": "exactly"}}]', "at least"),
        ('[{"id": "language:response_language", "kwargs": {"language": "tlh"}}]', "must be one of"),
        (
            json.dumps(
                [
                    {
                        "id": "length_constraints:nth_paragraph_first_word",
                        "kwargs": {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"},
                    }
                ]
            ),
            "greater",
        ),
    ],
)  # fmt: skip
def test_unusable_instructions_are_refused_with_a_reason(reference: str, reason: str) -> None:
    found = Instruction().validate(reference)
    assert found is not None
    assert reason in found
    assert "\n" not in found
    assert score("anything", reference) == 0.0  # and nothing is raised should one slip through


@pytest.mark.parametrize(
    "columns",
    [
        {"instruction_id_list": "punctuation:no_comma"},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["{"]},
    ],
)
def test_columns_of_the_wrong_shape_are_refused(columns: dict[str, Any]) -> None:
    assert Instruction().validate("-", **columns) is not None


@pytest.mark.parametrize("options", [{"mode": "most"}, {"loose": "yes"}])
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError):
        Instruction(**options)


@pytest.mark.parametrize("asked", SENTENCES)
def test_a_sentence_is_in_its_own_language_and_in_no_other(asked: str) -> None:
    for language, sentence in SENTENCES.items():
        assert is_language(sentence, asked) is (language == asked), (language, asked)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("...", 0),
        ("No mark at the end", 1),
        ("He said 'Stop!' and left. Then silence.", 3),
        ("It costs 3.50 dollars.", 1),
        ("See e.g. the map. Or ask.", 2),
        ("1. Wash it.\n2. Dry it.", 2),
        ("今天很好。我们走吧！", 2),
        ("Really?! Yes.", 2),
    ],
)
def test_sentences_are_counted(text: str, number: int) -> None:
    assert count_sentences(text) == number


@given(st.text(max_size=300), st.booleans())
def test_no_answer_raises_and_every_part_is_zero_or_one(answer: str, loose: bool) -> None:
    found = Instruction(loose=loose).score(answer, ALL)
    assert found is not None
    assert 0.0 <= found.value <= 1.0
    assert set(found.parts.values()) <= {0.0, 1.0}


@given(st.text(max_size=200))
def test_loose_follows_whatever_strict_follows(answer: str) -> None:
    strict, loose = Instruction().score(answer, ALL), Instruction(loose=True).score(answer, ALL)
    assert strict is not None
    assert loose is not None
    assert all(loose.parts[name] >= part for name, part in strict.parts.items())


@given(st.text(max_size=200), st.integers(0, 50))
def test_less_than_and_at_least_are_opposites(answer: str, bound: int) -> None:
    rules = [
        {"id": "length_constraints:number_words", "kwargs": {"num_words": bound, "relation": relation}}
        for relation in ("less than", "at least")
    ]
    found = Instruction().score(answer, json.dumps(rules))
    assert found is not None
    assert not found.parts or sum(found.parts.values()) == 1.0


@given(st.text(max_size=100), st.sampled_from(sorted(LANGUAGES)))
def test_language_never_raises(text: str, language: str) -> None:
    assert is_language(text, language) in (True, False)


@pytest.mark.parametrize(
    "piece",
    ["[", "*", "**", "* ", "<<", "\n", " ", "-", "p.", "p. ", "Section", "Section ", "a.", "'", "\n\n", "{", "a", "1",
     "\u202e", "Dr. ", "***", "x***", "\ud800", ". . "],
)  # fmt: skip
def test_a_hundred_thousand_hostile_characters_are_no_trouble(piece: str) -> None:
    # The work is linear; were it not, this would not end.
    answer = piece * (99_000 // len(piece))
    assert 0.0 <= score(f"x{answer}", ALL, loose=True) <= 1.0


def test_an_endless_answer_is_refused() -> None:
    assert score("a " * 200_000, NO_COMMA) == 0.0
