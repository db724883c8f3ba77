r"""Chemical formulae out of text: `\ce{CuSO4.5H2O}`, `[Cu(NH3)4]^{2+}`, `^{14}_{6}C`, `Cl-(aq)`.

    formula = part {"·" [count] part} [charge] [state]
    part    = group {group}
    group   = ([mass] element | "(" part ")" | "[" part "]") [count]

Only symbols of elements are read, so that a name such as "Carbon" is no formula.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

MAX_CHARACTERS = 200
_MAX_DEPTH = 6
_MAX_COUNT = 9999

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()
ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)} | {"D": 1}
PARTICLES = {"n": (1, 0), "p": (1, 1), "e": (0, -1), "β": (0, -1), "γ": (0, 0), "α": (4, 2)}
"""Mass number and charge number of what stands in nuclear equations beside isotopes."""


class FormulaError(ValueError):
    """A text is no formula, or is larger than the limits."""


@dataclass(frozen=True, slots=True)
class Atom:
    """Atoms of one element that stand together."""

    symbol: str
    mass: int | None
    """Mass number, if it is marked."""
    count: int
    number: int = 0
    """Atomic number; the charge of a particle."""


@dataclass(frozen=True, slots=True)
class Group:
    """A bracket and how often it is there."""

    parts: tuple[Atom | Group, ...]
    count: int
    is_square: bool = False


@dataclass(frozen=True, slots=True)
class Formula:
    """A species: what it is made of, its charge and its state."""

    parts: tuple[Group, ...]
    """One for each side of the dots of a hydrate."""
    charge: int = 0
    state: str = ""
    """s, l, g, aq, or empty if it is not given."""

    def composition(self) -> Counter[tuple[str, int | None]]:
        """Number of atoms by element and marked mass number."""
        counts: Counter[tuple[str, int | None]] = Counter()
        _count(self.parts, 1, counts)
        return counts


def _count(parts: tuple[Atom | Group, ...], times: int, counts: Counter[tuple[str, int | None]]) -> None:
    for part in parts:
        if isinstance(part, Atom):
            counts[part.symbol, part.mass] += times * part.count
        else:
            _count(part.parts, times * part.count, counts)


_TOKEN = re.compile(
    r"(?P<mass>\^\d{1,3}(?:_-?\d{1,3})?|_-?\d{1,3}\^\d{1,3})?(?P<symbol>[A-Z][a-z]?)|(?P<open>[(\[])|(?P<close>[)\]])"
)
_PARTICLE = re.compile(r"(?P<numbers>\^\d{1,3}(?:_[+-]?\d{1,3})?|_[+-]?\d{1,3}\^\d{1,3})?(?P<name>[enpαβγ])")
_HYPHENATED_ISOTOPE = re.compile(r"([A-Z][a-z]?)-(\d{1,3})")
_COUNT = re.compile(r"\d{1,4}")
_STATE = re.compile(r"_?\((s|l|g|aq|cr|solid|liquid|gas)\)$|(?<=.)([↑↓])$", re.IGNORECASE)
_STATES = {"cr": "s", "solid": "s", "liquid": "l", "gas": "g", "↑": "g", "↓": "s"}
_CARET_CHARGE = re.compile(r"\^(?:(\d{0,2})([+-])|([+-])(\d{1,2}))$")
_PLAIN_CHARGE = re.compile(r"(?<=[A-Za-z0-9)\]])(\d?)([+-]+)$")
_BONDS = re.compile(r"(?<=[A-Za-z0-9)\]])[-=≡](?=[A-Z(\[])")


@lru_cache(maxsize=8192)
def parse_formula(text: str) -> Formula:
    """The species that a text in the spelling of `rlcs.rewards.chemical_text.plain_formula` stands for.

    Raises:
        FormulaError: it is no formula, or beyond the limits.
    """
    text = "".join(text.split())
    if not text or len(text) > MAX_CHARACTERS:
        raise FormulaError(f"a formula has 1 to {MAX_CHARACTERS} characters")
    state = ""
    found = _STATE.search(text)
    if found:
        text, state = text[: found.start()], (found[1] or found[2]).lower()
    isotope = _HYPHENATED_ISOTOPE.fullmatch(text)
    if isotope:
        text = f"^{isotope[2]}{isotope[1]}"
    text, charge = _split_charge(text)
    particle = _PARTICLE.fullmatch(text)
    if particle:
        return _particle(particle["name"], particle["numbers"] or "", charge)
    parts = []
    for number, part in enumerate(re.split(r"[·.*]", _BONDS.sub("", text))):
        count = _COUNT.match(part) if number else None
        parts.append(Group(_read(part[count.end() if count else 0 :]), _checked(count)))
    return Formula(tuple(parts), charge, _STATES.get(state, state))


def _split_charge(text: str) -> tuple[str, int]:
    caret = _CARET_CHARGE.search(text)
    if caret:
        size = int(caret[1] or caret[4] or 1)
        return text[: caret.start()], size if (caret[2] or caret[3]) == "+" else -size
    plain = _PLAIN_CHARGE.search(text)
    if plain is None:
        return text, 0
    digit, signs = plain[1], plain[2]
    before = text[: plain.start()]
    if len(set(signs)) > 1 or len(signs) > 4:
        raise FormulaError("a charge cannot be read")
    # Cu2+ and SO42- end in their charge; NH4+ and NO3- in a count.
    if digit and len(signs) == 1 and (before in ATOMIC_NUMBERS or before[-1:].isdigit() or before[-1:] in ")]"):
        size = int(digit)
    else:
        before, size = before + digit, len(signs)
    return before, size if signs[0] == "+" else -size


def _checked(count: re.Match[str] | None) -> int:
    number = int(count.group()) if count else 1
    if not 0 < number <= _MAX_COUNT:
        raise FormulaError("a count is out of range")
    return number


def _read(text: str) -> tuple[Atom | Group, ...]:
    stack: list[tuple[str, list[Atom | Group]]] = [("", [])]
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise FormulaError(f"{text[position : position + 10]!r} is no part of a formula")
        position = token.end()
        if token["open"]:
            stack.append((token["open"], []))
            if len(stack) > _MAX_DEPTH:
                raise FormulaError("a formula has too many brackets")
            continue
        count = _COUNT.match(text, position)
        position = count.end() if count else position
        if token["close"]:
            opening, inner = stack.pop()
            if {"(": ")", "[": "]"}.get(opening) != token["close"] or not inner:
                raise FormulaError("the brackets of a formula do not match")
            stack[-1][1].append(Group(tuple(inner), _checked(count), opening == "["))
        else:
            stack[-1][1].append(_atom(token["symbol"], token["mass"], _checked(count)))
    if len(stack) > 1 or not stack[0][1]:
        raise FormulaError("a bracket of a formula is not closed" if len(stack) > 1 else "a formula is empty")
    return tuple(stack[0][1])


def _atom(symbol: str, numbers: str | None, count: int) -> Atom:
    if symbol not in ATOMIC_NUMBERS:
        raise FormulaError(f"{symbol} is no element")
    mass = re.search(r"\^(\d+)", numbers or "")
    number = re.search(r"_(-?\d+)", numbers or "")
    if number and int(number[1]) != ATOMIC_NUMBERS[symbol]:
        raise FormulaError(f"{symbol} has another atomic number than {number[1]}")
    return Atom(symbol, int(mass[1]) if mass else None, count, ATOMIC_NUMBERS[symbol])


def _particle(name: str, numbers: str, charge: int) -> Formula:
    """An electron, neutron, proton, or alpha, beta or gamma radiation; alone, never as a part of a formula."""
    mass, number = PARTICLES[name]
    marked_mass, marked_number = re.search(r"\^(\d+)", numbers), re.search(r"_([+-]?\d+)", numbers)
    if name in "eβ" and (charge > 0 or (marked_number and int(marked_number[1]) == 1)):
        number = 1  # a positron
    if (marked_mass and int(marked_mass[1]) != mass) or (marked_number and int(marked_number[1]) != number):
        raise FormulaError(f"{name} has other numbers")
    if name == "α":
        return Formula((Group((Atom("He", 4, 1, 2),), 1),))
    symbol = {"β": "e"}.get(name, name)
    return Formula((Group((Atom(symbol, mass, 1, number),), 1),), number if symbol == "e" else charge)
