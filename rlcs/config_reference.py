"""The settings explained from the pydantic models: `rlcs config explain KEY` and the table in the documentation."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rlcs.config import Config, Section
from rlcs.errors import ConfigError

_NAMES: dict[Any, str] = {
    str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", Any: "anything",
    type(None): "null",
}  # fmt: skip
_BOUNDS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, or a section of them."""

    key: str
    """Dotted key, such as `learner.learning_rate`; `data.tasks.task` for settings of list items."""
    kind: str
    """What may stand there, for a person."""
    default: str
    """As YAML would have it; `required` if there is none, empty for a section."""
    description: str
    section: type[Section] | None = None
    """The model of a section or of a list's items."""


def settings(model: type[Section] = Config, prefix: str = "") -> Iterator[Setting]:
    """Every setting below a model, sections before what they hold, in the order of the models."""
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        section = section_of(info.annotation)
        if section is None:
            yield Setting(key, describe_type(info.annotation, info), _default(info), info.description or "")
            continue
        if isinstance(info.annotation, type):
            yield Setting(key, "section", "", (section.__doc__ or "").strip(), section)
        else:
            kind = describe_type(info.annotation, info)
            yield Setting(key, kind, _default(info), info.description or "", section)
        yield from settings(section, f"{key}.")


def explain(key: str) -> str:
    """Type, default and description of a dotted key such as `learner.learning_rate`, or what a section holds.

    Raises:
        ConfigError: there is no such key; names the nearest.
    """
    wanted = ".".join(part for part in key.strip().split(".") if not part.isdigit())
    known = {setting.key: setting for setting in settings()}
    found = known.get(wanted)
    if found is None:
        raise ConfigError(f"{key} is no setting; {suggest(wanted, known)}")
    lines = [found.key, f"  {found.description}"]
    if found.kind != "section":
        lines += [f"  type:    {found.kind}", f"  default: {found.default}"]
    if found.section is not None:
        inner = [setting for setting in known.values() if setting.key.startswith(f"{found.key}.")]
        width = max(len(setting.key) for setting in inner)
        lines += [f"  {setting.key:<{width}}  {setting.description}" for setting in inner]
    return "\n".join(lines)


def reference_markdown() -> str:
    """A Markdown table of all settings, a part for each section."""
    parts: dict[str, list[str]] = {"": ["## The run", ""]}
    for setting in settings():
        if setting.kind == "section":
            parts[setting.key] = [f"## `{setting.key}`", "", setting.description, ""]
    for lines in parts.values():
        lines += ["| setting | type | default | what it does |", "|---|---|---|---|"]
    for setting in settings():
        if setting.kind != "section":
            home = setting.key
            while home not in parts:
                home = home.rpartition(".")[0]
            cells = (f"`{setting.key}`", setting.kind, f"`{setting.default}`", setting.description)
            parts[home].append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n\n".join("\n".join(lines) for lines in parts.values()) + "\n"


def section_of(annotation: Any) -> type[Section] | None:
    """The model inside an annotation: itself, or the items of a list; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in get_args(annotation):
        found = section_of(inner)
        if found is not None:
            return found
    return None


def section_at(path: Iterable[str | int], root: type[Section] = Config) -> type[Section] | None:
    """The model at a key path from the root, list indices allowed; None if it is no section."""
    model: type[Section] | None = root
    for part in path:
        if isinstance(part, int):
            continue
        info = model.model_fields.get(part) if model is not None else None
        model = section_of(info.annotation) if info is not None else None
    return model


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest right one, or all of them."""
    options = list(known)
    near = difflib.get_close_matches(word, options, n=1)
    if near:
        return f"did you mean {near[0]}?"
    top = sorted({option.split(".")[0] for option in options})
    return f"there are: {', '.join(top)}"


def describe_type(annotation: Any, info: FieldInfo | None = None) -> str:
    """An annotation in words: `whole number > 0`, `one of a, b`, `list of text`."""
    bounds = ""
    metadata = list(info.metadata) if info is not None else []
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata += more
    for item in metadata:
        for attribute, sign in _BOUNDS:
            limit = getattr(item, attribute, None)
            if limit is not None:
                bounds += f"{' and' if bounds else ''} {sign} {limit}"
        pattern = getattr(item, "pattern", None)
        if pattern is not None:
            bounds += f" matching {getattr(pattern, 'pattern', pattern)}"
    return _type_name(annotation) + bounds


def _type_name(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(str(arg) for arg in args)}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(arg) for arg in args)
    if origin is list:
        return f"list of {describe_type(args[0])}"
    if origin is dict:
        return f"mapping of {describe_type(args[0])} to {describe_type(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "mappings"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True) if not info.default_factory_takes_validated_data else None
    if default is PydanticUndefined:
        return "required"
    words = {"None": "null", "True": "true", "False": "false"}
    return words.get(str(default), str(default))
