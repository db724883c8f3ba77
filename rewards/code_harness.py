"""What runs inside of the sandbox for function tests: `code_harness.py serve` or `code_harness.py check`.

*Serve* loads the program that the model wrote, in a sandbox of its own, and answers calls of its functions, a line of
JSON each. *Check* runs a dataset's `assert` lines in a second sandbox, where the program's names are stand-ins that
call over a socket. So the verdict is made in a process that the program has no part in: whatever it prints, patches or
exits with, it can only answer calls, with plain values. An object that is no plain value stays where it is, and the
tests get a `Remote` that knows neither equality nor truth.

This file uses the standard library only, since it runs without the package; the parent uses `Client` of it too.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import os
import socket
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

MAX_LINE = 4 * 1024 * 1024
"""Longest message, in bytes."""
_MAX_ITEMS = 100_000


class CallError(Exception):
    """The program did not answer a call, or with something that is no answer."""


class CallTimeout(CallError):
    """The program did not answer in time."""


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
    """A value as JSON; what is no plain value is kept, and goes as its number. Subclasses go as their base."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return [encode(item, keep) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, keep) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, keep), encode(item, keep)] for key, item in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set" if isinstance(value, set) else "frozenset": [encode(item, keep) for item in value]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Remote):
        return {"remote": value._rlcs_number}
    return {"remote": keep(value)}


def decode(form: Any, remote: Callable[[int], Any]) -> Any:
    """The value of a form made by `encode`.

    Raises:
        ValueError, TypeError: it is no such form; programs can send anything.
    """
    if isinstance(form, list):
        return [decode(item, remote) for item in form]
    if not isinstance(form, dict):
        return form
    ((kind, held),) = form.items()
    if kind == "dict":
        return {decode(key, remote): decode(item, remote) for key, item in held}
    if kind == "bytes":
        return bytes.fromhex(held)
    if kind == "complex":
        return complex(float(held[0]), float(held[1]))
    if kind == "range":
        return range(*map(int, held))
    if kind == "remote":
        return remote(int(held))
    make = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return make([decode(item, remote) for item in held])


class Remote:
    """A stand-in for an object of the program."""

    __hash__ = object.__hash__

    def __init__(self, client: Client, number: int) -> None:
        self._rlcs_client = client
        self._rlcs_number = number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._rlcs_client.call(self._rlcs_number, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._rlcs_client.ask({"op": "attribute", "target": self._rlcs_number, "name": name})

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rlcs_client.ask({"op": "items", "target": self._rlcs_number}))

    def __eq__(self, other: object) -> bool:
        raise TypeError("objects of the program have no equality: what they say about themselves proves nothing")

    def __bool__(self) -> bool:
        raise TypeError("objects of the program have no truth value")


