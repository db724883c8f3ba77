r"""Units out of text: LaTeX, Unicode, symbols, English and Chinese words.

The text is read by a grammar of our own and looked up in a table (`rlcs.rewards.unit_names`).

    unit    = ["1"] factor {[product | division] factor}
    factor  = (name | bracket) [power] | ("square" | "cubic") factor | factor ("squared" | "cubed")

`J/kg·K` is read both ways, since people mean J/(kg·K): `read_unit` returns both, the literal one first.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from rlcs.rewards.marks import plain_superscripts, without_invisible
from rlcs.rewards.unit_conversion import NO_UNIT, Unit, unit_of
from rlcs.rewards.unit_names import PREFIX_WORDS, chinese_names, symbols

MAX_CHARACTERS = 120
_MAX_TOKENS = 60
_MAX_DEPTH = 8
_MAX_EXPONENT = 12
_MAX_SCALE_BITS = 1000


class UnitTextError(ValueError):
    """A text is no unit that can be read, or is larger than the limits."""


@lru_cache(maxsize=8192)
def read_unit(text: str) -> tuple[Unit, ...]:
    """What a text may mean as a unit: one reading, or two where `a/b c` leaves it open. An empty text is `NO_UNIT`.

    Raises:
        UnitTextError: it is no unit, or beyond the limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise UnitTextError(f"the unit is longer than {MAX_CHARACTERS} characters")
    tokens = _tokenize(text)
    if not tokens:
        return (NO_UNIT,)
    readings = dict.fromkeys(_Reader(tokens, to_the_end=to_the_end).read() for to_the_end in (False, True))
    return tuple(readings)


_CHARACTERS = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "⋅": "·", "∙": "·", "•": "·", "×": "·", "*": "·",
                             "º": "°", "÷": "/", "∕": "/", "⁄": "/", "∘": "°"})  # fmt: skip
_DEGREES = re.compile(r"\^?\s?\{?\s?\\(?:circ|degree)(?![A-Za-z])\s?\}?|\^\s?°|\^\{\s?°\s?\}")
_DEGREE_NAMES = re.compile(r"(?:°|(?<![A-Za-z])degrees?)\s?(C|F|K|[Cc]elsius|[Ff]ahrenheit)(?![A-Za-z])")
_OPTIONAL_PLURAL = re.compile(r"(?<=[A-Za-z]{3})\(s\)")
_SPACING = re.compile(r"\\[,;:!> ]|~|\\(?:quad|qquad)(?![A-Za-z])")
_FONTS = re.compile(r"\\(?:mathrm|text|textrm|mathbf|mathit|mathsf|operatorname|rm|unit|si|textit|mbox)(?![A-Za-z])\s?")
_LETTERS = re.compile(r"\\(mu|Omega|AA|angstrom|ell)(?![A-Za-z])\s?")
_LETTER_OF = {"mu": "μ", "Omega": "Ω", "AA": "Å", "angstrom": "Å", "ell": "L"}
_COMMANDS = {"\\cdot": "·", "\\times": "·", "\\ast": "·", "\\div": "/", "\\per": "/",
             "\\frac": "\\frac", "\\dfrac": "\\frac", "\\tfrac": "\\frac"}  # fmt: skip
_CHINESE_POWERS = {"二次方": 2, "三次方": 3, "平方": 2, "立方": 3}
_POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_AFTER = {"squared": 2, "cubed": 3}
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<command>\\[A-Za-z]+|\\%)"
    r"|(?P<name>°[CFK]|[A-Za-zμΩÅ]+|[°′″%‰])"
    r"|(?P<chinese>[一-鿿]+)"
    r"|(?P<power>\^|\*\*)"
    r"|(?P<number>[+-]?\d{1,3}(?:\.\d{1,3})?(?:/\d{1,2}(?!\d))?)"
    r"|(?P<op>[·./(){}\[\]])"
)

_Token = tuple[str, str]
_END: _Token = ("end", "")


