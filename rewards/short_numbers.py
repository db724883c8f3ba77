"""Amounts in short answers: `$5.2 million`, `12 %`, `三个`, `twenty-one`, `1,234 kg`.

An amount is one number with, at most, a currency, a scale word and a unit. Percent and scale words belong to the value
(50 % is 1/2); units are compared by name and not converted: the physics verifier does that. Whatever hedges (`about 5`,
`~5`, `5+`, `3 or 4`, `3-4`) is no amount.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.mathtext.normalize import TEXT_CLOSE, TEXT_OPEN, normalize
from rlcs.rewards.mathtext.numbers import Number, parse_number, same_number
from rlcs.rewards.mathtext.tree import MathTextError
from rlcs.rewards.mathtext.unit_words import NO_UNITS
from rlcs.rewards.number_words import WORD_VALUES
from rlcs.rewards.text import same_words, unwrap

_MAX_CHARACTERS = 400

_SCALES = {"hundred": 10**2, "dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SHORT_SCALES = {
    "k": 10**3, "K": 10**3, "M": 10**6, "mn": 10**6, "mln": 10**6, "mio": 10**6, "B": 10**9, "bn": 10**9, "tn": 10**12,
    "千": 10**3, "百": 10**2, "百万": 10**6, "千万": 10**7, "万": 10**4, "亿": 10**8, "十亿": 10**9, "百亿": 10**10,
    "千亿": 10**11, "万亿": 10**12,
}  # fmt: skip
_PERCENTS = frozenset({"%", "percent", "per cent", "pct", "pct.", "％"})

_CURRENCY_SIGNS = {"$": "usd", "€": "eur", "£": "gbp", "¥": "cny", "₹": "inr", "₩": "krw"}
_CURRENCIES = {
    "usd": "usd", "us$": "usd", "dollar": "usd", "dollars": "usd", "美元": "usd", "eur": "eur", "euro": "eur", "euros": "eur",
    "欧元": "eur", "gbp": "gbp", "pounds sterling": "gbp", "英镑": "gbp", "cny": "cny", "rmb": "cny", "yuan": "cny",
    "yen": "cny", "jpy": "cny", "元": "cny", "人民币": "cny", "日元": "cny", "inr": "inr", "rupees": "inr", "krw": "krw",
    "won": "krw",
}  # fmt: skip
"""Yen and yuan share their sign, so they are not told apart."""
_UNITS = {
    "kilogram": "kg", "kilograms": "kg", "公斤": "kg", "千克": "kg", "gram": "g", "grams": "g", "克": "g", "ton": "t",
    "tons": "t", "tonne": "t", "tonnes": "t", "吨": "t", "meter": "m", "meters": "m", "metre": "m", "metres": "m", "米": "m",
    "centimeter": "cm", "centimeters": "cm", "centimetres": "cm", "厘米": "cm", "millimeters": "mm", "毫米": "mm",
    "kilometer": "km", "kilometers": "km", "kilometres": "km", "公里": "km", "千米": "km", "mile": "mi", "miles": "mi",
    "foot": "ft", "feet": "ft", "inch": "in", "inches": "in", "second": "s", "seconds": "s", "sec": "s", "秒": "s",
    "minute": "min", "minutes": "min", "mins": "min", "分钟": "min", "hour": "h", "hours": "h", "hr": "h", "hrs": "h",
    "小时": "h", "day": "d", "days": "d", "天": "d", "year": "yr", "years": "yr", "yrs": "yr", "年": "yr", "liter": "l",
    "liters": "l", "litre": "l", "litres": "l", "L": "l", "升": "l", "degree": "°", "degrees": "°", "度": "°", "℃": "°C",
    "degrees celsius": "°C", "摄氏度": "°C", "° C": "°C", "° F": "°F", "degrees fahrenheit": "°F",
    "percentage points": "pp", "percentage point": "pp", "个百分点": "pp",
}  # fmt: skip

_HEDGES = re.compile(r"[~≈≃≅∼±<>≤≥≲≳∓|?]|\d\s*\+|\.\.|^[12]\d\d0'?s$")
"""Also decades: `1990s` is no number of seconds."""
_NO_CHINESE_UNITS = re.compile(
    "[多几余约左右上下内外或至到超近不非无对双打倍半成来前后零一二两三四五六七八九十百千万亿和与]"
)
_UNIT = re.compile(
    r"[^\W\d_°][^\d_]*|°\s?[CFK]?|[^\W\d_]{1,6}(?:\^?-?[23])?(?:\s?[/·*]\s?[^\W\d_]{1,6}(?:\^?-?[23])?)*"
)
_HEAD = re.compile(
    r"(?P<number>[+-]?\s?(?:\d[\d.,/ ]*|\.\d+)(?:(?<=\d)\s?(?:[eE]|\*\s?10\s?\^)\s?(?:\{[+-]?\d+\}|[+-]?\d+))?)(?P<rest>.*)"
)
_CHINESE_SCALE = re.compile(r"(?<=\d)\s?(万亿|[十百千]?[万亿]|[百千](?![克米瓦升万亿]))")
_FRACTION = re.compile(r"\\frac\s?(?:\{\s?(\d{1,9})\s?\}|(\d))\s?(?:\{\s?(\d{1,9})\s?\}|(\d))")
_YEAR = re.compile(r"(?:公元\s?)?([12]\d{3})\s?年")
_KILO = {"千克": "kg", "千米": "km", "千瓦": "kW", "千升": "kL", "千卡": "kcal"}
_CHINESE_VAGUE = re.compile(
    "[百千万亿][一二两三四五六七八九](?![零〇一二两三四五六七八九十百千点])|(?:一二|两三|二三|三四|四五|五六|六七|七八|八九|三五|三两)(?![零〇一二三四五六七八九点])"
)


@dataclass(frozen=True, slots=True)
class Amount:
    """One number and what stands with it."""

    number: Number
    """Percent and scale words are in the value."""
    unit: str = ""
    currency: str = ""
    is_percent: bool = False
    is_plain: bool = False
    """Written as digits only, with no separator, point, scale, unit or currency: what a year or a count looks like."""
    is_whole: bool = False
    """Written as a whole number: no point but before zeros, no slash, exponent or percent."""

    @property
    def value(self) -> Fraction:
        return self.number.value


@lru_cache(maxsize=16_384)
def read_amount(text: str) -> Amount | None:
    """The one amount that a text spells; None if it is anything else. Never raises."""
    if len(text) > _MAX_CHARACTERS:
        return None
    # Dollar signs around the whole are LaTeX; a single one is a currency.
    text = unwrap(text).replace("\\$", "$")
    if not text or _HEDGES.search(text):
        return None
    currency, text = _leading_currency(text)
    trailing = _CURRENCY_SIGNS.get(text[-1:])
    if trailing:
        if currency:
            return None
        currency, text = trailing, text[:-1].rstrip()
    if not text:
        return None
    scale = 1
    if not text.isascii():
        if _CHINESE_VAGUE.search(text):
            return None
        for name, symbol in _KILO.items():
            text = text.replace(name, symbol)
        found = _CHINESE_SCALE.search(text)
        if found:
            scale = _SHORT_SCALES.get(found[1], 0)
            text = text[: found.start()] + " " + text[found.end() :]
            if not scale:
                return None
        text = _YEAR.sub(r"\1", text) if _YEAR.fullmatch(text) else text  # 2015年 is a year, not 2015 years
    elif text[0].isalpha():
        return _amount_in_words(text, currency)
    try:
        spelled = (
            normalize(text)
            .replace(TEXT_OPEN, "")
            .replace(TEXT_CLOSE, "")
            .replace("\\degree ", "°")
            .replace("\\degree", "°")
        )
        spelled = _FRACTION.sub(_plain_fraction, spelled).replace(" * ", "*")
        head = _HEAD.fullmatch(spelled.strip())
        number = parse_number(head["number"].strip().replace("- ", "-")) if head else None
        if head is None or number is None:
            return None
    except MathTextError:
        return None
    return _with_rest(number, head["number"].strip(), head["rest"].strip(), currency, scale)


def same_amount(answer: Amount, reference: Amount, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether an amount is the reference, within a relative tolerance.

    A unit or currency that one of them lacks is forgiven, another one is not. Percent and scale words are never
    forgiven: they are in the value.
    """
    if answer.currency and reference.currency and answer.currency != reference.currency:
        return False
    if answer.unit and reference.unit and not _same_unit(answer.unit, reference.unit):
        return False
    if (reference.is_percent and (answer.unit or answer.currency)) or (answer.is_percent and reference.unit):
        return False
    if same_number(answer.number, reference.number):
        return True
    return abs(answer.value - reference.value) <= tolerance * abs(reference.value)


