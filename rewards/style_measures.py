"""Measures of a text's style: how much it repeats itself, whether it mixes languages, how long it is.

All are pure and take time linear in the text, but for one sort: texts become numpy arrays of code points, and runs of
them are compared by a polynomial hash modulo 2^64 whose prefix sums give the hash of any run at once.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the hash; odd, so that it has an inverse modulo 2^64."""
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))
_RULER = re.compile(r"[-=_*~#+|:─━═—\s]{8,}")
_CHINESE = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3134F))
_CHINESE_MARKS = ((0x3001, 0x3011), (0xFF01, 0xFF0F), (0xFF1A, 0xFF1F))
"""Punctuation, which belongs to a Chinese paragraph."""
_CHARACTERS_PER_TOKEN = 4

Codes = NDArray[np.uint32]
"""[characters] code points."""


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has: one for each Chinese character, one for each four other characters."""
    chinese = int(_within(_codes(text), _CHINESE).sum())
    return chinese + -(-(len(text) - chinese) // _CHARACTERS_PER_TOKEN)


def soft_overlong(length: int, max_length: int, cache: int) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13), moved from [-1, 0] to [0, 1].

    1 up to `max_length - cache`, then falling in a line to 0 at `max_length`.
    """
    if length <= max_length - cache:
        return 1.0
    return max(0.0, (max_length - length) / cache) if cache else 0.0


def without_rulers(text: str) -> str:
    """The text with rulers (`=====`, `|---|---|`) and long blanks made a single blank."""
    return _RULER.sub(" ", text)


def most_repeated_window(text: str, length: int = 50) -> tuple[int, str]:
    """How often the commonest window of `length` characters is seen, overlaps counted, and which it is."""
    codes = _codes(text)
    hashes = _run_hashes(codes.astype(np.uint64), length)
    if not len(hashes):
        return 0, ""
    values = np.sort(hashes)
    first = np.flatnonzero(_changes(values))
    most = int(np.diff(first, append=len(values)).argmax())
    starts = np.flatnonzero(hashes == values[first[most]]).tolist()
    window = text[starts[0] : starts[0] + length]
    # Equal hashes are no proof, and somebody could look for a collision.
    return sum(text.startswith(window, start) for start in starts), window


def repeated_ngram_share(text: str, n: int = 10, least: int = 50) -> float:
    """The share of the text's word n-grams that were seen before in it; a Chinese character is a word of its own.

    0 if there are fewer than `least` n-grams: a short text may well say its one sentence twice.
    """
    grams = _run_hashes(_word_hashes(_codes(text)), n)
    return 1.0 - int(_changes(np.sort(grams)).sum()) / len(grams) if len(grams) >= max(1, least) else 0.0


def compression_ratio(text: str) -> float:
    """Size after zlib's compression by size before it: about 0.4 for prose, below 0.1 for loops; 1 for no text."""
    data = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(data, 1)) / len(data) if data else 1.0


def mixes_chinese_and_english(
    text: str,
    *,
    chinese_characters: int = 50,
    chinese_share: float = 0.8,
    english_words: int = 200,
    english_share: float = 0.7,
) -> bool:
    """Whether a Chinese paragraph stands beside an English one (the rule of GLM-4.1V-Thinking's reward system).

    A paragraph, between blank lines, is Chinese with at least `chinese_characters` Chinese characters that are more than
    `chinese_share` of it, and English with at least `english_words` words whose letters are more than `english_share`.
    Blanks are not counted.
    """
    has_chinese = has_english = False
    for paragraph in _paragraphs(text):
        codes = _codes(paragraph)
        size = int((~_is_blank(codes)).sum())
        chinese = _within(codes, _CHINESE)
        if chinese.sum() >= chinese_characters:
            marks = int(_within(codes, _CHINESE_MARKS).sum())
            has_chinese |= int(chinese.sum()) + marks > chinese_share * size
        letters = _within(codes | np.uint32(0x20), ((0x61, 0x7A),)) & (codes < 0x80)
        words = int(_starts(letters).sum())
        if words >= english_words:
            has_english |= int(letters.sum()) > english_share * size
    return has_chinese and has_english


def _paragraphs(text: str) -> list[str]:
    """The parts between blank lines."""
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return ["\n".join(lines) for lines in paragraphs if lines]


def _codes(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _within(codes: Codes, ranges: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    found = np.zeros(len(codes), np.bool_)
    for low, high in ranges:
        found |= (codes >= low) & (codes <= high)
    return found


def _is_blank(codes: Codes) -> NDArray[np.bool_]:
    return (codes <= 0x20) | _within(codes, ((0x7F, 0xA0), (0x2000, 0x200B), (0x2028, 0x2029), (0x3000, 0x3000)))


def _starts(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where runs of True begin."""
    starts = inside.copy()
    starts[1:] &= ~inside[:-1]
    return starts


def _changes(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    changes = np.ones(len(values), np.bool_)
    changes[1:] = values[1:] != values[:-1]
    return changes


def _word_hashes(codes: Codes) -> NDArray[np.uint64]:
    """[words] a hash of each word: a run of characters between blanks, or one Chinese character."""
    chinese = _within(codes, _CHINESE)
    plain = ~(_is_blank(codes) | chinese)
    ends = plain.copy()
    ends[:-1] &= ~plain[1:]
    begin = np.flatnonzero(_starts(plain) | chinese)
    end = np.flatnonzero(ends | chinese) + 1
    prefix, shift = _prefix_hashes(codes.astype(np.uint64))
    return (prefix[end] - prefix[begin]) * shift[begin]


def _run_hashes(items: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """[items - length + 1] a hash of each run of `length` items; empty if there are fewer."""
    if len(items) < length:
        return np.zeros(0, np.uint64)
    prefix, shift = _prefix_hashes(items)
    runs: NDArray[np.uint64] = (prefix[length:] - prefix[:-length]) * shift[: len(items) - length + 1]
    return runs


def _prefix_hashes(items: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Prefix sums [items + 1] of item times power, and the inverse powers [items] that move a run to the start."""
    count = len(items)
    powers: NDArray[Any] = np.full(count, _BASE, np.uint64)
    inverse: NDArray[Any] = np.full(count, _INVERSE, np.uint64)
    powers[:1] = inverse[:1] = 1
    powers, inverse = np.cumprod(powers), np.cumprod(inverse)  # modulo 2^64
    prefix = np.zeros(count + 1, np.uint64)
    np.cumsum((items + np.uint64(1)) * powers, out=prefix[1:])
    return prefix, inverse
