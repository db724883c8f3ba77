"""Marks of plain text that quantities, units and formulae read alike: Unicode superscripts, characters without a shape."""

from __future__ import annotations

import re

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def plain_superscripts(text: str, form: str = "^{{{}}}") -> str:
    """Each run of superscripts as its plain characters in `form`: `m²` is `m^{2}`. Before NFKC, which makes `m2` of it."""
    return _SUPERSCRIPT_RUN.sub(lambda match: form.format(match.group().translate(_SUPERSCRIPTS)), text)


def without_invisible(text: str) -> str:
    """The text without zero-width characters and direction marks."""
    return _INVISIBLE.sub("", text)
