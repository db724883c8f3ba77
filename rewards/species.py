"""When two formulae are the same species.

Composition and charge must agree, and states must not contradict each other. Where both formulae show structure, it
must agree too: CH3OCH3 is no C2H5OH, [Co(NH3)5Br]SO4 no [Co(NH3)5SO4]Br. A formula that shows none (each element
once: C2H6O) may stand for any of its composition only inside of an equation, or where the reference shows none either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlcs.rewards.formulas import Atom, Formula, Group

_CARBON = re.compile(r"C(\d*)")
_MAX_METHYLS = 6
_ONE_BOND = frozenset({"CH3", "OH", "NH2", "F", "Cl", "Br", "I"})
_Parts = tuple[Atom | Group, ...]


def species_difference(response: Formula, reference: Formula, *, in_equation: bool = False) -> str:
    """Why the response is another species than the reference; empty if it is the same."""
    if response.charge != reference.charge:
        return f"the charge is {response.charge:+d}, not {reference.charge:+d}"
    if response.composition() != reference.composition():
        return "the composition is another"
    if response.state and reference.state and response.state != reference.state:
        return f"the state is ({response.state}), not ({reference.state})"
    shown = _shows_structure(response), _shows_structure(reference)
    if all(shown) and not _same_structure(response, reference):
        return "the structure is another"
    if shown[1] and not shown[0] and not in_equation:
        return "the formula does not show the structure of the reference"
    return ""


def _shows_structure(formula: Formula) -> bool:
    parts = formula.parts[0].parts
    if len(formula.parts) > 1 or any(isinstance(part, Group) for part in parts):
        return True
    symbols = [part.symbol for part in parts if isinstance(part, Atom)]
    return len(symbols) > len(set(symbols))


def _same_structure(one: Formula, other: Formula) -> bool:
    # A complex may be written with its bracket or without; only where both have it does it tell isomers apart.
    flat = not (_has_square(one) and _has_square(other))
    keys = [sorted((part.count, _key(part.parts, flat)) for part in formula.parts) for formula in (one, other)]
    return keys[0] == keys[1]


def _has_square(formula: Formula) -> bool:
    return any(isinstance(part, Group) and part.is_square for group in formula.parts for part in group.parts)


def _key(parts: _Parts, flat: bool) -> str:
    """The same text for the same structure: a carbon chain is read from either end, all else in any order."""
    pieces = list(_pieces(parts, flat))
    carbons = [match for piece in pieces if (match := _CARBON.fullmatch(piece))]
    if sum(int(match[1] or 1) for match in carbons) < 2:
        return "|".join(sorted(pieces))
    chain = _with_branches(_written_out(pieces))
    return "|".join(min(chain, chain[::-1]))


def _pieces(parts: _Parts, flat: bool) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Atom):
            yield f"{'' if part.mass is None else f'^{part.mass}'}{part.symbol}{part.count if part.count > 1 else ''}"
        elif part.count <= _MAX_METHYLS and _is_methyl(part):
            yield from ("C", "H3") * part.count
        elif part.count == 1 and (flat or not part.is_square or len(parts) == 1):
            yield from _pieces(part.parts, flat)
        else:
            yield f"({_key(part.parts, flat)}){part.count}"


def _is_methyl(group: Group) -> bool:
    return [(part.symbol, part.mass, part.count) if isinstance(part, Atom) else None for part in group.parts] == [
        ("C", None, 1),
        ("H", None, 3),
    ]


def _with_branches(groups: list[str]) -> list[str]:
    """A chain in which groups with one bond stand with the atom that bears them, and a carbonyl's oxygen too.

    (CH3)3CH, CH(CH3)3 and CH3CH(CH3)CH3 are CH with three CH3; (CH3)2CO and CH3COCH3 are C with two CH3 and an O.
    """
    first = next((index for index, group in enumerate(groups) if group not in _ONE_BOND), len(groups))
    if first == len(groups):
        return groups
    chain = [(groups[first], groups[:first])]
    for index, group in enumerate(groups[first + 1 :], start=first + 1):
        atom, branches = chain[-1]
        bonds = len(branches) + (len(chain) > 1)
        is_last = index == len(groups) - 1
        if group in _ONE_BOND:
            branches.append(group)
        elif group == "O" and atom == "C" and (bonds == 1 or (bonds == 2 and is_last)):
            branches.append("=O")
        else:
            chain.append((group, []))
    return [f"{atom}[{','.join(sorted(branches))}]" for atom, branches in chain]


def _written_out(pieces: list[str]) -> list[str]:
    """Groups of a carbon chain, each heavy atom with its hydrogens: C2H5OH and HOCH2CH3 are CH3, CH2, OH."""
    text = " ".join(pieces)
    for pattern, replacement in _ALIASES:
        text = pattern.sub(replacement, text)
    groups: list[str] = []
    pending = ""
    for piece in text.split():
        if re.fullmatch(r"H\d*", piece):
            if groups and not groups[-1].endswith(")") and "H" not in groups[-1]:
                groups[-1] += piece
            else:
                pending = piece
        else:
            groups.append(piece + pending)
            pending = ""
    return groups + ([pending] if pending else [])


_ALIASES = (
    (re.compile(r"^H C2 H3 O2$"), "C H3 C O O H"),
    (re.compile(r"\bC2 H3 O2\b"), "C H3 C O O"),
    (re.compile(r"(?<=O )C2 H5$"), "C H2 C H3"),
    (re.compile(r"\bC2 H5\b"), "C H3 C H2"),
    (re.compile(r"\bC3 H7\b"), "C H3 C H2 C H2"),
    (re.compile(r"\bC4 H9\b"), "C H3 C H2 C H2 C H2"),
    (re.compile(r"\bC O2\b"), "C O O"),
    (re.compile(r"^H O O C\b"), "C O O H"),
    (re.compile(r"^O H C\b"), "C H O"),
)
"""Pieces that are written in more than one way."""
