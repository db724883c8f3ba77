"""What physics and chemistry share: quantities by rule, expressions by `MathMatcher`, words by a judge."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from rlcs.errors import RewardError
from rlcs.rewards.base import Columns
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.math import MathMatcher
from rlcs.rewards.mathtext import numeric
from rlcs.rewards.mathtext.grammar import parse_answer
from rlcs.rewards.mathtext.tree import MathTextError, Node
from rlcs.rewards.quantities import Quantities, Rules, compare, with_unit
from rlcs.rewards.quantity_text import read_quantities
from rlcs.rewards.text import check_flag, flag_of, is_no_number, same_words
from rlcs.rewards.unit_conversion import warm_up
from rlcs.rewards.units import UnitTextError, read_unit
from rlcs.rewards.value_text import QuantityTextError, UnusableValueError
from rlcs.rewards.verifier import Judge, Match, Verifier
from rlcs.rewards.workers import WorkerOutcome

MAX_CHARACTERS = 2000
_UNIT_LIKE = re.compile(r"(?<![A-Za-z\\])(?:[mM]g|[mck]m|ms|kg|m[lL]|am|pm)(?![A-Za-z])")
"""Letters that `MathMatcher` reads as a word, and that are a product of variables in an expression."""
_WEIGHT = re.compile(r"(?<![A-Za-z])[mM]g(?![A-Za-z])")
_NAMED = re.compile(r"^\s*\$?\s*(?:[A-Za-z]|\\[A-Za-z]+)(?:_(?:\w|\{[^{}]*\}))?\s*=(?P<rest>[^=]*)$")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3400-\u9fff]")
_NO_NUMBER = re.compile(r"(?<![A-Za-z])(?:nan|inf|infinity)(?![A-Za-z])", re.IGNORECASE)


class ScienceVerifier(Verifier):
    """Compares quantities, and hands over what holds none. Subclasses say what comes before, in `match_special`."""

    def __init__(
        self,
        extract: ExtractOptions | None = None,
        *,
        judge: Judge | None = None,
        tolerance: float = 1e-5,
        require_unit: bool = True,
        timeout_s: float = 2.0,
        memory_mb: int = 1024,
    ) -> None:
        super().__init__(extract, judge=judge)
        self._tolerance = _tolerance_of("option tolerance", tolerance)
        self._require_unit = check_flag("require_unit", require_unit)
        self._matcher = MathMatcher(timeout_s=timeout_s, memory_mb=memory_mb)

    def setup(self) -> None:
        warm_up()
        numeric.context()
        self._matcher.start()

    def close(self) -> None:
        self._matcher.close()

    @abstractmethod
    def match_special(self, answer: str, reference: str, columns: Columns) -> Match | None:
        """The match by what the subject alone knows of, or None if the reference is nothing of that kind."""

    @abstractmethod
    def validate_special(self, answer: str, columns: Columns) -> tuple[bool, str]:
        """Whether the reference is of a kind that the subject alone knows of, and what is wrong with it, if anything."""

    def match(self, answer: str, reference: str, **columns: Any) -> Match:
        return self.match_batch([answer], [reference], [columns])[0]

    def match_batch(self, answers: Sequence[str], references: Sequence[str], columns: Sequence[Columns]) -> list[Match]:
        """See `Verifier.match_batch`; what needs sympy goes to the workers in one batch."""
        found: list[Match | None] = [None] * len(answers)
        pairs: dict[int, tuple[str, str]] = {}
        for index, (answer, reference, row) in enumerate(zip(answers, references, columns, strict=True)):
            match = self._match_by_rule(answer.strip(), reference.strip(), row)
            if isinstance(match, Match):
                found[index] = match
            else:
                pairs[index] = match
        for index, verdict in zip(pairs, self._matcher.match(list(pairs.values())), strict=True):
            event = None if verdict.outcome is WorkerOutcome.OK else str(verdict.outcome)
            found[index] = Match(float(verdict.correct), verdict.detail, event=event)
        return [match for match in found if match is not None]

    def validate(self, answer: str, **columns: Any) -> str | None:
        text = answer.strip()
        if not text:
            return "the reference answer is empty"
        if len(text) > MAX_CHARACTERS:
            return f"the reference answer is longer than {MAX_CHARACTERS} characters"
        if is_no_number(text) or _NO_NUMBER.search(text):
            return f"the reference answer {text!r} is no number"
        try:
            self._rules(columns)
            _unit_column(columns)
        except RewardError as error:
            return str(error)
        is_special, reason = self.validate_special(text, columns)
        if is_special:
            return reason or None
        problem = ""
        try:
            read_quantities(text)
        except UnusableValueError as error:
            return f"the reference answer {text[:60]!r} cannot be used: {error}"
        except QuantityTextError as error:
            problem = str(error)
        if not problem or not isinstance(_tree(text), str) or _is_prose(text):
            return None
        return f"the reference answer {text[:60]!r} cannot be read: {problem}"

    def _match_by_rule(self, answer: str, reference: str, columns: Columns) -> Match | tuple[str, str]:
        """The match, or the pair of expressions that is left to `MathMatcher`."""
        if len(answer) > MAX_CHARACTERS:
            return Match(0.0, f"the answer is longer than {MAX_CHARACTERS} characters")
        if is_no_number(answer):
            return Match(0.0, f"{answer[:20]} is no number")
        if answer == reference:
            return Match(1.0, "the same text")
        special = self.match_special(answer, reference, columns)
        if special is not None:
            return special
        expected, mine = _quantities(reference), _quantities(answer)
        if isinstance(expected, Quantities):
            unit = _unit_column(columns)
            if unit is not None:
                expected = with_unit(expected, unit)
                mine = with_unit(mine, unit) if isinstance(mine, Quantities) else mine
            if isinstance(mine, Quantities):
                same, why = compare(mine, expected, self._rules(columns))
                if same or not (expected.items[0].is_tight and _WEIGHT.search(reference)):
                    return Match(float(same), why)
            elif any(item.has_unit for item in expected.items) and not _WEIGHT.search(reference):
                return Match(0.0, f"the answer is no quantity: {mine}")
        return _by_expression(answer, reference)

    def _rules(self, columns: Columns) -> Rules:
        tolerance = columns.get("tolerance")
        return Rules(
            tolerance=self._tolerance if tolerance is None else _tolerance_of("column tolerance", tolerance),
            require_unit=bool(flag_of(columns, "require_unit", self._require_unit)),
            is_difference=bool(flag_of(columns, "temperature_difference", False)),
            is_ordered=bool(flag_of(columns, "ordered", True)),
        )


def _by_expression(answer: str, reference: str) -> Match | tuple[str, str]:
    """The match of words, or the pair of expressions in the spelling of `MathMatcher`."""
    expected, mine = _tree(_spaced(reference)), _tree(_spaced(answer))
    if isinstance(expected, str) or expected[0] == "word":
        if _WORD.search(reference) and same_words(answer, reference):
            return Match(1.0, "the same words")
        return Match(0.0, "other words" if expected[0] == "word" else "no rule reads the reference", is_open=True)
    if not isinstance(mine, str) and (mine[0] == "unit") != (expected[0] == "unit"):
        return Match(0.0, "only one of answer and reference has a unit")
    named = _NAMED.match(answer), _NAMED.match(reference)
    if named[0] and not named[1]:
        answer = named[0]["rest"]
    elif named[1] and not named[0]:
        reference = named[1]["rest"]
    return _spaced(answer), _spaced(reference)


def _spaced(text: str) -> str:
    return _UNIT_LIKE.sub(lambda match: " ".join(match.group()), text)


def _tree(text: str) -> Node | str:
    """The expression tree, or why there is none."""
    try:
        return parse_answer(text)
    except (MathTextError, RecursionError) as error:
        return str(error) or "it is nested too deeply"


def _quantities(text: str) -> Quantities | str:
    """The quantities, or why there are none."""
    try:
        return read_quantities(text)
    except QuantityTextError as error:
        return str(error)


def _is_prose(text: str) -> bool:
    """Whether a text can be compared as words."""
    return text.count("{") == text.count("}") and _WORD.search(_COMMAND.sub("", text)) is not None


def _unit_column(columns: Mapping[str, Any]) -> Any:
    """The readings of the row's `unit`, or None. Raises RewardError if it is no unit."""
    unit = columns.get("unit")
    if unit is None or unit == "":
        return None
    try:
        if not isinstance(unit, str):
            raise UnitTextError(f"it is {type(unit).__name__}, not text")
        return read_unit(unit)
    except UnitTextError as error:
        raise RewardError(f"column unit is no unit: {error}") from None


def _tolerance_of(what: str, value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise RewardError(f"{what} must be a number from 0 to below 1, not {value!r}")
    return Fraction(value)