class Client:
    """Calls functions of a program that is served on the far side of a socket.

    Args:
        channel: the socket.
        timeout_s: deadline of one call.
    """

    def __init__(self, channel: socket.socket, timeout_s: float) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._received = bytearray()
        channel.settimeout(timeout_s)

    def call(self, target: int | str, *args: Any, **kwargs: Any) -> Any:
        """What a function, by its name or number, returns for these arguments.

        A function that returns None may change lists, dicts and sets that it is given.

        Raises:
            CallError: there is no answer: the program ended, ran out of time or sent nonsense.
            Exception: of the program's, if it is a built-in one; RuntimeError for the others.
        """
        return self.ask({"op": "call", "target": target}, args, kwargs)

    def ask(self, request: dict[str, Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Send a request and wait for its answer; raises as `call` does."""
        request["args"] = [encode(value, self._cannot_go) for value in args]
        request["kwargs"] = {name: encode(value, self._cannot_go) for name, value in (kwargs or {}).items()}
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except TimeoutError:
            raise self._broken("the program ran out of time", CallTimeout) from None
        except OSError:
            raise self._broken("the program ended") from None
        reply = self._read()
        if "error" in reply:
            raise _exception(reply["error"])
        try:
            value = decode(reply["value"], self._remote)
            if value is None:  # else a program could make the tests' own values agree with what it returns
                for ours, theirs in zip(args, reply.get("args") or (), strict=False):
                    _update(ours, decode(theirs, self._remote))
            return value
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError) as error:
            raise self._broken("the program sent something that is no answer") from error

    def _read(self) -> dict[str, Any]:
        try:
            while b"\n" not in self._received:
                received = self._channel.recv(1 << 16)
                if not received:
                    raise self._broken("the program ended")
                self._received += received
                if len(self._received) > MAX_LINE:
                    raise self._broken("the program returned too much")
        except TimeoutError:
            raise self._broken("the program ran out of time", CallTimeout) from None
        except OSError:
            raise self._broken("the program ended") from None
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise self._broken("the program sent something that is no answer")
        return reply

    def _broken(self, why: str, kind: type[CallError] = CallError) -> CallError:
        # A late answer must not be taken for the next call's.
        self._channel.close()
        return kind(why)

    def _remote(self, number: int) -> Remote:
        return Remote(self, number)

    def _cannot_go(self, value: Any) -> int:
        raise TypeError(f"a {type(value).__name__} of the tests cannot be handed to the program")


def _exception(form: Any) -> Exception:
    name, message = form if isinstance(form, list) and len(form) == 2 else ("", form)
    kind = getattr(builtins, name, None) if isinstance(name, str) else None
    # SystemExit and its like are the program's end, and an AssertionError is the tests' to raise.
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not AssertionError:
        try:
            return kind(str(message))
        except TypeError:  # UnicodeDecodeError takes more
            pass
    return RuntimeError(f"{name}: {message}")


def _update(ours: Any, theirs: Any) -> None:
    """What a call did to a list, dict or set that it was given."""
    if isinstance(ours, list) and isinstance(theirs, list):
        ours[:] = theirs
    elif isinstance(ours, dict | set) and type(ours) is type(theirs):
        ours.clear()
        ours.update(theirs)


def serve(program: str, module_name: str = "program") -> None:
    """Answer requests on standard input until it closes; the program itself sees empty standard streams."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def find(target: Any) -> Any:
        if isinstance(target, int):
            return kept[target]
        if target in vars(module):
            return vars(module)[target]
        if "Solution" in vars(module) and hasattr(module.Solution, target):
            return getattr(module.Solution(), target)
        raise NameError(f"the program defines no {target}")

    module = types.ModuleType(module_name)
    sys.modules[module_name] = module
    failure: list[str] | None = None
    try:
        exec(compile(program, "program.py", "exec"), vars(module))  # nosec B102 # noqa: S102 - this is what the sandbox is for
    except BaseException as error:  # SystemExit too: whatever stops the program while it loads
        failure = [type(error).__name__, str(error)[:200]]
    for line in requests:
        request = json.loads(line)
        try:
            if failure is not None:
                reply: dict[str, Any] = {"error": failure}
            else:
                reply = _answer(request, find, keep, lambda number: kept[number])
            data = json.dumps(reply).encode()
        except BaseException as error:
            data = json.dumps({"error": [type(error).__name__, str(error)[:200]]}).encode()
        data += b"\n"
        while data:
            data = data[replies.write(data) or 0 :]


def _answer(
    request: dict[str, Any], find: Callable[[Any], Any], keep: Callable[[Any], int], remote: Callable[[int], Any]
) -> dict[str, Any]:
    if request["op"] == "get":
        return {"value": encode(find(request["name"]), keep)}
    target = find(request["target"])
    if request["op"] == "attribute":
        return {"value": encode(getattr(target, request["name"]), keep)}
    if request["op"] == "items":
        items = [item for item, _ in zip(target, range(_MAX_ITEMS), strict=False)]
        return {"value": encode(items, keep)}
    args = [decode(form, remote) for form in request["args"]]
    kwargs = {name: decode(form, remote) for name, form in request["kwargs"].items()}
    value = target(*args, **kwargs)
    reply = {"value": encode(value, keep)}
    if value is None and any(isinstance(arg, list | dict | set) for arg in args):
        reply["args"] = [encode(arg, keep) for arg in args]
    return reply


def check(order: dict[str, Any]) -> None:
    """Run each test of `order` and write a line of JSON for it: [number, whether it passed, why not]."""
    channel = socket.socket(fileno=os.dup(0))
    verdicts = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    client = Client(channel, order["timeout_s"])
    scope: dict[str, Any] = {"__name__": "tests"}
    codes = [order["prelude"], order["setup"], *order["tests"]]
    try:
        # Helpers that the dataset defines are the dataset's, or a program could define them anew to agree with itself.
        exec(compile(order["prelude"], "prelude", "exec"), scope)  # nosec B102 # noqa: S102
        for name in free_names(codes, order["entry_point"]):
            is_module = name in sys.stdlib_module_names and name != order["entry_point"]
            scope[name] = importlib.import_module(name) if is_module else client.ask({"op": "get", "name": name})
        if order["entry_point"] is not None:
            scope["candidate"] = scope[order["entry_point"]]
        exec(compile(order["setup"], "setup", "exec"), scope)  # nosec B102 # noqa: S102 - the dataset's code, shut in
    except BaseException as error:
        verdicts.write(json.dumps([0, False, _describe(error)]) + "\n")
        return
    for number, test in enumerate(order["tests"]):
        try:
            exec(compile(test, "test", "exec"), scope)  # nosec B102 # noqa: S102
            verdict = [number, True, ""]
        except BaseException as error:
            verdict = [number, False, _describe(error)]
        verdicts.write(json.dumps(verdict) + "\n")
        if not verdict[1] and order["stop_at_first"]:
            return


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200].rstrip(": ")


def free_names(codes: list[str], entry_point: str | None) -> list[str]:
    """Names that tests use and do not define: the program's."""
    used: dict[str, None] = {} if entry_point is None else {entry_point: None}
    bound: set[str] = set(vars(builtins))
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load):
                    used[node.id] = None
                else:
                    bound.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.alias):
                bound.add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.ExceptHandler) and node.name:
                bound.add(node.name)
    if entry_point is not None:
        bound.add("candidate")
    return [name for name in used if name not in bound or name == entry_point]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with open("program.py", encoding="utf-8", errors="surrogatepass") as file:
            source = file.read()
        serve(source)
    else:
        with open("order.json", encoding="utf-8") as file:
            check(json.load(file))