def _plain(text: str) -> str:
    text = plain_superscripts(text, "^{}")
    text = unicodedata.normalize("NFKC", without_invisible(text)).replace("**", "^").translate(_CHARACTERS)
    text = _OPTIONAL_PLURAL.sub("s", text)
    text = _LETTERS.sub(lambda match: _LETTER_OF[match[1]], _without_fonts(_SPACING.sub(" ", text)))
    text = _DEGREES.sub("°", " ".join(text.split()))
    return _DEGREE_NAMES.sub(lambda match: f" °{match[1][0].upper()} ", text)


def _tokenize(text: str) -> list[_Token]:
    text = _plain(text)
    tokens: list[_Token] = []
    position, is_joined = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) > _MAX_TOKENS:
            raise UnitTextError(f"{text[position : position + 20]!r} is no part of a unit")
        kind, value, position = match.lastgroup or "", match.group(), match.end()
        if kind == "space":
            is_joined = False
            continue
        if kind == "number" and is_joined and tokens[-1][0] == "name":
            tokens.append(("power", "^"))  # s-2, m2
        if kind == "command":
            kind, value = _command(value)
        if kind == "chinese":
            tokens.extend(_chinese(value))
        elif kind == "name" and value in ("per", "PER"):
            tokens.append(("op", "/"))
        else:
            tokens.append((kind, value))
        is_joined = True
    return tokens


def _without_fonts(text: str) -> str:
    r"""Drop `\text{...}` and its kin with their braces: `\text{m/s}^2` is m/s^2, not (m/s)^2."""
    parts: list[str] = []
    is_font: list[bool] = []
    position = 0
    while position < len(text):
        font = _FONTS.match(text, position)
        if font:
            position = font.end()
            parts.append(" ")
            if text[position : position + 1] == "{":
                is_font.append(True)
                position += 1
            continue
        character = text[position]
        position += 1
        if character == "{":
            is_font.append(False)
        elif character == "}" and is_font and is_font.pop():
            continue
        parts.append(character)
    return "".join(parts)


def _command(command: str) -> _Token:
    if command == "\\%":
        return ("name", "%")
    value = _COMMANDS.get(command, command[1:])  # siunitx: \meter\per\second
    if value == "\\frac":
        return ("frac", value)
    return ("op", value) if value in ("·", "/") else ("name", value)


def _chinese(run: str) -> list[_Token]:
    """Names out of a run of characters, the longest first: 米每二次方秒, 千克立方米."""
    tokens: list[_Token] = []
    while run:
        if run[0] == "每":
            tokens.append(("op", "/"))
            run = run[1:]
            continue
        for name in _CHINESE_POWERS:
            if run.startswith(name):
                tokens.append(("before", str(_CHINESE_POWERS[name])))
                break
        else:
            name = next((name for name in chinese_names() if run.startswith(name)), "")
            if not name:
                raise UnitTextError(f"{run[:20]!r} is no unit")
            tokens.append(("chinese", name))
        run = run[len(name) :]
    return tokens


