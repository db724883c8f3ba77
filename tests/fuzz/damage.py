"""Files damaged at random, and tests that go on for a while."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("RLCS_FUZZ_SECONDS", "5"))
FIRST_SEED = int(os.environ.get("RLCS_FUZZ_SEED", "0"))
ROUND = 100
"""Examples of one seed."""


def fuzz(share: float = 1.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Repeat a test of hypothesis with other seeds until its `share` of a target's time is over."""

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
            end, rounds = time.monotonic() + share * SECONDS, 0
            while rounds == 0 or time.monotonic() < end:
                try:
                    seed(FIRST_SEED + rounds)(bounded)(*args, **kwargs)
                except BaseException as error:
                    error.add_note(f"RLCS_FUZZ_SEED={FIRST_SEED + rounds} finds it at once")
                    raise
                rounds += 1
            print(f"{ROUND * rounds} examples, seeds {FIRST_SEED} to {FIRST_SEED + rounds - 1}")

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
