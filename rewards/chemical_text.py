r"""One spelling for the many of formulae and equations: `\ce{}`, `\mathrm{}`, `_{}`, Unicode indices, arrows."""

from __future__ import annotations

import re
import unicodedata

from rlcs.rewards.marks import plain_superscripts, without_invisible

MAX_CHARACTERS = 600
ARROW = "→"

_CHARACTERS = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "＋": "+", "⋅": "·", "•": "·", "∙": "·",
                             "・": "·", "*": "·", "⁄": "/", "【": "[", "】": "]", "〔": "[", "〕": "]"})  # fmt: skip
_FONTS = re.compile(
    r"\\(?:ce|cf|mathrm|text|textrm|mathbf|mathit|mathsf|operatorname|rm|mbox|f?boxed|displaystyle|left|right)(?![A-Za-z])"
)
_TEXT = re.compile(r"\\(?:text|textrm|mathrm|rm|ce)\s?\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:!> ]|~|\\(?:quad|qquad)(?![A-Za-z])|\$|\\[()\[\]]|&")
_FRACTION = re.compile(r"\\[dt]?frac\s?\{?\s?(\d{1,4})\s?\}?\s?\{?\s?(\d{1,4})\s?\}?")
_STACKED = re.compile(r"\\(?:overset|underset|stackrel)\s?\{[^{}]*\}\s?(?:\{([^{}]*)\}|(\\[A-Za-z]+|=))")
_LATEX_ARROW = re.compile(
    r"\\(?:x(?:rightarrow|longequal|rightleftharpoons|leftrightarrow|longrightarrow)\s?(?:\[[^\[\]]*\])?\s?\{[^{}]*\}"
    r"|(?:long|Long)?(?:right|Right|leftright)arrow(?![A-Za-z])|to(?![A-Za-z])|rightleftharpoons(?![A-Za-z])"
    r"|leftrightharpoons(?![A-Za-z])|rightleftarrows(?![A-Za-z])|longrightleftharpoons(?![A-Za-z]))"
)
_PLAIN_ARROW = re.compile(r"<[-=]{1,4}>|[-=]{1,4}>|[⇌⇄⇋⟶➝⟹⇒⟷↔→]")
_CONDITION = re.compile(r"[-=]{1,4}\s?\(?[\u4e00-\u9fff△Δ、,/]{1,20}\)?\s?[-=]{1,4}>?")
_MHCHEM_CONDITION = re.compile(rf"{ARROW}(?:\[[^\[\]]*\]){{1,2}}(?=\s)")
_COMMANDS = {
    r"\cdot": "·", r"\bullet": "·", r"\uparrow": "↑", r"\downarrow": "↓", r"\equiv": "≡", r"\alpha": "α",
    r"\beta": "β", r"\gamma": "γ",
}  # fmt: skip
_COMMAND = re.compile(r"\\[A-Za-z]+")
_INDEX = re.compile(r"([_^])\s?\{\s?([^{}]*?)\s?\}")
_SUBSCRIPT = re.compile(r"(?<!\^)(?<!\^\d)(?<!\^\d\d)(?<!\^\d\d\d)_(?!-?\d{1,3}\^\d{1,3}[A-Z])(?=[\dn(])")


def plain_chemistry(text: str) -> str:
    """A formula, list or equation in plain characters; all arrows but `=` are `ARROW`, their conditions are gone.

    Raises:
        ValueError: the text is longer than the limit.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the answer is longer than {MAX_CHARACTERS} characters")
    text = plain_superscripts(text)
    text = unicodedata.normalize("NFKC", without_invisible(text)).translate(_CHARACTERS)
    text = _FONTS.sub("", _TEXT.sub(r"\1", _SPACING.sub(" ", text)))
    text = _FRACTION.sub(r" \1/\2 ", text)
    text = _STACKED.sub(lambda match: match[1] or match[2], _STACKED.sub(lambda match: match[1] or match[2], text))
    text = _PLAIN_ARROW.sub(ARROW, _CONDITION.sub(ARROW, _LATEX_ARROW.sub(ARROW, text)))
    text = _MHCHEM_CONDITION.sub(ARROW, text)
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match.group(), match.group()), text)
    text = _INDEX.sub(r"\1\2", text).replace("{", "").replace("}", "").replace("_+", "_")
    text = _SUBSCRIPT.sub("", " ".join(text.split()).replace("^ ", "^"))
    return text.strip(" .。,;")
