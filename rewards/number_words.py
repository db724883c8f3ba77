"""English words for the numbers below a hundred."""

from __future__ import annotations

UNITS = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
WORD_VALUES = {word: value for value, word in enumerate(UNITS + TEENS)} | {
    word: 10 * value for value, word in enumerate(TENS, start=2)
}
