"""A sample of a run's responses, and what can be counted in their texts: answers, repetition, languages.

The newest iterations are read, never the whole run.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from rlcs.dashboard.store import Run
from rlcs.json_text import finite, parse_json

_BOX = re.compile(r"<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.S)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.S)
_MOST = 6000
"""Responses that are looked at, at most."""
_LONG = 200
"""Characters below which a text is too short to be called repetitive."""
_COLUMNS = "step, prompt_id, domain, sample, response, num_tokens, finish_reason, reward, correct, parts, detail"


@dataclass(slots=True)
class Sample:
    """Responses of the newest iterations, and counts over them."""

    first: int = 0
    last: int = 0
    """Iterations."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    """Normalised answers by domain."""
    repetitive: float = 0.0
    """Share of responses that repeat themselves."""
    mixed: float = 0.0
    """Share of responses that mix Chinese and Latin letters."""


def newest(run: Run, iterations: int) -> Sample:
    """The responses of the last `iterations` iterations."""
    files = run.database.rollout_files()
    if not files:
        return Sample()
    last = files[-1].last
    key = ("newest", iterations, last)
    if key not in run.cache:
        for old in [known for known in run.cache if known[0] == "newest" and known[2] != last]:
            run.cache.pop(old, None)
        run.cache[key] = _sample(run, max(1, last - iterations + 1), last)
    found: Sample = run.cache[key]
    return found


def counts_at(run: Run, step: int) -> Sample:
    """What is counted in the texts of one iteration, without the texts; kept, since they do not change."""
    key = ("counts", step, run.columns.restarts)
    if key not in run.cache:
        sample = _sample(run, step, step)
        sample.rows.clear()
        run.cache[key] = sample
    found: Sample = run.cache[key]
    return found


def _sample(run: Run, first: int, last: int) -> Sample:
    files = run.database.rollout_files(first, last)
    timed = bool(files) and "reward_seconds" in run.database.has_columns(files[-1])
    rows = run.database.rollouts(
        f"{_COLUMNS}, reward_seconds" if timed else _COLUMNS,
        "step BETWEEN ? AND ? ORDER BY step DESC LIMIT ?",
        [first, last, _MOST],
        files,
    )
    sample = Sample(first, last, rows)
    by_domain: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        row["answer_given"] = answer_of(row["response"])
        by_domain[row["domain"]][row["answer_given"]] += 1
    sample.answers = dict(by_domain)
    if rows:
        sample.repetitive = sum(is_repetitive(row["response"]) for row in rows) / len(rows)
        sample.mixed = sum(is_mixed(row["response"]) for row in rows) / len(rows)
    return sample


def answer_of(text: str) -> str:
    """The last boxed answer, or what stands between the answer marks, without case and spaces; "" if there is none."""
    found = _BOX.findall(text) or _ANSWER.findall(text)
    return " ".join(found[-1].split()).casefold()[:80] if found else ""


def is_repetitive(text: str) -> bool:
    """Whether the text says the same again and again: it is pressed to less than a tenth of its length."""
    data = text.encode()
    return len(data) >= _LONG and len(zlib.compress(data, 6)) < 0.1 * len(data)


def is_mixed(text: str) -> bool:
    """Whether a tenth or more of the letters are Chinese, and a tenth or more Latin."""
    chinese = sum("\u4e00" <= letter <= "\u9fff" for letter in text)
    latin = sum(letter.isascii() and letter.isalpha() for letter in _ANSWER.sub("", text))
    return chinese >= 10 and latin >= 10 and 0.1 <= chinese / (chinese + latin) <= 0.9


def parts_of(text: str | None) -> dict[str, float]:
    """The named parts of a reward, from their JSON."""
    try:
        value = parse_json(text or "{}")
    except ValueError:
        return {}
    parts = {name: finite(part) for name, part in value.items()} if isinstance(value, dict) else {}
    return {name: part for name, part in parts.items() if part is not None}
