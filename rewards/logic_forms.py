"""The structure of a logic answer: truth values, orderings, assignments, truth tables and grids.

`read_form` gives a nested tuple of texts whose first item names its kind. Equal forms are equal answers:

| form | written as |
|---|---|
| `("truth", "true")` | `yes`, `True`, `成立`, `cannot be determined` |
| `("order", a, b, c)` | `A > B > C`, `C < B < A`, `A -> B -> C`, `A, B, C`, `["A", "B", "C"]`; ties `A = B > C` |
| `("pairs", {(label, value)})` | `{"A": true}`, `A: knight, B: knave`, `A = T; B = F` |
| `("grid", {(row, column, value)})` | an object or a list of JSON objects, lines `House 1: color=red, pet=dog`, a table |
| `("rows", (cells...), ...)` | a truth table without a header, `1010`, `TTFT` |
| `("number", value)` | `12` |
| `("words", text)` | anything else |

A table with a header is a grid whose rows are named by their first cell, or, if it is a truth table (nothing but truth
values below the header), the set of its rows by column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rlcs.rewards.items import (
    MAX_ITEMS,
    ItemsError,
    read_json,
    read_list,
    read_pairs,
    read_sentences,
    scalar_text,
    split,
)
from rlcs.rewards.short_numbers import read_amount
from rlcs.rewards.text import folded, plain, truth_word, unfenced, unwrap

MAX_CHARACTERS = 6_000

Form = tuple[Any, ...]

_BITS = {"1": "true", "0": "false", "t": "true", "f": "false", "true": "true", "false": "false"}
_BIT_RUN = re.compile(r"[01]{2,64}|[TF]{2,64}")
_LETTER = re.compile(r"\(([A-Za-z])\)")
_SPACED_BITS = re.compile(r"[01TF](?: [01TF]){1,63}")
_ORDER = re.compile(r"\s*(->|→|⇒|=>|>|<|≻|≺|=)\s*")
_NAMED_NUMBER = re.compile(
    r"(?:house|position|person|seat|place|room|day|floor|box|number|no\.?|#)\s*(\d{1,3})|第?(\d{1,3})(?:号|位|个|层)?"
)
_RULE = re.compile(r"[\s|:+\-=─┼]+")


class FormError(ValueError):
    """A text has the look of a structure and cannot be read as one."""


def read_form(text: str) -> Form:
    """The form of an answer.

    Raises:
        FormError: it is too long, or a structure that names something twice or has rows of several lengths.
    """
    if len(text) > MAX_CHARACTERS:
        raise FormError(f"it is longer than {MAX_CHARACTERS:,} characters")
    text = unfenced(text)
    if "\n" not in text:
        text = unwrap(text)
    if not folded(text):
        raise FormError("it is empty")
    truth = truth_word(text)
    if truth:
        return ("truth", truth)
    if text[0] in "[{":
        try:
            return _json_form(read_json(text, MAX_CHARACTERS))
        except ItemsError as error:
            if text[0] == "{" or "twice" in str(error) or "deeply" in str(error):
                pairs = read_pairs(text)
                if pairs is None:
                    raise FormError(f"it looks like JSON and is none: {error}") from None
                return _pairs_form(pairs)
    lines = [line for line in text.split("\n") if line.strip() and not _RULE.fullmatch(line)]
    if len(lines) > MAX_ITEMS + 1:
        raise FormError(f"it has more than {MAX_ITEMS} lines")
    if len(lines) > 1:
        table = _table_form(lines)
        if table:
            return table
        grid = _grid_of_lines(lines)
        if grid:
            return grid
    amount = read_amount(text)
    bits = _SPACED_BITS.fullmatch(text)
    if bits:
        text = "".join(text.split())
    if _BIT_RUN.fullmatch(text):
        return ("rows", tuple(_BITS[character.lower()] for character in text))
    if amount is not None:
        return ("number", amount.value)
    order = _order_form(text)
    if order:
        return order
    pairs = read_pairs(text)
    if pairs:
        return _pairs_form(pairs)
    pairs = read_sentences(text)
    if pairs:
        return _pairs_form(pairs)
    items = read_list(text, split_and=False)
    if items:
        return ("order", *(_value(item) for item in items))
    letter = _LETTER.fullmatch(text)
    return ("words", folded(letter[1] if letter else text).removeprefix("the "))


def as_set(form: Form) -> Form:
    """An ordering as a set: the same items in any order."""
    return ("set", *sorted(map(str, form[1:]))) if form[0] == "order" else form


def with_truths(form: Form, model: Form) -> Form:
    """Pairs whose values 1 and 0 are truth values, if those of `model` are nothing else."""
    if form[0] != "pairs" or model[0] != "pairs" or not {value for _, value in model[1]} <= {"<true>", "<false>"}:
        return form
    return ("pairs", frozenset((name, {"1": "<true>", "0": "<false>"}.get(value, value)) for name, value in form[1]))


def _json_form(value: Any) -> Form:
    if isinstance(value, Mapping):
        if not value:
            raise FormError("it is empty")
        if {folded(key) for key in value} == {"header", "rows"}:
            return _json_table(value)
        if len({_label(key) for key in value}) != len(value):
            raise FormError("it names something twice")
        if all(isinstance(item, Mapping) for item in value.values()):
            return _grid({key: _flat(row) for key, row in value.items()})
        if any(isinstance(item, Mapping) for item in value.values()):
            raise FormError("its values are objects and texts")
        return ("pairs", frozenset((_label(key), _json_value(item)) for key, item in value.items()))
    if not value:
        raise FormError("it is empty")
    if all(isinstance(item, Mapping) for item in value):
        rows = [_flat(item) for item in value]
        header = [folded(key) for key in rows[0]]
        if any([folded(key) for key in row] != header for row in rows):
            # Objects may name their parts in any order.
            rows = [{key: row[key] for key in rows[0]} if row.keys() == rows[0].keys() else {} for row in rows]
        return _table(header, [list(row.values()) for row in rows])
    if all(isinstance(item, list) for item in value):
        rows_of_texts = [[scalar_text(cell) for cell in row if not isinstance(cell, list | dict)] for row in value]
        if any(len(row) != len(cells) for row, cells in zip(value, rows_of_texts, strict=True)):
            raise FormError("it is nested too deeply")
        return ("rows", *(tuple(_cell(cell) for cell in row) for row in rows_of_texts))
    if any(isinstance(item, list | dict) for item in value):
        raise FormError("it mixes lists, objects and texts")
    return ("order", *(_value(scalar_text(item)) for item in value))


def _json_table(value: Mapping[str, Any]) -> Form:
    header, rows = (value[key] for key in sorted(value, key=folded))
    if not isinstance(header, list) or not isinstance(rows, list) or any(not isinstance(row, list) for row in rows):
        raise FormError("header and rows must be lists")
    if any(isinstance(cell, list | dict) for row in [header, *rows] for cell in row):
        raise FormError("it is nested too deeply")
    return _table([folded(scalar_text(cell)) for cell in header], [[scalar_text(cell) for cell in row] for row in rows])


def _flat(row: Mapping[str, Any]) -> dict[str, str]:
    if any(isinstance(item, list | dict) for item in row.values()):
        raise FormError("it is nested too deeply")
    return {key: scalar_text(item) for key, item in row.items()}


def _json_value(item: Any) -> Any:
    if isinstance(item, list):
        if any(isinstance(part, list | dict) for part in item):
            raise FormError("it is nested too deeply")
        return ("order", *(_value(scalar_text(part)) for part in item))
    return _value(scalar_text(item))


def _pairs_form(pairs: Mapping[str, str]) -> Form:
    found = {_label(label): _value(value) for label, value in pairs.items()}
    if len(found) != len(pairs):
        raise FormError("it names something twice")
    return ("pairs", frozenset(found.items()))


def _order_form(text: str) -> Form | None:
    """`A > B > C`: all links in one direction; `A < B` is `B > A`; `=` joins ties, beside `<` or `>` only."""
    parts = _ORDER.split(plain(text))
    names, links = parts[::2], set(parts[1::2])
    if (
        len(names) < 2
        or not all(names)
        or len(names) > MAX_ITEMS
        or ("=" in links and not links & {"<", ">", "≻", "≺"})
    ):
        return None
    if len(links - {"="}) != 1 or any(set(name) & set(",;:") for name in names):
        return None
    groups: list[set[str]] = [{_value(names[0])}]
    for link, name in zip(parts[1::2], names[1:], strict=True):
        if link == "=":
            groups[-1].add(_value(name))
        else:
            groups.append({_value(name)})
    if sum(map(len, groups)) != len(names) or len(set().union(*groups)) != len(names):
        raise FormError("it names something twice")
    if links & {"<", "≺"}:
        groups.reverse()
    return ("order", *(min(group) if len(group) == 1 else tuple(sorted(group)) for group in groups))


def _table_form(lines: list[str]) -> Form | None:
    """Lines of cells, between bars, tabs or blanks."""
    if all("|" in line for line in lines) or all("\t" in line for line in lines):
        mark = "|" if "|" in lines[0] else "\t"
        # A truth table may have one bar between inputs and outputs, and blanks between the inputs.
        cells = [[plain(cell) for cell in line.strip().strip(mark).split(mark)] for line in lines]
        if all(_is_bit(cell) for row in cells[1:] for part in row for cell in part.split()):
            cells = [_parts(cells[0], cells[1] if len(cells) > 1 else []), *(_parts(row, row) for row in cells[1:])]
    else:
        cells = [plain(line).split() for line in lines]
        if not all(_is_bit(cell) for row in cells[1:] for cell in row):
            return None
    if len({len(row) for row in cells}) != 1:
        raise FormError("its rows have several lengths")
    if all(_is_bit(cell) for cell in cells[0]):
        return ("rows", *(tuple(_cell(cell) for cell in row) for row in cells))
    return _table([folded(cell) for cell in cells[0]], cells[1:])


def _parts(row: list[str], pattern: list[str]) -> list[str]:
    """The cells of a row, split at blanks where the cell of the same place in `pattern` has as many words."""
    if len(row) != len(pattern):
        return row
    pairs = [(cell, cell.split(), model.split()) for cell, model in zip(row, pattern, strict=True)]
    return [word for cell, words, model in pairs for word in (words if len(words) == len(model) else [cell])]


def _table(header: list[str], rows: list[list[str]]) -> Form:
    if not rows or any(len(row) != len(header) for row in rows) or len(set(header)) != len(header):
        raise FormError("its rows are not as long as the header, or two columns have one name")
    if all(_is_bit(cell) for row in rows for cell in row):
        table = frozenset(frozenset(zip(header, map(_cell, row), strict=True)) for row in rows)
        if len(table) != len(rows):
            raise FormError("a row is given twice")
        return ("table", table)
    names = [row[0] for row in rows]
    if len({_label(name) for name in names}) != len(names):
        raise FormError("a row is named twice")
    return _grid({row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows})


def _grid_of_lines(lines: list[str]) -> Form | None:
    """Lines `House 1: color=red, pet=dog`."""
    grid: dict[str, dict[str, str]] = {}
    for line in lines:
        name, colon, rest = plain(line.strip().lstrip("-*• ")).partition(":")
        row = read_pairs(rest) if colon and len(split(rest)) > 0 else None
        if row is None:
            return None
        if name in grid:
            raise FormError("a row is named twice")
        grid[name] = row
    return _grid(grid)


def _grid(rows: Mapping[str, Mapping[str, str]]) -> Form:
    cells = [
        (_label(name), folded(column), _value(value)) for name, row in rows.items() for column, value in row.items()
    ]
    if len({cell[:2] for cell in cells}) != len(cells) or not cells:
        raise FormError("it names something twice, or is empty")
    return ("grid", frozenset(cells))


def _label(text: str) -> str:
    """`House 1`, `第1号` and `1` are one name."""
    label = folded(text).strip("*_ ")
    match = _NAMED_NUMBER.fullmatch(label)
    return (match[1] or match[2]).lstrip("0") if match else label


def _value(text: str) -> str:
    """A cell, an item or a value: truth words and plain whole numbers by meaning, else by words."""
    truth = truth_word(text)
    if truth and (len(plain(text)) > 1 or plain(text) in ("T", "F", "真", "假", "是", "否", "对", "错")):
        return f"<{truth}>"
    amount = read_amount(text)
    return (
        str(amount.value) if amount and not amount.unit and not amount.is_percent else folded(text).removeprefix("the ")
    )


def _is_bit(text: str) -> bool:
    return folded(text) in _BITS


def _cell(text: str) -> str:
    return _BITS.get(folded(text)) or _value(text)
