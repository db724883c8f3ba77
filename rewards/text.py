r"""Normal forms of short text answers, shared by the verifiers of labels, choices, relations and truth values.

Everything here takes time linear in the length of the text and interprets nothing. `plain` keeps what a reader sees and
drops how it is encoded; `same_words` forgives what a short answer may vary in: case, articles, punctuation, a plural.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rlcs.errors import RewardError

MAX_CHARACTERS = 2_000
"""A longer text is no short answer."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_MAX_LIGATURES = 16
"""Of the one character that becomes 18; no other becomes more than eight."""
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_ALIKE = str.maketrans(
    {"‘": "'", "’": "'", "′": "'", "“": '"', "”": '"', "″": '"', "–": "-", "—": "-", "‐": "-", "‑": "-", "−": "-",
     "、": ",", "。": ".", "【": "[", "】": "]", "〔": "(", "〕": ")", "⁄": "/"}
)  # fmt: skip
_PAIRS = (
    ("**", "**"), ("__", "__"), ("$$", "$$"), ("$", "$"), ("`", "`"), ('"', '"'), ("'", "'"), ("*", "*"), ("「", "」"),
    ("『", "』"), ("\\(", "\\)"), ("\\[", "\\]"),
)  # fmt: skip
_FENCE = re.compile(r"```(?:json|text|txt|plaintext|markdown|latex)?\s(.*)```", re.DOTALL | re.IGNORECASE)
_COMMAND = re.compile(r"\\(?:text|textrm|textbf|textit|textsf|mathrm|mathbf|mathit|mathsf|mbox|f?boxed)\s*\{")
_PUNCTUATION = re.compile(r"(?<!\d)[.,]|[.,](?!\d)|[\"!;:()\[\]{}]|(?<![^\W\d_])'|'(?![^\W\d_])")
_HYPHENS = re.compile(r"(?<=[^\W\d_])[-/_](?=[^\W\d_])")
_INITIALS = re.compile(r"(?<![\w.])[^\W\d_](?:\.[^\W\d_]){2,}\.?(?!\w)")
_MONTHS = frozenset("january february march april may june july august september october november december".split())
_LABEL_RANGE = re.compile(r"(?<=\d)\s?(?:-|\bto\b|至|到)\s?(?=\d)")
_ARTICLES = re.compile(r"(?<![\w'\"-])(?:an?|the) (?=\w)(?!(?:and|or)\b)")

_PLURAL_ENDINGS = (("", "s"), ("", "es"), ("y", "ies"), ("f", "ves"), ("fe", "ves"))
_IRREGULAR = frozenset(
    {("man", "men"), ("woman", "women"), ("child", "children"), ("person", "people"), ("foot", "feet"),
     ("tooth", "teeth"), ("mouse", "mice"), ("goose", "geese"), ("knife", "knives")}
)  # fmt: skip
_NO_PLURALS = frozenset("glass new good arm wood mean custom water saving short ha hi doe need alway nan".split())
"""Words whose form with an s is another word."""

_TRUTH = {
    "true": "true yes t y correct valid entailment entailed holds 是 对 真 正确 是的 对的 成立",
    "false": "false no f n incorrect wrong invalid contradiction contradicted 否 错 假 错误 不是 不对 不成立 不正确",
    "unknown": "unknown uncertain undetermined unclear indeterminate neutral undecidable 未知 不确定 无法确定 无法判断 不知道",
}
_TRUTH_WORDS = {word: value for value, words in _TRUTH.items() for word in words.split()} | dict.fromkeys(
    ("cannot be determined", "can not be determined", "can't be determined", "not enough information",
     "cannot determine", "cannot tell", "can't tell", "not known", "not determined", "insufficient information"),
    "unknown",
)  # fmt: skip

_YES_NO = {
    word: value
    for value, words in (("true", "yes true 是 是的 对 对的 正确"), ("false", "no false 否 不是 错 不对 错误 不正确"))
    for word in words.split()
}


def nfkc(text: str) -> str:
    """`text` in Unicode's form NFKC, unless that is more than twice as long: one character can become 18."""
    if text.count("\ufdfa") > _MAX_LIGATURES:
        text = text.replace("\ufdfa", "\ufffd")
    normal = unicodedata.normalize("NFKC", text)
    return normal if len(normal) <= 2 * len(text) + 32 else text


def without_invisible(text: str) -> str:
    """`text` without control characters, zero-width and direction marks."""
    return _INVISIBLE.sub("", text)


def plain(text: str) -> str:
    """What a reader sees: NFKC, nothing invisible, straight quotes, single blanks; `10²` becomes `10^2`, not `102`."""
    # A verdict asks for the same few texts many times; long ones would fill the memory.
    return _cached_plain(text) if len(text) <= MAX_CHARACTERS else _plain(text)


def unfenced(text: str) -> str:
    """`text` without blanks around it, and without a Markdown code fence around the whole."""
    text = text.strip()
    fence = _FENCE.fullmatch(text) if text.startswith("```") else None
    return fence[1].strip() if fence and "```" not in fence[1] else text


