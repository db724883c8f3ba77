"""Chemical and nuclear equations: read, checked for balance, compared.

An equation is right if it has the reference's species on the same sides, in any order, and its coefficients are the
reference's times one factor. Whether it is balanced is exact arithmetic: `fractions` over elements and charge, for
nuclear equations over mass and charge numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rlcs.rewards.chemical_text import ARROW
from rlcs.rewards.formulas import Atom, Formula, FormulaError, parse_formula
from rlcs.rewards.species import species_difference

_MAX_TERMS = 16
_COEFFICIENT = re.compile(
    r"\(?(?P<number>\d{1,4}\s?/\s?\d{1,4}|\d{1,4}(?:\.\d{1,4})?|\.\d{1,4})\)?\s?(?=[A-Z(\[^_enpαβγ])"
)
_STATE = re.compile(r"\((?:s|l|g|aq)\)", re.IGNORECASE)
_CARET = re.compile(r"\^\d{0,2}$")


@dataclass(frozen=True, slots=True)
class Term:
    """A species and its coefficient."""

    coefficient: Fraction
    formula: Formula


@dataclass(frozen=True, slots=True)
class Reaction:
    """Both sides of an equation."""

    left: tuple[Term, ...]
    right: tuple[Term, ...]


@lru_cache(maxsize=4096)
def parse_reaction(text: str) -> Reaction | None:
    """The equation in a text of `plain_chemistry`; None if it has no arrow or `=` between formulae.

    Raises:
        FormulaError: it has an arrow, but its sides are no formulae.
    """
    if ARROW in text:
        sides = text.split(ARROW)
        if len(sides) != 2:
            raise FormulaError("an equation has one arrow")
        return Reaction(_side(sides[0]), _side(sides[1]))
    sides = re.split("=+", text)
    if len(sides) != 2:
        return None
    try:
        reaction = Reaction(_side(sides[0]), _side(sides[1]))
    except FormulaError:
        return None
    # CH2=CH2 has a double bond, and F = 5 N is a quantity.
    if "+" not in text and (reaction.left == reaction.right or imbalance(reaction)):
        return None
    return reaction


def imbalance(reaction: Reaction) -> str:
    """What differs between the sides; empty if the equation is balanced."""
    nuclear = _is_nuclear(reaction)
    totals: dict[str, Fraction] = {}
    for sign, terms in ((1, reaction.left), (-1, reaction.right)):
        for term in terms:
            for what, amount in _content(term.formula, nuclear).items():
                totals[what] = totals.get(what, Fraction(0)) + sign * term.coefficient * amount
    wrong = [what for what, total in totals.items() if total]
    return f"the equation is not balanced in {', '.join(sorted(wrong))}" if wrong else ""


def reaction_difference(response: Reaction, reference: Reaction) -> str:
    """Why the response is another equation than the reference; empty if it is the same."""
    unbalanced = imbalance(response)
    if unbalanced:
        return unbalanced
    factors: set[Fraction] = set()
    for mine, theirs in ((response.left, reference.left), (response.right, reference.right)):
        if len(mine) != len(theirs):
            return "the equation has another number of species"
        remaining = list(mine)
        for term in theirs:
            partner = _partner(term, remaining)
            if isinstance(partner, str):
                return partner
            remaining.remove(partner)
            factors.add(partner.coefficient / term.coefficient)
    return "" if len(factors) == 1 else "the coefficients have other ratios"


def _partner(term: Term, candidates: list[Term]) -> Term | str:
    """The term of the same species, one with the same state if there is one; else why there is none."""
    reason = "a species is missing or another"
    found: Term | None = None
    for candidate in candidates:
        difference = species_difference(candidate.formula, term.formula, in_equation=True)
        if not difference and (found is None or candidate.formula.state == term.formula.state):
            found = candidate
        elif difference.startswith("the state"):
            reason = difference
    return found or reason


def _is_nuclear(reaction: Reaction) -> bool:
    terms = (*reaction.left, *reaction.right)
    return all(_lone_atom(term.formula) is not None for term in terms)


def _lone_atom(formula: Formula) -> Atom | None:
    """The isotope or particle that a species is."""
    parts = formula.parts[0].parts
    atom = parts[0]
    if len(formula.parts) == len(parts) == 1 and isinstance(atom, Atom) and atom.count == 1 and atom.mass is not None:
        return atom
    return None


def _content(formula: Formula, nuclear: bool) -> dict[str, int]:
    atom = _lone_atom(formula)
    if nuclear and atom is not None:
        return {"mass number": atom.mass or 0, "charge number": atom.number}
    content: dict[str, int] = {"charge": formula.charge}
    for (symbol, mass), count in formula.composition().items():
        if symbol not in ("e", "γ"):
            content[symbol if mass is None else f"{symbol}-{mass}"] = count
    return content


def _side(text: str) -> tuple[Term, ...]:
    merged: dict[Formula, Fraction] = {}
    terms = _split(text)
    if len(terms) > _MAX_TERMS:
        raise FormulaError(f"an equation has more than {_MAX_TERMS} species on a side")
    for term in terms:
        coefficient, formula = _term(term)
        merged[formula] = merged.get(formula, Fraction(0)) + coefficient
    return tuple(Term(coefficient, formula) for formula, coefficient in merged.items())


def _split(text: str) -> list[str]:
    """The species of a side: a `+` is a charge if it follows a `^`, or ends its species."""
    terms, start = [], 0
    for position, character in enumerate(text):
        if (
            character != "+"
            or _CARET.search(text[max(0, position - 3) : position])
            or text[position - 1 : position] == "^"
        ):
            continue
        rest = text[position + 1 : position + 8].lstrip()
        is_attached = position > start and not text[position - 1].isspace()
        if is_attached and (not text[position + 1 :].strip() or rest[0] in "+↑↓" or _STATE.match(rest)):
            continue
        terms.append(text[start:position])
        start = position + 1
    return [*terms, text[start:]]


def _term(text: str) -> tuple[Fraction, Formula]:
    text = text.strip()
    match = _COEFFICIENT.match(text)
    if match is None:
        return Fraction(1), parse_formula(text)
    top, _, bottom = match["number"].partition("/")
    if (bottom and int(bottom) == 0) or not Fraction(top):
        raise FormulaError("a coefficient is zero")
    return Fraction(top) / int(bottom or 1), parse_formula(text[match.end() :])
