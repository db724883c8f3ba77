"""Preference pairs from files and datasets, for reward models: every row checked, with its number in the error.

A row has `prompt`, `chosen` and `rejected`: texts, or chat messages. Without a prompt, `chosen` and `rejected` are whole
conversations that differ in their last message (TRL's implicit prompt). Of an answer in the response format only the
answer segment is kept, since that is what a reward model is asked about (`rlcs.rewards.open_answer`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlcs.data_files import BadRow, open_rows
from rlcs.data_rows import RowProblem, to_prompt
from rlcs.errors import DataError
from rlcs.reward_model_config import PREFERENCE_COLUMNS, PreferenceDataConfig
from rlcs.rewards.extract import ExtractOptions, holds_format_markers
from rlcs.rewards.open_answer import read_open_answer
from rlcs.terminal_text import printable
from rlcs.types import Message

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt with a better and a worse answer."""

    messages: list[Message]
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class PreferenceSplits:
    """Pairs to train on, and pairs of other prompts to measure with."""

    train: list[PreferencePair]
    eval: list[PreferencePair]


def load_preferences(config: PreferenceDataConfig, seed: int) -> PreferenceSplits:
    """Read the pairs, and hold some out by prompt. Training pairs whose prompt is in `data.eval` are left out.

    Raises:
        DataError: a dataset is missing or empty, a row is bad (unless `data.on_bad_row` is skip), or there are not
            prompts enough to hold one out.
    """
    pairs = _read(config, config.train, "data.train", config.train_split)
    if config.eval is not None:
        held_out = _read(config, config.eval, "data.eval", config.eval_split)
        prompts = {_prompt_key(pair) for pair in held_out}
        train = [pair for pair in pairs if _prompt_key(pair) not in prompts]
        if len(train) < len(pairs):
            logger.warning("%d training pairs are left out: their prompts are in data.eval", len(pairs) - len(train))
        if not train:
            raise DataError("every prompt of data.train is in data.eval too: there is nothing left to train on")
        return PreferenceSplits(train, held_out)
    keys = sorted(
        {_prompt_key(pair) for pair in pairs}, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest()
    )
    if len(keys) < 2:
        raise DataError(f"data.train: {config.train} has a single prompt, so none can be held out: give data.eval")
    count = min(max(1, round(config.eval_fraction * len(keys))), len(keys) - 1)
    prompts = set(keys[:count])
    return PreferenceSplits(
        train=[pair for pair in pairs if _prompt_key(pair) not in prompts],
        eval=[pair for pair in pairs if _prompt_key(pair) in prompts],
    )


def to_pair(values: Mapping[str, Any], columns: Mapping[str, str]) -> PreferencePair:
    """The pair of a row. `columns` maps each of ours to theirs.

    Raises:
        RowProblem: something is missing or wrong, or the two answers are the same.
    """
    chosen, rejected = values.get(columns["chosen"]), values.get(columns["rejected"])
    prompt = values.get(columns["prompt"])
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        if chosen[:-1] != rejected[:-1]:
            raise RowProblem(
                f"there is no {columns['prompt']}, and {columns['chosen']} and {columns['rejected']} differ before "
                "their last message"
            )
        prompt, chosen, rejected = chosen[:-1], chosen[-1:], rejected[-1:]
    name = columns["prompt"]
    ours = {"prompt": name, "answer": f"{name} answer", "domain": "", "tier": "", "solution": ""}
    messages = to_prompt({name: prompt, f"{name} answer": "-"}, ours, None).messages
    answers = [_answer(value, columns[name]) for value, name in ((chosen, "chosen"), (rejected, "rejected"))]
    if answers[0] == answers[1]:
        raise RowProblem(f"{columns['chosen']} and {columns['rejected']} are the same answer")
    return PreferencePair(messages, *answers)


def _answer(value: Any, name: str) -> str:
    if isinstance(value, list):
        if len(value) != 1 or not isinstance(value[0], dict) or value[0].get("role") != "assistant":
            raise RowProblem(f"{name} must be text, or a list with one message of the assistant")
        value = value[0].get("content")
    if value is None:
        raise RowProblem(f"{name} is missing")
    if not isinstance(value, str):
        raise RowProblem(f"{name} must be text, or a list with one message of the assistant")
    if not value.strip():
        raise RowProblem(f"{name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"{name} is not valid Unicode (half of a surrogate pair)") from error
    if not holds_format_markers(value):
        return value.strip()
    found = read_open_answer(value, ExtractOptions())
    if found.problem:
        raise RowProblem(f"{name} is in the response format, but broken: {found.problem}")
    return found.text


def _read(config: PreferenceDataConfig, name: str, key: str, split: str) -> list[PreferencePair]:
    source = open_rows(name, key, split=split, subset=config.subset)
    columns = {ours: config.columns.get(ours, ours) for ours in PREFERENCE_COLUMNS}
    for ours in ("chosen", "rejected"):
        if source.columns is not None and columns[ours] not in source.columns:
            shown = printable(", ".join(source.columns[:20]))
            raise DataError(
                f"{key}: {source.name}: no column {columns[ours]!r}; it has {shown}. Say which holds it with "
                f"data.columns.{ours}=THEIRS"
            )
    pairs: list[PreferencePair] = []
    bad: list[str] = []
    for number, found in _rows(source.rows, columns):
        if isinstance(found, PreferencePair):
            pairs.append(found)
            continue
        where = f"{source.unit} {number}: {printable(found)}"
        if config.on_bad_row == "error":
            raise DataError(f"{key}: {source.name}, {where} (data.on_bad_row=skip leaves such rows out)")
        bad.append(where)
    if not pairs:
        raise DataError(f"{key}: {source.name} has no rows" if not bad else f"{key}: all rows are bad; {bad[0]}")
    if bad:
        logger.warning("%s: skipped %d bad rows of %d: %s", source.name, len(bad), len(bad) + len(pairs), bad[0])
    return pairs


def _rows(rows: Any, columns: Mapping[str, str]) -> Iterator[tuple[int, PreferencePair | str]]:
    """Each row's number, and its pair or what is wrong."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row.number, row.reason
            continue
        try:
            yield row.number, to_pair(row.values, columns)
        except RowProblem as problem:
            yield row.number, str(problem)


def _prompt_key(pair: PreferencePair) -> str:
    return json.dumps(pair.messages, sort_keys=True, separators=(",", ":"))