def tolerance_of(value: Any, what: str) -> Fraction:
    """A relative tolerance as an exact fraction. Raises RewardError unless it is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise RewardError(f"{what} must be a relative error in [0, 1), such as 0.025, not {value!r}")
    return Fraction(str(value))


def _plain_fraction(match: re.Match[str]) -> str:
    return f" {match[1] or match[2]}/{match[3] or match[4]}"


def _leading_currency(text: str) -> tuple[str, str]:
    sign = text[:1] if text[:1] in "+-" else ""
    rest = text[len(sign) :].lstrip()
    for mark, currency in (
        ("US$", "usd"),
        ("USD", "usd"),
        ("RMB", "cny"),
        ("CNY", "cny"),
        ("EUR", "eur"),
        ("GBP", "gbp"),
    ):
        if rest.startswith(mark):
            return currency, sign + rest[len(mark) :].lstrip()
    found = _CURRENCY_SIGNS.get(rest[:1], "")
    return found, sign + rest[1:].lstrip() if found else text


def _amount_in_words(text: str, currency: str) -> Amount | None:
    """`twenty-one`, `one hundred and five apples`, `two million dollars`, `minus three`, `a dozen`."""
    words = text.casefold().replace("-", " ").split()
    sign = -1 if words[0] in ("minus", "negative") else 1
    index = 1 if sign < 0 else 0
    if words[index : index + 1] == ["a"] and words[index + 1 : index + 2] and words[index + 1] in _SCALES:
        words[index] = "one"
    total, section, taken, last = 0, 0, index, 0
    largest, fits = 10**18, True
    while taken < len(words) and fits:
        word = words[taken]
        if word in WORD_VALUES:
            value = WORD_VALUES[word]
            # `twenty one` and `hundred five` are numbers, `three four` is none.
            fits = last == 0 or (last >= 20 and last < 100 and 0 < value < 10) or last >= 100
            section, last = section + value, value or 1
        elif word in ("hundred", "dozen") and 0 < section < 100:
            section, last = section * _SCALES[word], 100
        elif word in _SCALES and section > 0 and _SCALES[word] < largest and word != "hundred":
            total, section, largest, last = total + section * _SCALES[word], 0, _SCALES[word], 100
        elif word == "and" and last >= 100 and taken + 1 < len(words) and words[taken + 1] in WORD_VALUES:
            pass
        else:
            break
        taken += 1
    if not fits or taken == index:
        return None
    return _with_rest(Number(Fraction(sign * (total + section))), "", " ".join(words[taken:]), currency, 1)


def _with_rest(number: Number, digits: str, rest: str, currency: str, scale: int) -> Amount | None:
    """An amount of a number and the text that follows it."""
    value, places = number.value, number.places
    is_whole = value.denominator == 1 and not set(digits) & set("/eE*") and scale == 1
    is_plain = scale == 1 and not currency and not rest and digits.isdigit()
    first, _, after = rest.partition(" ")
    if first in _SHORT_SCALES or first.casefold() in _SCALES:
        scale *= _SHORT_SCALES.get(first) or _SCALES[first.casefold()]
        rest = after.strip()
    is_percent = rest.casefold() in _PERCENTS
    if is_percent and currency:
        return None
    if is_percent:
        value, rest, is_whole = value / 100, "", False
        places = None if places is None else places + 2
    if scale != 1:
        zeros = len(str(scale)) - 1
        value *= scale
        is_whole = value.denominator == 1
        places = None if places is None or 10**zeros != scale else places - zeros
    if rest:
        named = _CURRENCIES.get(rest.casefold())
        if named:
            if currency and currency != named:
                return None
            currency, rest = named, ""
        elif not _is_unit(rest):
            return None
    unit = _UNITS.get(rest) or _UNITS.get(rest.casefold(), rest)
    return Amount(Number(value, places), unit, currency, is_percent, is_plain, is_whole)


def _is_unit(text: str) -> bool:
    words = text.casefold().replace("-", " ").split()
    if len(text) > 40 or len(words) > 3 or not _UNIT.fullmatch(text) or _NO_CHINESE_UNITS.search(text):
        return False
    if any(character in ",;:!\"'()[]{}=&" for character in text):
        return False
    return not any(word in NO_UNITS or word in WORD_VALUES or word in _SCALES for word in words)


def _same_unit(one: str, other: str) -> bool:
    if one == other:
        return True
    # mW is not MW and MB not Mb: symbols that are the same but for the case are two units.
    return len(one) > 3 and len(other) > 3 and same_words(one, other)
