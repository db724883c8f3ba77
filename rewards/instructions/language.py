"""Which language an answer is in, by the share of scripts and by the commonest words, without a model.

A language with a script of its own is known by the script alone: no more is asked of Thai than that it is Thai
letters. Languages that share a script are told apart by their commonest words and by letters that only they have. What
this cannot tell: languages outside of the table from those in it (Danish in Latin script has no words of the table's
and is refused as whatever was asked for, Galician may pass for Portuguese), a text that is shorter than a sentence, and
a text that mixes languages of one script where the language asked for is the commonest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial

_SCRIPT_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "cyrillic": ((0x400, 0x52F),),
    "arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF)),
    "hebrew": ((0x590, 0x5FF),),
    "devanagari": ((0x900, 0x97F),),
    "bengali": ((0x980, 0x9FF),),
    "gurmukhi": ((0xA00, 0xA7F),),
    "gujarati": ((0xA80, 0xAFF),),
    "tamil": ((0xB80, 0xBFF),),
    "telugu": ((0xC00, 0xC7F),),
    "kannada": ((0xC80, 0xCFF),),
    "malayalam": ((0xD00, 0xD7F),),
    "thai": ((0xE00, 0xE7F),),
    "hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)),
    "kana": ((0x3040, 0x30FF), (0x31F0, 0x31FF)),
    "han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
}
_PATTERNS = {
    script: re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges) + "]")
    for script, ranges in _SCRIPT_RANGES.items()
}
_SCRIPT_SHARE = 0.6
"""Of the letters that an answer must have in the script: names and terms of other scripts are met in any text."""
_KANA_SHARE = 0.1
"""Of the kana and han letters that make a text Japanese rather than Chinese."""
_FEW_WORDS = 6
"""A text of fewer words may lack every common word."""

_WORDS = {
    "en": "the of and to in is that it for was on are as with be this have from or by not but you at they his an i we",
    "de": "der die und das den von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat ich",
    "fr": "le la les des et est un une du dans que pour qui sur pas au plus par ce il avec ne sont vous nous je cette",
    "es": "el la los las y en del un una por con para su se es que al lo como más pero sus le ya muy este esta hay",
    "pt": "o os as e do da em um uma para com não que dos das no na por mais como mas ao ele foi são você isso também",
    "it": "il lo gli di che è e un una per non con del della sono nel alla dei delle si come più ma anche questo le da",
    "pl": "i w na się nie do to jest że z jak o ale po co tak za od przez są dla tego był oraz może który jego tym",
    "vi": "và của là có không được một cho các trong với này người những để khi đã về cũng như tôi bạn nhiều từ đó",
    "sw": "na ya wa kwa ni katika la za hii kuwa cha kama watu huo pia lakini hiyo yake sana au ili mtu wao hivyo",
    "fi": "ja on ei se että oli ovat hän mutta ole myös kun niin kuin joka mitä sen tämä voi minä sinä jos tai ovat",
    "ru": "и в не на что я с он как это по но они мы из у за же от так для вы было его только быть или все",
    "uk": "і в не на що я з він як це по але вони ми із у за та від так для ви було його тільки бути або всі є",
    "bg": "и в не на че аз с той като това по но те ние от за се да са ще или която който най има беше е му при",
    "ar": "في من على إلى أن هذا هذه التي الذي مع عن لا ما كان هو هي أو كل بين بعد قد لم ثم ذلك كما",
    "fa": "در از به که این را با است برای آن یک خود تا کرد بر هم نیز می شود های ها او ما اما یا بود شد",
    "ur": "کے کی ہے میں اور سے کا کو نے پر یہ ہیں کہ اس تھا ایک بھی نہیں وہ ہو کر لیے جو تو گیا",
    "hi": "के है में की और से का को यह हैं पर नहीं एक कि इस भी वह हो कर लिए जो तो ने था गया",
    "mr": "आहे आणि या च्या मध्ये नाही ते हे की तो ती होते आहेत करण्यासाठी पण एक किंवा त्या साठी होता झाले असे मी",
    "ne": "छ र को मा हो गर्न छन् यो भएको पनि लागि तर एक गरेको भने हुन्छ थियो यस ले हरू छैन हामी म गर्ने बाट",
}
"""The commonest words of languages that share a script."""
_MARKS = {
    "uk": "іїєґ",
    "ru": "ыэё",
    "fa": "پچژگ",
    "ur": "ٹڈڑےں",
    "vi": "ăơưđạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    "de": "ß",
    "pl": "łąęśźżćń",
    "es": "¿¡ñ",
    "pt": "ãõ",
}
"""Letters that, among the languages of its script, only this one has, or all but."""
_SHARED = {
    "latin": ("en", "de", "fr", "es", "pt", "it", "pl", "vi", "sw", "fi"),
    "cyrillic": ("ru", "uk", "bg"),
    "arabic": ("ar", "fa", "ur"),
    "devanagari": ("hi", "mr", "ne"),
}
_ALONE = {
    "bn": "bengali",
    "gu": "gujarati",
    "he": "hebrew",
    "kn": "kannada",
    "ko": "hangul",
    "ml": "malayalam",
    "pa": "gurmukhi",
    "ta": "tamil",
    "te": "telugu",
    "th": "thai",
}
_WORD_SETS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+(?:[\u0300-\u036f\u0900-\u0903\u093a-\u094f][^\W\d_]*)*")


def is_language(answer: str, language: str) -> bool:
    """Whether an answer is in a language of `LANGUAGES`, by its code."""
    return LANGUAGES[language](answer)


def response_language(answer: str, *, language: str) -> bool:
    return is_language(answer, language)


def script_counts(text: str) -> Counter[str]:
    """How many letters of each script a text has."""
    return Counter({script: len(pattern.findall(text)) for script, pattern in _PATTERNS.items()})


def _has_script(answer: str, script: str) -> bool:
    counts = script_counts(answer)
    return counts[script] > 0 and counts[script] >= _SCRIPT_SHARE * counts.total()


def _is_chinese(answer: str) -> bool:
    counts = script_counts(answer)
    letters = counts["han"] + counts["kana"]
    return _is_mostly(letters, counts) and counts["kana"] < _KANA_SHARE * letters


def _is_japanese(answer: str) -> bool:
    counts = script_counts(answer)
    letters = counts["han"] + counts["kana"]
    return _is_mostly(letters, counts) and counts["kana"] >= _KANA_SHARE * letters


def _is_mostly(letters: int, counts: Counter[str]) -> bool:
    return letters > 0 and letters >= _SCRIPT_SHARE * counts.total()


def _is_shared(answer: str, *, language: str, script: str) -> bool:
    """The script's, and no other language of the script has more of its common words and own letters in the answer."""
    if not _has_script(answer, script):
        return False
    words = Counter(_WORD.findall(answer.lower()))
    evidence = {
        other: sum(words[word] for word in _WORD_SETS[other])
        + sum(times for word, times in words.items() if any(mark in word for mark in _MARKS.get(other, "")))
        for other in _SHARED[script]
    }
    if not evidence[language]:
        return words.total() < _FEW_WORDS and not any(evidence.values())
    return evidence[language] >= max(evidence.values())


LANGUAGES: dict[str, Callable[[str], bool]] = {
    **{language: partial(_has_script, script=script) for language, script in _ALONE.items()},
    **{
        language: partial(_is_shared, language=language, script=script)
        for script, languages in _SHARED.items()
        for language in languages
    },
    **dict.fromkeys(("zh", "zh-cn", "zh-tw"), _is_chinese),
    "ja": _is_japanese,
}
"""Language codes (those of IFEval, and Chinese) to what tells whether a text is in the language."""
