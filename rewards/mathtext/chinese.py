"""Chinese ways of writing numbers and answers, in the spelling that the grammar reads."""

from __future__ import annotations

import re

_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_SMALL_UNITS = {"十": 10, "百": 100, "千": 1000}
_LARGE_UNITS = {"万": 10**4, "亿": 10**8}

_NUMERAL_CLASS = "[零〇一二两三四五六七八九十百千万亿]"
_NUMERAL = re.compile(f"{_NUMERAL_CLASS}+(?:点[零〇一二三四五六七八九]+)?")
_PERCENT = re.compile(r"百分之\s*(-?[\d.]+)")
_FRACTION = re.compile(r"(-?\d+)\s*分之\s*(-?\d+)")
_MIXED = re.compile(r"(\d+)\s*又\s*(\d+)\s*分之\s*(\d+)")
_SCALED = re.compile(r"(\d+(?:\.\d+)?)\s*([十百千]?[万亿]|百(?!分)|千(?![克米瓦帕焦赫卡伏牛欧安]))")
_ABOUT = re.compile("[一二两三四五六七八九]{2}")

_MEASURE = re.compile(
    r"(?<=\d)\s*((?:平方|立方)?(?:[个只条件元人名次岁棵本张辆块支头盒箱天年月周秒米克吨升页]|小时|分钟|[厘毫分千]米|公里|千克|公斤|毫升"
    r"|公顷|美元))(?![\u3400-\u9fff])"
)
"""What is counted or measured, behind a number."""

_WORDS = (
    ("正无穷大", "\\infty "), ("负无穷大", "-\\infty "), ("正无穷", "\\infty "), ("负无穷", "-\\infty "),
    ("无穷大", "\\infty "), ("无穷", "\\infty "), ("空集", "\\emptyset "), ("无实数解", "\\emptyset "),
    ("无解", "\\emptyset "), ("全体实数", "\\mathbb{R} "), ("实数集", "\\mathbb{R} "),
    ("大于等于", "\\ge "), ("小于等于", "\\le "), ("大于", ">"), ("小于", "<"),
    ("不等于", "\\ne "), ("等于", "="), ("或者", " or "), ("或", " or "), ("并且", " and "), ("且", " and "),
    ("以及", " and "), ("和", " and "), ("根号", "\\sqrt "), ("圆周率", "\\pi "), ("派", "\\pi "), ("平方", "^2 "),
    ("立方", "^3 "), ("度", "\\degree "), ("正", "+"), ("负", "-"), ("加", "+"), ("减", "-"), ("乘以", "*"),
    ("乘", "*"), ("除以", "/"),
)  # fmt: skip
"""Replaced in this order: the longer before what it holds."""


def replace_chinese(text: str) -> str:
    """`text` with Chinese numerals, fractions, percentages and connectives spelled in symbols."""
    if not any("一" <= character <= "鿿" or character == "〇" for character in text):
        return text
    text = _SCALED.sub(_scaled, text)
    # 百分之 holds a numeral and must be read before numerals are.
    text = text.replace("百分之", "\x04")
    text = _NUMERAL.sub(_numeral, text)
    text = text.replace("\x04", "百分之")
    text = _PERCENT.sub(r"\1%", text)
    text = _MIXED.sub(r"\1 \3/\2", text)
    text = _FRACTION.sub(r"\2/\1", text)
    text = _MEASURE.sub(_measure, text)
    for word, symbol in _WORDS:
        text = text.replace(word, symbol)
    return text


def _measure(match: re.Match[str]) -> str:
    # Within, 平方 must not become a square.
    return "\x02" + match[1].replace("平方", "sq").replace("立方", "cu") + "\x03"


def _numeral(match: re.Match[str]) -> str:
    text = match.group()
    if _is_about(text) or (match.start() and match.string[match.start() - 1].isdigit()):
        return text  # 两三个 is two or three; the 千 of 3千克 belongs to the unit
    whole, _, decimals = text.partition("点")
    digits = "".join(str(_DIGITS[character]) for character in decimals)
    return str(_whole(whole)) + (f".{digits}" if digits else "")


def _is_about(text: str) -> bool:
    """Whether it is `two or three`: two neighbouring digits side by side, which as a number would have 十 between."""
    return _ABOUT.fullmatch(text) is not None and abs(_DIGITS[text[0]] - _DIGITS[text[1]]) == 1


def _whole(text: str) -> int:
    if all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS[character]) for character in text))  # read digit by digit, as a year is
    total, section, digit = 0, 0, 0
    unit = 1  # what a digit at the end counts: 一百二 is 120, 一百零二 is 102
    for character in text:
        if character in _DIGITS:
            digit = _DIGITS[character]
            unit = unit if digit else 1
        elif character in _SMALL_UNITS:
            section += (digit or 1) * _SMALL_UNITS[character]
            unit = _SMALL_UNITS[character] // 10
            digit = 0
        else:
            total = (total + section + digit) * _LARGE_UNITS[character]
            unit = _LARGE_UNITS[character] // 10
            section = digit = 0
    return total + section + digit * unit


def _scaled(match: re.Match[str]) -> str:
    whole, _, decimals = match[1].partition(".")
    zeros = sum(len(str((_LARGE_UNITS | _SMALL_UNITS)[unit])) - 1 for unit in match[2])
    shifted = decimals.ljust(zeros, "0")
    return (whole + shifted[:zeros]).lstrip("0") + (f".{shifted[zeros:]}" if shifted[zeros:] else "") or "0"
