"""Files damaged at random, and tests that go on for a while."""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("RLCS_FUZZ_SECONDS", "5"))
FIRST_SEED = int(os.environ.get("RLCS_FUZZ_SEED", "0"))
ROUND = 100
"""Examples of one seed."""


def fuzz(share: float = 1.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Repeat a test of hypothesis with other seeds until its `share` of a target's time is over.

    Time is the processor's, so that a busy machine tries as much as a quiet one. What was tried is told each minute.
    """

    def repeat(test: Callable[..., None]) -> Callable[..., None]:
        bounded = settings(
            max_examples=ROUND,
            database=None,
            derandomize=False,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )(test)

        @functools.wraps(test)
        def repeated(*args: Any, **kwargs: Any) -> None:
            begun, told, rounds = time.process_time(), 0.0, 0
            while rounds == 0 or time.process_time() - begun < share * SECONDS:
                try:
                    seed(FIRST_SEED + rounds)(bounded)(*args, **kwargs)
                except BaseException as error:
                    error.add_note(f"RLCS_FUZZ_SEED={FIRST_SEED + rounds} finds it at once")
                    raise
                rounds += 1
                if (spent := time.process_time() - begun) >= min(told + 60, share * SECONDS):
                    told = spent
                    print(
                        f"{test.__name__}: {ROUND * rounds:,} examples in {spent:.0f} of {share * SECONDS:.0f} s",
                        flush=True,
                    )

        return repeated

    return repeat


Edit = tuple[str, float, float, bytes]
BITS = [b"\x00", b"\xff", b'"', b"\n", b"{", b"}", b"[", b"]", b":", b": ", b"- ", b"null", b"nan", b"1e999", b"-1"]
BITS += [b"!!python/object:os.system", b"&a", b"*a", b"\xed\xa0\x80"]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]),
        st.floats(0, 1),
        st.floats(0, 0.2),
        st.one_of(st.sampled_from(BITS), st.binary(max_size=12)),
    ),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, edits: list[Edit]) -> bytes:
    """`data` with parts of it replaced, dropped or doubled; places and lengths are shares of its length."""
    for kind, place, length, new in edits:
        start = int(place * len(data))
        end = start + int(length * len(data) * 0.2) + 1
        if kind == "replace":
            data = data[:start] + new + data[start + len(new) :]
        elif kind == "insert":
            data = data[:start] + new + data[start:]
        elif kind == "delete":
            data = data[:start] + data[end:]
        elif kind == "repeat":
            data = data[:end] + data[start:end] + data[end:]
        else:
            data = data[:start]
    return data


ODD = [None, True, -1, 0, 1.5, 1e308, math.inf, math.nan, 10**30, 10**400, "", "1", "x" * 50, "\0", "\ud800"]
ODD += [[], {}, [[]], {"a": None}, [1, "a"]]
DROP = object()
JSON_EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([*ODD, DROP])), min_size=1, max_size=3
)
JSONEdit = tuple[float, Any]


def changed_json(data: bytes, edits: list[JSONEdit], *, is_lines: bool) -> bytes:
    """JSON, or lines of it, with values at some places, which are shares of all, replaced by odd ones or dropped."""
    tree: Any = [json.loads(line) for line in data.splitlines()] if is_lines else [json.loads(data)]
    for place, new in edits:
        places = list(_places(tree))
        if not places:
            break
        holder, key = places[int(place * len(places))]
        if new is not DROP:
            holder[key] = copy.deepcopy(new)  # or a list of ODD could come to hold itself
        else:
            del holder[key]
    return "".join(json.dumps(line) + "\n" for line in tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def damage(path: Path, edits: list[Edit], json_edits: list[JSONEdit] | None) -> None:
    """Change a file: by its values where it is JSON and there are edits of those, else by its bytes."""
    before = path.read_bytes()
    if json_edits is not None and path.suffix in (".json", ".jsonl"):
        path.write_bytes(changed_json(before, json_edits, is_lines=path.suffix == ".jsonl"))
    else:
        path.write_bytes(changed(before, edits))
