"""Style: faults of form that make a response worse whatever its answer is.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5) gives answers to open-ended questions that hold box markers, mix Chinese
and English or repeat themselves the lowest reward; DAPO (arXiv 2503.14476) punishes length softly. Each fault is a named
part, 1 where there is none; the value is 1 less what the faults cost.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rlcs.errors import RewardError
from rlcs.response_format import BOX_CLOSE, BOX_OPEN, FORMAT_TOKENS, THINK_CLOSE, THINK_OPEN
from rlcs.rewards.base import Reward
from rlcs.rewards.style_measures import (
    compression_ratio,
    estimated_tokens,
    mixes_chinese_and_english,
    most_repeated_window,
    repeated_ngram_share,
    soft_overlong,
    without_rulers,
)
from rlcs.types import Score

_MIN_COMPRESSED_CHARACTERS = 400
"""Shorter texts compress badly whatever they say."""
_SHOWN_CHARACTERS = 20


class Part(StrEnum):
    """What can be wrong with a response's style."""

    BOX = "box"
    """An open-ended answer holds a box marker or `\\boxed`."""
    LANGUAGE = "language"
    """A Chinese paragraph stands beside an English one."""
    REPETITION = "repetition"
    """The response repeats itself."""
    OVERLONG = "overlong"
    """The response is near the longest length, or reaches it."""
    THINKING = "thinking"
    """There is no thinking, or it is empty."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A part's value and, where it is below 1, what is wrong."""

    value: float
    detail: str = ""


FINE = Finding(1.0)


