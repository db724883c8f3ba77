"""Configurations from YAML files with overrides, and back to YAML.

Every problem becomes one `ConfigError` line that says where: the file and line, or the override. Types are strict: `true`
is no number and `"5"` is none either. Lookups of settings for people (`explain`, `reference_markdown`) come from
`rlcs.config_reference`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rlcs.config import Config, Section
from rlcs.config_reference import explain, reference_markdown, section_at, section_of, settings
from rlcs.errors import ConfigError
from rlcs.yaml_text import Document, KeyPath, YAMLProblem, dump, parse, parse_scalar

__all__ = ["dump_config", "explain", "load_config", "reference_markdown"]

_MAX_FILE_BYTES = 2**20
_MAX_SHOWN = 60

_Top = TypeVar("_Top", bound=Section)

_WORDS = {
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid array": "a list",
    "a valid list": "a list",
    "a valid dictionary": "a mapping (key: value)",
    "an object": "a mapping (key: value)",
}
"""Pydantic's names of types, in words that fit a YAML file."""


@dataclass(slots=True)
class _Source:
    """The values of a file with its overrides, and where each came from."""

    file: str
    model: type[Section]
    """What the values must be as a whole."""
    tree: dict[str, Any]
    origins: dict[KeyPath, str]
    """`FILE, line N` or `override 'KEY=VALUE'` of each key path."""

    def where(self, path: KeyPath) -> str:
        """The origin of the value at `path`, or of the nearest section around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.file


@overload
def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config: ...


@overload
def load_config(path: str | Path, overrides: Sequence[str], model: type[_Top]) -> _Top: ...


def load_config(path: str | Path, overrides: Sequence[str] = (), model: type[Section] = Config) -> Section:
    """Read a YAML file, apply overrides of the form `key.sub=value`, and check the result.

    `model` is what the file describes: a run, or the settings of another command.

    An override's value is text, a number, true, false or null as in YAML, or a list or mapping in flow style
    (`curriculum.domain_mix={sums: 2, words: 1}`). A number names an item of a list: `data.tasks.0.task=chain_sum`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or a setting is unknown, missing or wrong. One line: the first
            problem with its file and line, or its override, and how many more there are.
    """
    source = _read(Path(path), model)
    for override in overrides:
        _apply(source, override)
    _fill_empty_sections(source)
    try:
        # JSON is the one input for which pydantic's strict mode takes what a file can hold: a path is text there.
        return model.model_validate_json(json.dumps(source.tree), strict=True)
    except ValidationError as error:
        raise ConfigError(_condense(error, source)) from error


def dump_config(config: Section) -> str:
    """YAML text of every setting, defaults included, that `load_config` reads back to an equal configuration."""
    return dump(config.model_dump(mode="json"))


def _read(path: Path, model: type[Section]) -> _Source:
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(_why_unreadable(path, error)) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{file}: larger than {_MAX_FILE_BYTES >> 20} MiB, so it is no configuration")
    try:
        document = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 text; save the file as UTF-8") from error
    except YAMLProblem as problem:
        place = file if problem.line is None else f"{file}, line {problem.line}"
        raise ConfigError(f"{place}: {problem}") from problem
    tree = {} if document.value is None else document.value
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: the file must hold settings (key: value), not a {type(tree).__name__}")
    return _Source(file, model, tree, {key: f"{file}, line {line}" for key, line in document.lines.items()})


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        siblings = [str(sibling) for sibling in path.parent.glob("*.yaml")]
        near = difflib.get_close_matches(str(path), siblings, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"there is no configuration file {path}{hint}"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder; name a configuration file in it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"configuration file {path!s} cannot be read: {reason}"


def _apply(source: _Source, override: str) -> None:
    """Set one `key.sub=value` in the tree, and note it as the origin of that key."""
    label = f"override {_shorten(override)}"
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"{label}: write it as key.sub=value, such as train.steps=50")
    try:
        value = _override_value(text.strip())
    except YAMLProblem as problem:
        raise ConfigError(f"{label}: {problem}") from problem
    path: KeyPath = ()
    node: Any = source.tree
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        step = _step(node, part)
        if step is None:
            around = ".".join(parts[:depth])
            holds = f"has {len(node)} items" if isinstance(node, list) else "holds a value, not settings"
            raise ConfigError(f"{label}: {around} {holds}, so there is no {key.strip()}")
        path = (*path, step)
        if last:
            node[step] = value
        elif isinstance(step, str) and node.get(step) is None:
            node[step] = {}
            source.origins.setdefault(path, label)
        node = node[step]
    for known in [known for known in source.origins if known[: len(path)] == path]:
        del source.origins[known]
    source.origins[path] = label


def _override_value(text: str) -> Any:
    """Quoted text and flow collections are YAML; anything else is a plain scalar, so `:` and `#` in it are only text."""
    document = parse(text) if text[:1] in ("[", "{", '"', "'") else Document(parse_scalar(text))
    return document.value


def _step(node: Any, part: str) -> str | int | None:
    """The key or index that `part` means in `node`, or None if it means nothing there."""
    if isinstance(node, dict):
        return part
    if isinstance(node, list) and part.isascii() and part.isdigit() and len(part) < 6 and int(part) < len(node):
        return int(part)
    return None


def _fill_empty_sections(source: _Source) -> None:
    """A section whose settings are all commented out reads as null: that means its defaults."""
    for name, info in source.model.model_fields.items():
        if name in source.tree and source.tree[name] is None and section_of(info.annotation) is not None:
            source.tree[name] = {}


def _condense(error: ValidationError, source: _Source) -> str:
    """The first problem in one line, unknown keys before all others, and how many more there are."""
    problems = error.errors(include_url=False)
    order = list(source.origins)
    places = {path: index for index, path in enumerate(order)}

    def rank(problem: ErrorDetails) -> tuple[bool, int]:
        path = tuple(problem["loc"])
        known = [places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places]
        return problem["type"] != "extra_forbidden", known[0] if known else len(places)

    problems.sort(key=rank)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return " ".join(_explain_problem(problems[0], source).split()) + more


def _explain_problem(problem: ErrorDetails, source: _Source) -> str:
    path = tuple(problem["loc"])
    key = ".".join(map(str, path))
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        return f"{source.where(path)}: {key} is no setting; {_nearest(path, source.model)}"
    if kind == "missing":
        return f"{source.where(path)}: {key} is missing"
    if kind == "value_error":
        return f"{_where_mentioned(path, message, source)}: {message.removeprefix('Value error, ')}"
    should = re.sub(r"^[A-Z][a-z]+ (?=should )", "", message)
    if should == message:
        return f"{source.where(path)}: {key}: {message}"
    for word, ours in _WORDS.items():
        should = should.replace(f"be {word}", f"be {ours}")
    value = problem["input"]
    quote = "; quote it" if kind == "string_type" and isinstance(value, (bool, int, float)) else ""
    return f"{source.where(path)}: {key} {should}, not {_shorten(value)}{quote}"


def _nearest(path: KeyPath, model: type[Section]) -> str:
    """Which setting an unknown key may have meant: one beside it, or one of the same name in another section."""
    name = str(path[-1])
    section = section_at(path[:-1], model)
    beside = list(section.model_fields) if section is not None else []
    keys = [setting.key for setting in settings(model)]
    options = [key for key in keys if key.rpartition(".")[2] == name][:2]
    options = options or difflib.get_close_matches(name, beside, n=1)
    options = options or difflib.get_close_matches(".".join(map(str, path)), keys, n=1, cutoff=0.75)
    if options:
        return f"did you mean {' or '.join(options)}?"
    around = ".".join(map(str, path[:-1]))
    return f"{around or 'the file'} may have {', '.join(beside)}"


def _where_mentioned(path: KeyPath, message: str, source: _Source) -> str:
    """A check over several settings has no line of its own: the last given of those that its message names has one."""
    named = set(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", message))
    mentioned = [known for known in source.origins if ".".join(map(str, known)) in named]
    return source.origins[mentioned[-1]] if mentioned else source.where(path)


def _shorten(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
