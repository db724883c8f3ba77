"""YAML as configurations need it: a safe subset that knows on which line everything stands.

The scalar rules are those of YAML 1.2: `1e-3` is a number, `no` and `2024-01-01` are text, `010` is ten. Duplicate keys,
keys that are no text, tags, and documents that expand without bound are refused. What `dump` writes, `parse` reads back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""Where a value stands: mapping keys and list indices from the root."""

_MAX_NODES = 50_000
_MAX_DEPTH = 50
_MAX_NUMBER_LENGTH = 300

_TAG = "tag:yaml.org,2002:"
_SCALAR_RULES = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?[0-9]+(?:_[0-9]+)*$|^0o[0-7]+$|^0x[0-9a-fA-F]+$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"
            r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+0123456789."),
    ),
)


class YAMLProblem(Exception):
    """Text that is not the YAML we take; `line` counts from 1, or is None where no line is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document."""

    value: Any
    """Dicts with text keys, lists, text, numbers, booleans and None."""
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """The line, counted from 1, of every mapping key and list item."""


class _Loader(yaml.BaseLoader):
    """Composes nodes; knows no scalar but ours."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or our rules would read as something else, so that other readers agree."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes Unicode's own line breaks as they are, and folds them when it reads them: escape them.
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _kind, _pattern, _first in _SCALAR_RULES:
    _Loader.add_implicit_resolver(_TAG + _kind, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _kind, _pattern, _first)


def parse(text: str) -> Document:
    """Parse one document.

    Raises:
        YAMLProblem: not YAML, several documents, a duplicate key, a key that is no text, a tag, too large.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YAMLProblem(f"character #x{int(error.character):04x} is not allowed in YAML", line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(error.problem or error.context or "syntax error").split())
        raise YAMLProblem(f"not valid YAML: {reason}", mark.line + 1 if mark else None) from error
    except RecursionError as error:
        raise YAMLProblem("nested too deeply") from error
    except (ValueError, OverflowError, yaml.YAMLError) as error:  # escapes such as "\UFFFFFFFF" reach chr() unchecked
        raise YAMLProblem(f"not valid YAML: {error}") from error
    if root is None:
        return Document(None)
    lines: dict[KeyPath, int] = {}
    return Document(_Walk(lines).value(root, ()), lines)


def parse_scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means: None, a boolean, a number, or the text itself.

    Raises:
        YAMLProblem: a number of absurd length, or text that is not valid Unicode.
    """
    for kind, pattern, _ in _SCALAR_RULES:
        if pattern.match(text):
            return _scalar(kind, text)
    return _scalar("str", text)


def dump(value: Any) -> str:
    """YAML text of dicts, lists and scalars, in their order, that `parse` reads back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Walk:
    """Turns nodes into values. Written out, because PyYAML's constructor lets duplicate keys pass and loses lines."""

    def __init__(self, lines: dict[KeyPath, int]) -> None:
        self.lines = lines
        self.nodes_left = _MAX_NODES

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes_left -= 1
        line = node.start_mark.line + 1
        if self.nodes_left < 0 or len(path) > _MAX_DEPTH:
            raise YAMLProblem("too large or nested too deeply (do aliases repeat each other?)", line)
        if isinstance(node, yaml.MappingNode):
            self._plain_tag(node, "map")
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._plain_tag(node, "seq")
            items = []
            for index, item in enumerate(node.value):
                self.lines[*path, index] = item.start_mark.line + 1
                items.append(self.value(item, (*path, index)))
            return items
        try:
            return _scalar(node.tag.removeprefix(_TAG), node.value)
        except YAMLProblem as problem:
            raise YAMLProblem(str(problem), line) from problem

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self.value(key_node, path)
            if not isinstance(key, str):
                raise YAMLProblem(f"a key must be text, but {str(key_node.value)[:40]} is not: quote it", line)
            if key in result:
                raise YAMLProblem(f"key {key!r} is given twice, first on line {self.lines[*path, key]}", line)
            self.lines[*path, key] = line
            result[key] = self.value(value_node, (*path, key))
        return result

    def _plain_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != _TAG + kind:
            raise YAMLProblem(f"the tag {node.tag} is not supported: leave it out", node.start_mark.line + 1)


def _scalar(kind: str, text: str) -> Any:
    make = _CONSTRUCTORS.get(kind)
    if make is None:
        raise YAMLProblem(f"the tag {kind} is not supported: leave it out")
    if kind != "str" and len(text) > _MAX_NUMBER_LENGTH:
        raise YAMLProblem(f"a number of {len(text)} characters is not supported")
    try:
        text.encode()
        return make(text)
    except UnicodeEncodeError as error:
        raise YAMLProblem(f"text {text[:40]!a} is not valid Unicode") from error
    except (ValueError, KeyError) as error:
        raise YAMLProblem(f"{text[:40]!r} is not of type {kind}") from error


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _float(text: str) -> float:
    special = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
    lowered = text.lower()
    return special[lowered] if lowered in special else float(text)


_CONSTRUCTORS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _integer,
    "float": _float,
    "str": str,
}