class Style(Reward):
    """1 for a response without a fault of style; each fault costs its weight, and the value is at least 0.

    Columns of a row that it reads: `num_tokens`, the tokens of the response, which a run adds by itself (the text's
    length stands in for it elsewhere); `open_ended`, true where the prompt has no answer that rules could verify.

    Args:
        weights: what a full fault of each part costs, 1 if not given: `box`, `language`, `repetition`, `overlong`,
            `thinking`; 0 leaves a part out.
        open_ended: whether prompts have no answer that rules could verify, so that a box is a fault. By row if None: its
            column `open_ended`, else whether its `answer` is blank.
        thinking_is_open: the chat template ends with `<think>`, so that a response starts inside of the thinking.
        min_thinking: letters and digits that a thinking must have.
        max_completion_length: tokens at which `overlong` is 0; the part is left out if None.
        cache: tokens below that over which `overlong` falls from 1 to 0 (DAPO's L_cache); a fifth of it if None.
        window: characters of the window that must not be seen `window_repeats` times.
        window_repeats: see `window`.
        ngram: words of the n-grams whose share of repeats is measured.
        ngram_shares: the share up to which `repetition` is 1, and that from which it is 0.
        compression_ratios: the ratio down to which `repetition` is 1, and that from which it is 0.

    Raises:
        RewardError: an option is out of range, or `weights` names no part.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        open_ended: bool | None = None,
        thinking_is_open: bool = False,
        min_thinking: int = 1,
        max_completion_length: int | None = None,
        cache: int | None = None,
        window: int = 50,
        window_repeats: int = 10,
        ngram: int = 10,
        ngram_shares: Sequence[float] = (0.3, 0.6),
        compression_ratios: Sequence[float] = (0.15, 0.1),
    ) -> None:
        self._weights = _checked_weights(weights)
        self._open_ended = _checked_flag("open_ended", open_ended)
        self._thinking_is_open = bool(_checked_flag("thinking_is_open", thinking_is_open))
        self._min_thinking = _checked_count("min_thinking", min_thinking, 1)
        self._max_length = max_completion_length
        if max_completion_length is not None:
            _checked_count("max_completion_length", max_completion_length, 1)
        elif cache is not None:
            raise RewardError("style: the option 'cache' needs 'max_completion_length' beside it")
        self._cache = (max_completion_length or 0) // 5 if cache is None else _checked_count("cache", cache, 0)
        if max_completion_length is not None and self._cache > max_completion_length:
            raise RewardError(
                f"style: 'cache' ({cache}) is more than 'max_completion_length' ({max_completion_length})"
            )
        self._window = _checked_count("window", window, 2)
        self._window_repeats = _checked_count("window_repeats", window_repeats, 2)
        self._ngram = _checked_count("ngram", ngram, 1)
        self._ngram_shares = _checked_pair("ngram_shares", ngram_shares)
        self._compression_ratios = _checked_pair("compression_ratios", compression_ratios)

    def score(self, completion: str, answer: str, **columns: Any) -> Score:
        findings = self._findings(completion, answer, columns)
        value = 1.0
        for part, finding in findings.items():
            value -= self._weights[part] * (1.0 - finding.value)
            if finding.value < 1.0:
                self.count(f"style_{part}")
        detail = "; ".join(finding.detail for finding in findings.values() if finding.detail)
        parts = {str(part): finding.value for part, finding in findings.items()}
        return Score(max(0.0, value), parts=parts, detail=detail or "no fault of style")

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """TRL's reward function: the tokens are counted from its `completion_ids`; an `answer` column is not needed."""
        ids = columns.get("completion_ids")
        if ids is not None:
            columns["num_tokens"] = [len(of_one) for of_one in ids]
        columns.setdefault("answer", [""] * len(completions))
        return super().__call__(prompts, completions, **columns)

    def _findings(self, completion: str, answer: str, columns: Mapping[str, Any]) -> dict[Part, Finding]:
        completion = _without_surrogates(completion)
        thinking, segment = split_thinking(completion, self._thinking_is_open)
        findings: dict[Part, Finding] = {}
        if self._weights[Part.BOX] and self._is_open_ended(answer, columns):
            findings[Part.BOX] = box_in_open_answer(segment)
        if self._weights[Part.LANGUAGE]:
            findings[Part.LANGUAGE] = mixed_languages(completion)
        if self._weights[Part.REPETITION]:
            findings[Part.REPETITION] = repetition(
                completion,
                window=self._window,
                window_repeats=self._window_repeats,
                ngram=self._ngram,
                ngram_shares=self._ngram_shares,
                compression_ratios=self._compression_ratios,
            )
        if self._weights[Part.OVERLONG] and self._max_length is not None:
            tokens = columns.get("num_tokens")
            is_known = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0
            length = tokens if is_known and tokens is not None else estimated_tokens(completion)
            findings[Part.OVERLONG] = overlong(length, self._max_length, self._cache)
        if self._weights[Part.THINKING]:
            findings[Part.THINKING] = skipped_thinking(thinking, self._min_thinking)
        return findings

    def _is_open_ended(self, answer: str, columns: Mapping[str, Any]) -> bool:
        if self._open_ended is not None:
            return self._open_ended
        stated = columns.get("open_ended")
        return stated if isinstance(stated, bool) else not answer.strip()


def split_thinking(text: str, thinking_is_open: bool = False) -> tuple[str | None, str]:
    """The thinking (None if there is none) and the rest of a response, whatever else is wrong with its format."""
    before, closed, after = text.rpartition(THINK_CLOSE)
    if closed:
        opened = before.find(THINK_OPEN)
        return before[opened + len(THINK_OPEN) :] if opened >= 0 else before, after
    opened = text.find(THINK_OPEN)
    if opened >= 0:
        return text[opened + len(THINK_OPEN) :], ""
    return (text, "") if thinking_is_open else (None, text)


def box_in_open_answer(segment: str) -> Finding:
    """0 if the answer segment of an open-ended prompt holds a box: its reader is a person, or a reward model."""
    for marker in (BOX_OPEN, BOX_CLOSE, "\\boxed"):
        if marker in segment:
            return Finding(0.0, f"an open-ended answer holds {marker}")
    return FINE


def mixed_languages(text: str) -> Finding:
    """0 if a Chinese paragraph stands beside an English one, in the thinking, the answer or one in each."""
    for marker in FORMAT_TOKENS:
        text = text.replace(marker, "" if marker in (BOX_OPEN, BOX_CLOSE) else "\n\n")
    if mixes_chinese_and_english(text):
        return Finding(0.0, "a Chinese paragraph stands beside an English one")
    return FINE