class _Reader:
    """Reads tokens once; with `to_the_end`, everything after a division sign is divided by, up to the next one."""

    def __init__(self, tokens: list[_Token], *, to_the_end: bool) -> None:
        self.tokens = tokens
        self.to_the_end = to_the_end
        self.position = 0
        self.depth = 0

    def read(self) -> Unit:
        unit = self.product(closing="")
        if self.peek() != _END:
            raise UnitTextError(f"{self.peek()[1]!r} is out of place in the unit")
        return unit

    def peek(self) -> _Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else _END

    def take(self) -> _Token:
        token = self.peek()
        self.position += 1
        return token

    def product(self, closing: str) -> Unit:
        unit, divided, needs_factor = NO_UNIT, False, False
        if self.peek() == ("number", "1"):
            self.take()
        while True:
            token = self.peek()
            if token == ("op", "/"):
                if needs_factor:
                    raise UnitTextError("a division sign is out of place in the unit")
                divided = needs_factor = True
                self.take()
            elif token in (("op", "·"), ("op", ".")):
                if needs_factor:
                    raise UnitTextError("a product sign is out of place in the unit")
                needs_factor = True
                divided = divided and self.to_the_end
                self.take()
            elif token == _END or (closing and token == ("op", closing)):
                if needs_factor:
                    raise UnitTextError("a factor of the unit is missing")
                return unit
            else:
                if not needs_factor:
                    divided = divided and self.to_the_end
                factor = self.factor()
                unit = unit * (factor ** Fraction(-1) if divided else factor)
                needs_factor = False

    def factor(self) -> Unit:
        kind, value = self.take()
        if kind == "before" or (kind == "name" and value in _POWERS_BEFORE):
            return _checked_power(self.factor_once(), Fraction(_POWERS_BEFORE.get(value) or int(value)))
        self.position -= 1
        return self.factor_once()

    def factor_once(self) -> Unit:
        unit = self.atom()
        kind, value = self.peek()
        if kind == "power":
            self.take()
            return _checked_power(unit, self.exponent())
        if kind == "name" and value in _POWERS_AFTER:
            self.take()
            return _checked_power(unit, Fraction(_POWERS_AFTER[value]))
        return unit

    def atom(self) -> Unit:
        kind, value = self.take()
        if kind == "op" and value in "([{":
            return self.bracket({"(": ")", "[": "]", "{": "}"}[value])
        if kind == "frac":
            parts = []
            for _ in range(2):
                if self.take() != ("op", "{"):
                    raise UnitTextError("a fraction of units needs braces")
                parts.append(self.bracket("}"))
            return parts[0] * parts[1] ** Fraction(-1)
        if kind == "name" and value in PREFIX_WORDS:
            return _named(value + self.take()[1])  # siunitx: \\kilo\\meter
        if kind == "chinese":
            return unit_of(*chinese_names()[value])
        if kind == "name":
            return _named(value)
        raise UnitTextError(f"{value or 'the end'!r} is out of place in the unit")

    def bracket(self, closing: str) -> Unit:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise UnitTextError("the unit has too many brackets")
        unit = self.product(closing)
        if self.take() != ("op", closing):
            raise UnitTextError("a bracket of the unit is not closed")
        self.depth -= 1
        return unit

    def exponent(self) -> Fraction:
        closing = ""
        if self.peek() in (("op", "{"), ("op", "(")):
            closing = {"{": "}", "(": ")"}[self.take()[1]]
        kind, value = self.take()
        if kind != "number" or (closing and self.take() != ("op", closing)):
            raise UnitTextError("an exponent of the unit is no number")
        top, _, bottom = value.partition("/")
        if bottom and int(bottom) == 0:
            raise UnitTextError("an exponent of the unit is no number")
        power = Fraction(top) / int(bottom or 1)
        if abs(power) > _MAX_EXPONENT or power.denominator > _MAX_EXPONENT:
            raise UnitTextError(f"an exponent of the unit is beyond {_MAX_EXPONENT}")
        return power


def _checked_power(unit: Unit, power: Fraction) -> Unit:
    """Powers of brackets of powers multiply: ((m^12)^12)^12 and its scale would grow without end."""
    bits = max(unit.scale.numerator.bit_length(), unit.scale.denominator.bit_length())
    largest = max((abs(exponent) for _, exponent in unit.factors), default=Fraction(0))
    if largest * abs(power) > _MAX_EXPONENT or bits * max(abs(power), Fraction(1)) > _MAX_SCALE_BITS:
        raise UnitTextError(f"an exponent of the unit is beyond {_MAX_EXPONENT}")
    return unit**power


def _named(name: str) -> Unit:
    known = symbols().get(name)
    if known is None:
        raise UnitTextError(f"{name[:20]!r} is no unit")
    return unit_of(*known)
