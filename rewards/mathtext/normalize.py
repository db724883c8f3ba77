"""One spelling for the many in which an answer can be written: Unicode, LaTeX and Chinese forms.

Everything here replaces text by text in time linear in its length; nothing is interpreted yet.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from rlcs.rewards.mathtext.chinese import replace_chinese
from rlcs.rewards.mathtext.tree import MAX_CHARACTERS, MathTextError

TEXT_OPEN, TEXT_CLOSE = "\x02", "\x03"
r"""Stand around the content of a `\text{}`."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("(\\d?)([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")

_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-",
        "×": "*", "⋅": "*", "·": "*", "∙": "*", "•": "*", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
        "≤": "\\le ", "⩽": "\\le ", "≦": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≧": "\\ge ", "≠": "\\ne ",
        "∞": "\\infty ", "π": "\\pi ", "√": "\\sqrt ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset ",
        "±": "\\pm ", "∓": "\\mp ", "°": "\\degree ", "º": "\\degree ", "′": "'", "’": "'",
        "∨": " or ", "∧": " and ", "⟨": "(", "⟩": ")", "【": "[", "】": "]", "〔": "(", "〕": ")",
        "。": ".", "、": ",", "﹪": "%", "∶": ":", "\u200b": None, "\u200c": None, "\u200d": None, "\ufeff": None,
        "\u2061": None, "\u2062": "*", TEXT_OPEN: None, TEXT_CLOSE: None,
    }
)  # fmt: skip

_WRAPPERS = re.compile(
    r"^(?:\$\$(?P<a>[^$]*)\$\$|\$(?P<b>[^$]*)\$|\\\((?P<c>.*)\\\)|\\\[(?P<d>.*)\\\])\s*[.,;]?$", re.DOTALL
)
_SPACING = re.compile(r"\\(?:[,;:!>]|(?:quad|qquad|displaystyle|textstyle|limits|nolimits|hfill)(?![A-Za-z]))|(?<!\\)~")
_SIZES = re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|middle)(?![A-Za-z])\s*")
_WHOLE_TEXT = re.compile(r"^\\(?:text|textrm|textbf|textit|textsf|mbox|hbox)\s*\{\s*([-+]?\d[^{}]*)\}$")
_BOLD = re.compile(r"^\*\*([^*]+)\*\*\.?$")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_FONTS = re.compile(
    r"\\(?:mathrm|mathbf|mathit|mathsf|mathtt|mathcal|boldsymbol|bm|rm|bf|it|operatorname\*?)(?![A-Za-z])"
)
_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|textsf|mbox|hbox)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"^\\f?boxed\s*\{(.*)\}$", re.DOTALL)
_DEGREES = re.compile(r"\s*\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\s*\^\s*\\degree(?![A-Za-z])")
_CURRENCY = re.compile(r"\\\$|[$€£¥￥]")
_THIN_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
_SPACED_THOUSANDS = re.compile(r"^([+-]?)(\d{1,3}(?: \d{3})+)(\.\d+)?$")


def normalize(text: str) -> str:
    """The plain spelling of an answer.

    Raises:
        MathTextError: the text is longer than the limit.
    """
    if len(text) > MAX_CHARACTERS:
        raise MathTextError(f"the answer is longer than {MAX_CHARACTERS} characters")
    text = text.strip()
    if not text.isascii():
        text = _plain_unicode(text)
    text = _unwrap(text)
    if text.startswith("~"):
        raise MathTextError("~ says about")
    text = _THIN_THOUSANDS.sub("", text)
    if "\\" in text or "~" in text:
        text = _plain_latex(text)
    text = _CURRENCY.sub("", text)
    text = " ".join(text.split())
    grouped = _SPACED_THOUSANDS.match(text)
    if grouped:
        text = grouped[1] + grouped[2].replace(" ", "") + (grouped[3] or "")
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    return text


def plain_words(text: str) -> str:
    """A text for comparison as words: NFKC, no markup, no blanks around, any case."""
    text = unicodedata.normalize("NFKC", text)
    text = _TEXT.sub(r"\1", text).replace("$", "").replace("\\", "")
    return " ".join(text.split()).strip(" .。").casefold()


def _unwrap(text: str) -> str:
    """Without the dollar signs, the box, the Markdown stars or the `\\text{}` of a number around the whole."""
    for _ in range(4):
        match = _WRAPPERS.match(text)
        if match:
            text = next(group for group in match.groups() if group is not None).strip()
            continue
        boxed = _BOXED.match(text) or _BOLD.match(text) or _WHOLE_TEXT.match(text)
        if not boxed:
            break
        text = boxed[1].strip()
    return text


def _plain_unicode(text: str) -> str:
    # Superscripts and vulgar fractions first: NFKC would make x2 of x², and 31/2 of 3½.
    text = _SUPERSCRIPT_RUN.sub(lambda match: "^{" + match.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda match: "_{" + match.group().translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(_vulgar_fraction, text)
    text = text.replace("−", "-")  # NFKC keeps the minus sign
    text = unicodedata.normalize("NFKC", text)
    return replace_chinese(text.translate(_CHARACTERS))


def _vulgar_fraction(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[2]).partition("⁄")
    return f"{match[1]} {top}/{bottom}" if match[1] else f"({top}/{bottom})"


def _plain_latex(text: str) -> str:
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _plain_text_command(match: re.Match[str]) -> str:
    content = match[1].strip()
    if content.lower() in ("or", "and", ",", ";"):
        return f" {content} "
    if len(content) <= 1 or re.fullmatch(r"[\d.,/+-]+|\([A-Za-z]\)", content):
        return content
    return f"{TEXT_OPEN}{content}{TEXT_CLOSE}"


_LATEX: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_TEXT, _plain_text_command),
    (re.compile(r"\\\\(?:\[[^\]]*\])?"), r"\\row "),
    (_SPACING, " "),
    (re.compile(r"\\(?: |$)"), " "),
    (re.compile(r"\\(?:left|right)\s*\."), " "),
    (_SIZES, ""),
    (_FRACTIONS, r"\\frac"),
    (_DEGREES, r"\\degree "),
    (_FONTS, " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:lbrace)(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\(?:lparen)(?![A-Za-z])"), "("),
    (re.compile(r"\\(?:rparen)(?![A-Za-z])"), ")"),
    (re.compile(r"\\(?:lbrack)(?![A-Za-z])"), "["),
    (re.compile(r"\\(?:rbrack)(?![A-Za-z])"), "]"),
)