def unwrap(text: str) -> str:
    r"""`text` in `plain` form, without marks around the whole.

    These are a code fence, quotes, `**`, `$`, `\text{}`, `\boxed{}` and a last period.
    """
    text = plain(unfenced(text))
    for _ in range(6):
        before = text
        command = _COMMAND.match(text)
        if command and _closes_last(text, command.end()):
            text = text[command.end() : -1].strip()
        for left, right in _PAIRS:
            inner = text[len(left) : -len(right)]
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                if left in inner or right in inner:
                    continue
                text = inner.strip()
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        if text == before:
            break
    return text


def folded(text: str) -> str:
    """`unwrap` in any case."""
    return unwrap(text).casefold()


def words_of(text: str) -> str:
    """A short answer as words: folded, no articles, no punctuation but inside of numbers and words."""
    text = _ARTICLES.sub("", folded(text))
    text = _INITIALS.sub(lambda match: match.group().replace(".", ""), text)
    return " ".join(_PUNCTUATION.sub(" ", _HYPHENS.sub(" ", text)).split())


def same_label(answer: str, reference: str) -> bool:
    """Whether two labels are the same, in any case, whatever marks stand around them.

    `25 to 34` is `25-34`, 是 is `Yes`; for the rest letter for letter.
    """
    label, expected = _label(answer), _label(reference)
    truth = yes_or_no(reference)
    return bool(expected) and (label == expected or (truth is not None and truth == yes_or_no(answer)))


def same_words(answer: str, reference: str, *, plurals: bool = True) -> bool:
    """Whether two short answers are the same words; `plurals`: the last word may be singular or plural."""
    mine, theirs = words_of(answer), words_of(reference)
    if not theirs:
        return bool(plain(reference)) and plain(answer) == plain(reference)
    date = _date_of(theirs)
    if date and date == _date_of(mine):
        return True
    if mine == theirs:
        return True
    if not plurals or not mine:
        return False
    head, _, last = mine.rpartition(" ")
    other_head, _, other_last = theirs.rpartition(" ")
    return head == other_head and (_is_plural(last, other_last) or _is_plural(other_last, last))


def truth_word(text: str) -> str | None:
    """`true`, `false` or `unknown` for yes, no, 对, `cannot be determined` and the like; None for anything else."""
    return _TRUTH_WORDS.get(folded(text).rstrip("!,")) if len(text) <= 100 else None


def yes_or_no(text: str) -> str | None:
    """`true` or `false` for yes, no, true, false in English and Chinese; None for anything else."""
    return _YES_NO.get(folded(text).rstrip("!,")) if len(text) <= 100 else None


def is_no_number(text: str) -> bool:
    """Whether a text says NaN or infinity: never a reference, never right."""
    return folded(text).lstrip("+-") in {"nan", "inf", "infinity"}


def texts_of(value: Any, what: str) -> list[str]:
    """A column that holds a text or a list of texts and numbers, as texts. Raises RewardError if it does not."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items or any(not isinstance(item, str | int | float) or isinstance(item, bool) for item in items):
        raise RewardError(f"{what} must be a text or a list of texts, not {str(value)[:80]!r}")
    return [str(item) for item in items]


def check_flag(name: str, value: Any) -> bool:
    """An option that is true or false. Raises RewardError if it is neither."""
    if not isinstance(value, bool):
        raise RewardError(f"option {name} must be true or false, not {value!r}")
    return value


def flag_of(columns: Mapping[str, Any], name: str, default: bool | None) -> bool | None:
    """A row's own true or false, else the default. Raises RewardError if the column holds anything else."""
    value = columns.get(name)
    return default if value is None else check_flag(name, value)


def _date_of(words: str) -> frozenset[str] | None:
    """Month, day and year of `may 12 2019` and `12 may 2019`; None for what is no such date."""
    parts = words.split() if len(words) <= 30 else []
    numbers = {part for part in parts if part.isdigit() and len(part) in (1, 2, 4)}
    is_date = len(parts) == 3 and len(numbers) == 2 and sum(len(number) == 4 for number in numbers) == 1
    return frozenset(parts) if is_date and any(part in _MONTHS for part in parts) else None


def _label(text: str) -> str:
    return _LABEL_RANGE.sub("-", folded(text).removeprefix("the "))


def _plain(text: str) -> str:
    if not text.isascii():
        text = _SUPERSCRIPTS.sub(lambda match: "^" + unicodedata.normalize("NFKC", match.group()), text)
        text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match.group()), text)
        text = nfkc(text.replace("º", "°")).translate(_ALIKE)
    return " ".join(without_invisible(text).split())


_cached_plain = lru_cache(maxsize=4_096)(_plain)


def _closes_last(text: str, start: int) -> bool:
    """Whether the brace that was opened before `start` is closed by the last character."""
    depth = 1
    for index in range(start, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return index == len(text) - 1
    return False


def _is_plural(many: str, one: str) -> bool:
    if (one, many) in _IRREGULAR:
        return True
    if len(one) < 3 or one in _NO_PLURALS or not one.isalpha():
        return False
    return any(one.endswith(end) and many == one.removesuffix(end) + ending for end, ending in _PLURAL_ENDINGS)
