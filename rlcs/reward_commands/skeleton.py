"""`rlcs reward-new`: a reward to begin with, and its cases."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

from rlcs.errors import ConfigError
from rlcs.rewards.loading import BUILTIN_REWARDS

_CODE = '''"""The reward @NAME@: TODO say in a sentence which answers are right.

Try it:      rlcs reward-test @FILE@:@CLASS@ @CASES@
Use it:      reward: {functions: ["@FILE@:@CLASS@"]}
"""

from __future__ import annotations

from typing import Any

from rlcs.rewards import ExtractOptions
from rlcs.rewards.verifier import Judge, Match, Verifier


class @CLASS@(Verifier):
    """Right if the boxed answer is within `tolerance` of the reference.

    The base class finds the one boxed answer of a response, gives 0 with a reason where
    there is none, and asks a judge where `match` says that no rule decides. A run sets
    the arguments of `__init__` by `reward.options`.
    """

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(extract, judge=judge)
        self._tolerance = tolerance

    def validate(self, answer: str, **columns: Any) -> str | None:
        """Why a reference cannot be used: asked of every row before training starts."""
        if read_number(answer) is None:
            return f"the reference {answer[:40]!r} is no number"
        return None

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        """Compare the boxed answer with the reference.

        `columns` are the other columns of the row. Never raise for what `answer` holds,
        never evaluate it as code, and think of answers that hedge ("3 or 4"), of nan,
        of infinity, and of a hundred thousand characters.
        """
        found, expected = read_number(answer), read_number(reference)
        if found is None:
            return Match(0.0, "the answer is no number", event="unreadable_answers")
        if expected is None:
            return Match(0.0, "the reference is no number")
        error = abs(found - expected)
        is_right = error <= self._tolerance * max(1.0, abs(expected))
        # A value between 0 and 1 is partial credit. GRPO learns from the differences
        # within a group, so be sure to want it.
        return Match(float(is_right), f"off by {error:g}")


def read_number(text: str) -> float | None:
    """A plain decimal number, or None."""
    text = text.strip()
    digits = text.removeprefix("-").replace(".", "", 1)
    # float() alone would also take nan, inf, 1_000 and 1e999.
    if len(text) > 300 or not (digits.isascii() and digits.isdigit()):
        return None
    return float(text)
'''

_CASES = """\
{"response": "4", "reference": "4", "expected": true, "note": "the same number"}
{"response": "4.0", "reference": "4", "expected": true, "note": "another spelling of it"}
{"response": "-0.5", "reference": "-0.50", "expected": true, "note": "negative"}
{"response": "5", "reference": "4", "expected": false, "note": "another number"}
{"response": "4 or 5", "reference": "4", "expected": false, "note": "hedges"}
{"response": "a number near 4", "reference": "4", "expected": false, "note": "words around it"}
{"response": "nan", "reference": "4", "expected": false, "note": "hostile: no number"}
{"response": "1e999", "reference": "4", "expected": false, "note": "hostile: infinite"}
{"response": "__import__('os').getcwd()", "reference": "4", "expected": false, "note": "hostile: code"}
{"response": "<think>a</think><|begin_of_box|>4<|end_of_box|>", "reference": "4", "expected": true, "note": "whole"}
{"response": "<think>2 + 2</think>It is 4.", "reference": "4", "expected": false, "note": "no box"}
{"response": "<think>2<|begin_of_box|>4<|end_of_box|>", "reference": "4", "expected": false, "note": "only thinks"}
"""


def write_skeleton(name: str, folder: Path) -> tuple[Path, Path]:
    """Write `NAME.py` with a reward class and `NAME_cases.jsonl` to `folder`; the two paths.

    Raises:
        ConfigError: the name cannot be one, one of the files exists already, or the folder cannot be written to.
    """
    _check_name(name)
    code_file, cases_file = folder / f"{name}.py", folder / f"{name}_cases.jsonl"
    for file in (code_file, cases_file):
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{file} exists already and is left alone: choose another name or --dir")
    words = {"@NAME@": name, "@CLASS@": class_name(name), "@FILE@": code_file.name, "@CASES@": cases_file.name}
    code = _CODE
    for word, text in words.items():
        code = code.replace(word, text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in ((code_file, code), (cases_file, _CASES)):
            with file.open("x", encoding="utf-8") as stream:  # x: never over a file that came in between
                stream.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return code_file, cases_file


def class_name(name: str) -> str:
    """The class of a reward: `close_enough` is `CloseEnough`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _check_name(name: str) -> None:
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name) or not name.strip("_")[:1].isalpha():
        raise ConfigError(f"{name!r} is no name for a reward: take letters, digits and _, such as close_enough")
    if name in BUILTIN_REWARDS:
        raise ConfigError(f"{name} is a built-in reward: choose another name")
    if name in sys.stdlib_module_names:
        raise ConfigError(f"{name} is a module of Python's library, which {name}.py could hide: choose another name")
