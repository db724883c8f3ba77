"""Words behind a number: which of them may be its unit, and which say another number or take the number back."""

from __future__ import annotations

import re

from rlcs.rewards.number_words import WORD_VALUES

SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
"""Words that multiply the number before them, as powers of ten."""

NUMBER_WORDS = frozenset(WORD_VALUES)
NO_UNITS = frozenset(
    "or and to nor about around approximately approx roughly nearly almost over under least most up more less fewer than "
    "plus minus not no versus vs between maybe perhaps possibly probably likely either neither half quarter quarters pair "
    "pairs couple couples times ish odd something some any other others extra wrong incorrect false out but if unless only "
    "is are was depends sure unsure estimated estimate correct st nd rd th".split()
)
"""Words that hedge, deny, join or divide."""
_NO_UNITS_IN_MATH = (
    (NO_UNITS - {"times"})
    | NUMBER_WORDS
    | SCALES.keys()
    | frozenset(
        "dozen dozens halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths squared "
        "percentage cubed factorial mod modulo divided multiplied added wait then instead actually so hmm were be "
        "or percent".split()
    )
)
_MAX_WORDS = 5
_POWER = r"(?:\s?\^\s?(?:\{\s?-?\s?[1-9]\s?\}|-?\s?[1-9])|(?<=[cmkd]m)\s?[23]|(?<=ft)\s?[23]|(?<=in)\s?[23])?"
_WORD = rf"[^\W\d_]+(?:'s)?{_POWER}"
_UNIT = re.compile(rf"{_WORD}(?:(?:\s?[-/*.]\s?|\s){_WORD})*\s?\.?")


def split_scale(text: str) -> tuple[int, str]:
    """The power of ten that a first word such as `million` stands for (0 without one), and the rest."""
    first, _, rest = text.partition(" ")
    power = SCALES.get(first.casefold(), 0)
    return (power, rest) if power else (0, text)


def is_unit(text: str) -> bool:
    """Whether a text can be a unit or a thing that is counted, and nothing else: `cm^2`, `miles per hour`, `apples`."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return (
        len(text) <= 80
        and len(words) <= _MAX_WORDS
        and words[:2] != ["per", "cent"]
        and not _NO_UNITS_IN_MATH.intersection(words)
        and _UNIT.fullmatch(text) is not None
    )