def repetition(
    text: str,
    *,
    window: int = 50,
    window_repeats: int = 10,
    ngram: int = 10,
    ngram_shares: tuple[float, float] = (0.3, 0.6),
    compression_ratios: tuple[float, float] = (0.15, 0.1),
) -> Finding:
    """The least of three measures: a window seen too often, the share of repeated n-grams, the compression ratio.

    See `Style` for the options. Rulers count for the compression only, so that a page of them is no style either.
    """
    prose = without_rulers(text)
    times, seen = most_repeated_window(prose, window)
    if times >= window_repeats:
        return Finding(0.0, f"{window} characters are seen {times} times: {seen[:_SHOWN_CHARACTERS]!r}...")
    worst = FINE
    share = repeated_ngram_share(prose, ngram)
    value = _falling(share, *ngram_shares)
    if value < worst.value:
        worst = Finding(value, f"{100 * share:.0f} % of the {ngram}-grams are repeats")
    if len(text) >= _MIN_COMPRESSED_CHARACTERS:
        ratio = compression_ratio(text)
        value = _falling(-ratio, -compression_ratios[0], -compression_ratios[1])
        if value < worst.value:
            worst = Finding(value, f"it can be compressed to {100 * ratio:.0f} %")
    return worst


def overlong(length: int, max_length: int, cache: int) -> Finding:
    """DAPO's soft punishment of a length in tokens."""
    value = soft_overlong(length, max_length, cache)
    return FINE if value == 1.0 else Finding(value, f"{length} tokens of at most {max_length}")


def skipped_thinking(thinking: str | None, min_thinking: int = 1) -> Finding:
    """0 if there is no thinking, or fewer than `min_thinking` letters and digits in it."""
    if thinking is None:
        return Finding(0.0, "the thinking is skipped")
    for token in FORMAT_TOKENS:
        thinking = thinking.replace(token, " ")
    found = 0
    for character in thinking:
        found += character.isalnum()
        if found >= min_thinking:
            return FINE
    return Finding(0.0, f"the thinking has {found} letters and digits" if found else "the thinking is empty")


def _without_surrogates(text: str) -> str:
    """Halves of surrogate pairs become `?`: encoding them one by one is slow."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _falling(amount: float, fine: float, worst: float) -> float:
    """1 up to `fine`, then in a line to 0 at `worst`."""
    if amount <= fine:
        return 1.0
    return max(0.0, (worst - amount) / (worst - fine)) if worst > fine else 0.0


def _checked_weights(weights: Mapping[str, float] | None) -> dict[Part, float]:
    checked = dict.fromkeys(Part, 1.0)
    if weights is not None and not isinstance(weights, Mapping):
        raise RewardError(f"style: 'weights' must be a mapping of parts to numbers, not {weights!r}")
    for name, weight in (weights or {}).items():
        if name not in list(Part):
            near = difflib.get_close_matches(str(name), list(Part), n=1)
            hint = f"did you mean {str(near[0])!r}?" if near else f"it has {', '.join(Part)}"
            raise RewardError(f"style: 'weights' names no part {name!r}; {hint}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise RewardError(f"style: the weight of {name!r} must be a number of at least 0, not {weight!r}")
        checked[Part(name)] = float(weight)
    return checked


def _checked_flag(name: str, value: bool | None) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise RewardError(f"style: {name!r} must be true or false, not {value!r}")
    return value


def _checked_count(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RewardError(f"style: {name!r} must be a whole number of at least {least}, not {value!r}")
    return value


def _checked_pair(name: str, pair: Sequence[float]) -> tuple[float, float]:
    numbers = isinstance(pair, list | tuple) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in pair
    )
    if not numbers or len(pair) != 2:
        raise RewardError(f"style: {name!r} must be two numbers between 0 and 1, not {pair!r}")
    return float(pair[0]), float(pair[1])
