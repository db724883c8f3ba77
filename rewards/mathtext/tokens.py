"""Split the plain spelling of an answer into tokens."""

from __future__ import annotations

import re

from rlcs.rewards.mathtext.normalize import TEXT_CLOSE, TEXT_OPEN
from rlcs.rewards.mathtext.tree import MathTextError

Token = tuple[str, str]
"""Kind and value. Kinds: num, sym, const, fn, cmd, word, text, op, end."""

END: Token = ("end", "")

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan asin acos atan arccot sinh cosh tanh arcsinh arccosh arctanh "
    "ln log lg exp sqrt cbrt abs floor ceil gcd lcm max min det sgn sign Re Im arg binom".split()
)
FUNCTION_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sign": "sgn"}
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar".split()
)
_GREEK_LETTERS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Δ": "Delta", "Σ": "Sigma", "Ω": "Omega",
    "Γ": "Gamma", "Θ": "Theta", "Λ": "Lambda", "Φ": "Phi", "Ψ": "Psi", "Ξ": "Xi",
}  # fmt: skip

_INFINITY = frozenset({"inf", "infty", "infinity", "oo"})
_SHORT_WORDS = frozenset(
    "yes no odd even true all none any dne one two six ten not is the of mon tue wed thu fri sat sun red may day if "
    "cm mm km kg mg ml mL dm ft lb lbs oz mph hr hrs min mins sec secs ms pm am cents USD units in to per".split()
)
"""Runs of two or three letters that are words or units, not products of variables."""
_CASED = frozenset({"mg", "ms"})
"""Of these, which in other capitals are products of variables: `Mg` is not `mg`."""
_LONGEST_PRODUCT = 3
"""A longer run of letters is a word."""

_TOKEN = re.compile(
    rf"(?P<space>\s+)"
    rf"|(?P<thousands>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?!\d|,\d))"
    rf"|(?P<num>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?)"
    rf"|(?P<text>{TEXT_OPEN}[^{TEXT_CLOSE}]*{TEXT_CLOSE})"
    rf"|(?P<cmd>\\(?:[A-Za-z]+|[{{}}|]))"
    rf"|(?P<letters>[A-Za-z]+)"
    rf"|(?P<greek>[Α-Ωα-ω])"
    rf"|(?P<op>\*\*|<=|>=|!=|==|:=|=<|[-+*/^_=<>()\[\]{{}}|,;:!%'])"
    rf"|(?P<cell>&)"
)
_OPERATORS = {"**": "^", "==": "=", ":=": "=", "=<": "<=", "\\{": "\\{", "\\}": "\\}"}
_COMMAND_OPERATORS = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">",
    "ne": "!=", "neq": "!=", "pm": "\\pm", "mp": "\\mp", "cup": "\\cup", "in": "\\in", "mid": "\\mid", "vert": "|",
    "lvert": "\\lvert", "rvert": "\\rvert", "lfloor": "\\lfloor", "rfloor": "\\rfloor", "lceil": "\\lceil",
    "rceil": "\\rceil", "degree": "\\degree", "circ": "\\degree", "colon": ":", "lor": "or", "vee": "or", "land": "and",
    "wedge": "and", "prime": "'", "langle": "(", "rangle": ")", "bmod": "mod", "{": "\\{", "}": "\\}", "|": "\\|",
}  # fmt: skip


def tokenize(text: str) -> list[Token]:
    """The tokens of a normalised answer, with `END` last.

    Raises:
        MathTextError: a character belongs to no token.
    """
    tokens: list[Token] = []
    depth, position = 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise MathTextError(f"the character {text[position]!r} has no meaning here")
        kind, value = match.lastgroup or "", match.group()
        position = match.end()
        if kind == "thousands" and depth:
            # Inside of brackets a comma separates.
            value = value.partition(",")[0]
            position = match.start() + len(value)
            tokens.append(("num", value))
        elif kind == "thousands":
            tokens.append(("num", value.replace(",", "")))
        elif kind == "letters":
            tokens.extend(_letters(value, is_subscript=bool(tokens) and tokens[-1] == ("op", "_")))
        elif kind == "greek":
            tokens.append(("sym", _GREEK_LETTERS.get(value, value)))
        elif kind == "text":
            tokens.append(("text", value[1:-1].strip()))
        elif kind == "cmd":
            tokens.append(_command(value[1:]))
        elif kind == "op":
            tokens.append(("op", _OPERATORS.get(value, value)))
        elif kind == "num":
            tokens.append(("num", value))
        elif kind == "cell":
            tokens.append(("cmd", "cell"))
        if kind in ("op", "cmd"):
            token = tokens[-1][1]
            depth += token in ("(", "[", "{", "\\{")
            depth -= token in (")", "]", "}", "\\}")
    tokens.append(END)
    return _mark_unions(tokens)


def _command(name: str) -> Token:
    if name in _COMMAND_OPERATORS:
        return ("op", _COMMAND_OPERATORS[name])
    if name in FUNCTIONS and name != "binom":
        return ("fn", FUNCTION_ALIASES.get(name, name))
    if name == "pi":
        return ("const", "pi")
    if name in _INFINITY:
        return ("const", "inf")
    if name in GREEK:
        return ("sym", name.removeprefix("var"))
    return ("cmd", name)


def _letters(run: str, *, is_subscript: bool) -> list[Token]:
    """Names out of a run of letters: `xy` is x times y, `sinx` is sin x, `even` is a word."""
    if is_subscript:
        return [("sym", run)]
    lower = run.lower()
    if run in ("or", "and", "OR", "AND"):
        return [("op", lower)]
    if run in FUNCTIONS or (len(run) > 2 and lower in FUNCTIONS):
        name = run if run in FUNCTIONS else lower
        return [("fn", FUNCTION_ALIASES.get(name, name))]
    if lower in _INFINITY:
        return [("const", "inf")]
    if lower == "pi":
        return [("const", "pi")]
    if lower in ("deg", "degree", "degrees"):
        return [("op", "\\degree")]
    if lower in ("percent", "pct"):
        return [("op", "%")]
    if lower in ("nan", "null"):
        raise MathTextError(f"{lower} is no number")
    if run in GREEK:
        return [("sym", run)]
    if len(run) == 1:
        return [("const", run)] if run in "ei" else [("sym", run)]
    if run in _SHORT_WORDS or (lower in _SHORT_WORDS and lower not in _CASED):
        return [("word", run)]
    for prefix in ("arcsin", "arccos", "arctan", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "pi"):
        rest = run[len(prefix) :]
        if run.startswith(prefix) and 0 < len(rest) <= 2:
            return _letters(prefix, is_subscript=False) + _letters(rest, is_subscript=False)
    if len(run) <= _LONGEST_PRODUCT:
        return [token for letter in run for token in _letters(letter, is_subscript=False)]
    return [("word", run)]


def _mark_unions(tokens: list[Token]) -> list[Token]:
    """`(1,2) U (3,4)` is a union."""
    for index in range(1, len(tokens) - 1):
        before, after = tokens[index - 1][1], tokens[index + 1][1]
        if tokens[index] in (("sym", "U"), ("sym", "u")) and before in (")", "]", "\\}") and after in ("(", "[", "\\{"):
            tokens[index] = ("op", "\\cup")
    return tokens
