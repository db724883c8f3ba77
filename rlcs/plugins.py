"""Objects named in a configuration: rewards, curricula, environments.

Four forms, tried in this order:

| form | example |
|---|---|
| built-in name | `math` |
| file and attribute | `path/to/rewards.py:my_reward` |
| module and attribute | `my_package.rewards:my_reward` |
| entry point of an installed package | `their_reward`, in the group `rlcs.rewards` |

The working folder and a file's own folder are put at the end of the import path, so that a plug-in can import its
neighbours; at the end, so that they shadow nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rlcs.errors import RLCSError, one_line


def load_object(form: str, *, group: str, builtins: Mapping[str, str], what: str, error: type[RLCSError]) -> Any:
    """The object that `form` names.

    Args:
        form: One of the four forms above.
        group: Entry point group, such as `rlcs.rewards`.
        builtins: Built-in names and their `package.module:attribute`.
        what: What is loaded, for messages: `reward`, `curriculum`, `environment`.
        error: Raised, in one line, if there is no such object or its import fails.
    """
    label = f"{what} {form!r}"
    if form in builtins:
        module, _, attribute = builtins[form].partition(":")
        return _attribute(_import_module(module, label, error), attribute, label, error)
    if ":" in form:
        source, _, attribute = form.rpartition(":")
        if not source or not all(part.isidentifier() for part in attribute.split(".")):
            raise error(f"{label}: write it as path/to/file.py:name or package.module:name")
        loader = _import_file if _is_path(source) else _import_module
        return _attribute(loader(source, label, error), attribute, label, error)
    entry_points = {point.name: point for point in importlib.metadata.entry_points(group=group)}
    if form in entry_points:
        point = entry_points[form]
        return _guarded(point.load, f"{label} (entry point {point.value})", None, error)
    raise error(_unknown(form, label, what, group, sorted({*builtins, *entry_points})))


def absolute_form(form: str) -> str:
    """The form with a file's path made absolute, so that it means the same in another working folder."""
    source, colon, attribute = form.rpartition(":")
    return f"{_resolve(source)}:{attribute}" if colon and _is_path(source) else form


def _unknown(form: str, label: str, what: str, group: str, names: list[str]) -> str:
    forms = "path/to/file.py:name or package.module:name"
    if _is_path(form):
        return f"{label}: say which object of the file, {form}:NAME"
    near = difflib.get_close_matches(form, names, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    known = ", ".join(names) or "none"
    return f"there is no {label}; {hint}Known: {known}. A {what} of your own is {forms}, or an entry point of {group}"


def _is_path(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


def _resolve(source: str) -> Path:
    return Path(source).expanduser().resolve()


def _import_file(source: str, label: str, error: type[RLCSError]) -> ModuleType:
    """The module of a file, made once: its name in `sys.modules` comes from its path."""
    try:
        path = _resolve(source)
        exists = path.is_file()
    except (OSError, ValueError, RuntimeError) as reason:
        raise error(f"{label}: {source!r} is no usable path ({reason})") from reason
    if not exists:
        raise error(f"{label}: there is no file {source} (looked for {path})")
    name = f"rlcs_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error(f"{label}: {source} is no Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    _append_to_path(path.parent)
    # Registered first: dataclasses and pickling look their module up by name.
    sys.modules[name] = module
    execute = spec.loader.exec_module
    try:
        _guarded(lambda: execute(module), label, path, error)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _import_module(name: str, label: str, error: type[RLCSError]) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise error(f"{label}: {name!r} is no module name; write it as package.module:name")
    if name in sys.modules:
        return sys.modules[name]
    _append_to_path(Path.cwd())
    module: ModuleType = _guarded(lambda: importlib.import_module(name), label, None, error, name)
    return module


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()


def _attribute(module: ModuleType, attribute: str, label: str, error: type[RLCSError]) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            near = difflib.get_close_matches(part, public, n=3) or public[:8]
            place = getattr(module, "__file__", None) or module.__name__
            has = f"it has {', '.join(near)}" if near else "it is empty"
            raise error(f"{label}: {place} has no {attribute!r}; {has}")
        found = getattr(found, part)
    return found


def _guarded(
    load: Callable[[], Any], label: str, path: Path | None, error: type[RLCSError], module: str | None = None
) -> Any:
    """Run foreign code that is being imported; whatever it raises becomes one line that says where."""
    try:
        return load()
    except RLCSError:
        raise
    except ModuleNotFoundError as reason:
        if module is not None and reason.name is not None and f"{module}.".startswith(f"{reason.name}."):
            raise error(f"{label}: there is no module {reason.name} to import") from reason
        raise error(f"{label}: cannot be imported: {_one_line(reason, path)}; is it installed?") from reason
    except (Exception, SystemExit) as reason:
        raise error(f"{label}: cannot be imported: {_one_line(reason, path)}") from reason


def _one_line(reason: BaseException, path: Path | None) -> str:
    """`ValueError: text (file.py, line 3)`: the line in the plug-in's own file if known, else where it was raised."""
    text = one_line(reason, 1000, typed=True)
    if isinstance(reason, SyntaxError):
        return text  # says file and line itself
    frames = traceback.extract_tb(reason.__traceback__)
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    frame = own[-1] if own else None
    return text if frame is None else f"{text} ({frame.filename}, line {frame.lineno})"
