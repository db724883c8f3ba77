"""Datasets as prompts: rows checked one by one, then split into training and held-out prompts that never overlap.

Ours are the columns `prompt` (text, or a list of chat messages), `answer`, `domain`, `tier`, `solution`, `images` and `videos`;
`data.columns` maps them to a dataset's own names. Every other column goes to `Prompt.metadata`. A row that cannot be
used is reported with its number, and refused or skipped as `data.on_bad_row` says. Reading files is `rlcs.data_files`,
checking a row is `rlcs.data_rows`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rlcs.config import OUR_COLUMNS, DataConfig
from rlcs.data_files import BadRow, RowSource, open_rows
from rlcs.data_media import MediaReader, read_prompt
from rlcs.data_rows import RowProblem, to_solution
from rlcs.errors import DataError
from rlcs.nothink import tag_share
from rlcs.terminal_text import printable
from rlcs.types import Prompt, content_id

logger = logging.getLogger(__name__)

_NEEDED = ("prompt", "answer")
_SHOWN_REASONS = 3

_USUAL_NAMES = {
    "prompt": ("question", "problem", "instruction", "messages", "query", "input", "text"),
    "answer": ("final_answer", "label", "target", "reference", "ground_truth", "output", "solution"),
    "solution": ("rationale", "reasoning", "response", "completion", "output"),
    "images": ("image", "img", "picture", "pictures", "image_path"),
    "videos": ("video", "frames", "video_path"),
}
"""What datasets often call our columns, for a hint."""


@dataclass(slots=True)
class DataSplits:
    """Prompts to train on and prompts held out."""

    train: list[Prompt]
    eval: list[Prompt]


def load_splits(config: DataConfig, seed: int) -> DataSplits:
    """The prompts of `data.train`, and those of `data.eval` or else a share `data.eval_fraction` of the former.

    The share is drawn by a hash of seed and question: the same question is always on the same side, and rows added later
    do not move the others.

    Raises:
        DataError: a dataset is missing, empty, lacks a column or has a bad row, or the two overlap.
    """
    assert config.train is not None, "load_splits is for datasets; an environment makes its own prompts"
    train = _load_prompts(config, config.train, "data.train", config.train_split)
    if config.eval is None:
        train, held_out = _split(train, config.eval_fraction, seed)
    else:
        held_out = _load_prompts(config, config.eval, "data.eval", config.eval_split)
        train = _without_overlap(train, held_out, config)
    check_no_overlap(train, held_out)
    return DataSplits(tag_share(train, config.nothink, seed), tag_share(held_out, config.nothink, seed))


def load_solutions(
    config: DataConfig, solutions: str | None, held_out: Iterable[Prompt] = ()
) -> list[tuple[Prompt, str]]:
    """Prompts with a worked solution, for the cold start: the rows of `solutions`, or of `data.train`, that have one.

    Questions of `held_out` prompts are left out and counted. Solutions are the text of a whole response. The same prompt
    may come with several solutions.

    Raises:
        DataError: as `load_splits`, or no row has a solution.
    """
    name = solutions if solutions is not None else config.train
    if name is None:
        raise DataError("sft.solutions is not given, and there is no data.train to take a `solution` column from")
    key = "sft.solutions" if solutions is not None else "data.train"
    source = open_rows(name, key, split=config.train_split, subset=config.subset)
    reader = _RowReader(config, source, ["solution"], solutions=True)
    forbidden = {question_id(prompt) for prompt in held_out}
    found: list[tuple[Prompt, str]] = []
    without = leaked = 0
    for prompt, solution in reader.read():
        if solution is None:
            without += 1
        elif forbidden and question_id(prompt) in forbidden:
            leaked += 1
        else:
            found.append((prompt, solution))
    if without:
        logger.info("%s: %d rows have no solution and are not used in the cold start", name, without)
    if leaked:
        logger.info("%s: %d solutions of held-out prompts are left out of the cold start", name, leaked)
    if not found:
        reason = "every solution is of a held-out prompt" if leaked else "no row has a solution"
        raise DataError(f"{key}: {name}: {reason}; give a dataset with a `solution` column as sft.solutions")
    return found


def check_no_overlap(train: list[Prompt], held_out: list[Prompt]) -> None:
    """Check that no prompt is on both sides, by id.

    Raises:
        DataError: says how many are and names the first.
    """
    ids = {prompt.id for prompt in train}
    common = [prompt for prompt in held_out if prompt.id in ids]
    if common:
        raise DataError(f"{len(common)} held-out prompts are training prompts too, the first {describe(common[0])}")


def question_id(prompt: Prompt) -> str:
    """A hash of what is asked and shown: equal for rows that ask the same and differ in the reference answer."""
    if prompt.images or prompt.videos:
        return content_id([prompt.messages], prompt.images, prompt.videos)
    content = json.dumps(prompt.messages, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def describe(prompt: Prompt) -> str:
    """`0123456789abcdef ('What is the sum of ...')`: id and the first 60 characters of the last message."""
    content = prompt.messages[-1]["content"]
    if not isinstance(content, str):
        content = " ".join(str(part.get("text") or f"[{part.get('type')}]") for part in content)
    text = " ".join(content.split())
    return f"{prompt.id} ({text[:60] + ('...' if len(text) > 60 else '')!r})"


def _load_prompts(config: DataConfig, name: str, key: str, split: str) -> list[Prompt]:
    """The distinct prompts of a dataset, in its order."""
    source = open_rows(name, key, split=split, subset=config.subset)
    prompts: dict[str, Prompt] = {}
    repeated = 0
    # A held-out dataset need not have worked solutions, though the training data may.
    expected = [ours for ours in config.columns if key == "data.train" or ours != "solution"]
    for prompt, _ in _RowReader(config, source, expected).read():
        if prompts.setdefault(prompt.id, prompt) is not prompt:
            repeated += 1
    if repeated:
        logger.warning("%s: dropped %d rows that repeat an earlier prompt and answer", source.name, repeated)
    return list(prompts.values())


class _RowReader:
    """Turns a dataset's rows into prompts, and keeps account of the bad ones."""

    def __init__(self, config: DataConfig, source: RowSource, expected: Iterable[str], solutions: bool = False) -> None:
        """`expected` are those of our columns that the dataset must have beside prompt and answer."""
        self.config = config
        self.source = source
        self.solutions = solutions
        self.columns = {ours: config.columns.get(ours, ours) for ours in OUR_COLUMNS}
        self.media = MediaReader.of(config, source.folder)
        self.needed = _NEEDED if config.answer_required else ("prompt",)
        self.unseen = {ours for ours in expected if ours not in _NEEDED}
        self.bad: list[str] = []
        self.num_bad = 0
        if source.columns is not None:
            for ours in (*self.needed, *sorted(self.unseen)):
                if self.columns[ours] not in source.columns:
                    raise DataError(f"{source.name}: {missing_column(ours, self.columns[ours], source.columns)}")
            for ours in ("images", "videos"):
                unused = [name for name in _USUAL_NAMES[ours] if name in source.columns]
                if unused and self.columns[ours] not in source.columns:
                    logger.warning(
                        "%s: no %s are shown; if column %r holds them, set data.columns.%s=%s",
                        source.name,
                        ours,
                        unused[0],
                        ours,
                        unused[0],
                    )

    def read(self) -> Iterator[tuple[Prompt, str | None]]:
        """Prompts with their solution (None where there is none, or none is wanted)."""
        num_rows = 0
        columns: list[str] = []
        for row in self.source.rows:
            num_rows += 1
            if isinstance(row, BadRow):
                self._refuse(row.number, row.reason)
                continue
            columns = list(row.values)
            self.unseen = {ours for ours in self.unseen if self.columns[ours] not in row.values}
            missing = [ours for ours in self.needed if self.columns[ours] not in row.values]
            if missing:
                self._refuse(row.number, missing_column(missing[0], self.columns[missing[0]], columns))
                continue
            try:
                prompt = read_prompt(
                    row.values,
                    self.columns,
                    self.config.system_prompt,
                    self.media,
                    answer_required=self.config.answer_required,
                )
                solution = to_solution(row.values, self.columns) if self.solutions else None
            except RowProblem as problem:
                self._refuse(row.number, str(problem))
                continue
            yield prompt, solution
        self._report(num_rows)
        for ours in sorted(self.unseen):
            raise DataError(f"{self.source.name}: {missing_column(ours, self.columns[ours], columns)}")

    def _refuse(self, number: int, reason: str) -> None:
        where = f"{self.source.unit} {number}: {printable(reason)}"
        if self.config.on_bad_row == "error":
            raise DataError(f"{self.source.name}, {where} (data.on_bad_row=skip leaves such rows out)")
        self.num_bad += 1
        if len(self.bad) < _SHOWN_REASONS:
            self.bad.append(where)

    def _report(self, num_rows: int) -> None:
        name = self.source.name
        if num_rows == 0:
            raise DataError(f"{name} is empty: it has no rows")
        if self.num_bad == num_rows:
            raise DataError(f"{name}: all {num_rows} rows are bad; {self.bad[0]}")
        if self.num_bad:
            reasons = "; ".join(self.bad) + ("; ..." if self.num_bad > len(self.bad) else "")
            logger.warning("%s: skipped %d bad rows of %d: %s", name, self.num_bad, num_rows, reasons)


def missing_column(ours: str, theirs: str, columns: list[str]) -> str:
    """What to do about a column that is not there: which columns there are, and how to map one."""
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "") or "none"
    guess = next((name for name in _USUAL_NAMES.get(ours, ()) if name in columns), "THEIRS")
    return (
        f"no column {theirs!r}; it has {printable(shown)}. Say which holds the {ours} with data.columns.{ours}={guess}"
    )


def _split(prompts: list[Prompt], fraction: float, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Training and held-out prompts; both sides get at least one question where there are two and `fraction` > 0."""
    if fraction == 0:
        return prompts, []
    places = [_place(prompt, seed) for prompt in prompts]
    if len(set(places)) == 1:
        logger.warning("data.train has a single question, so none is held out")
        return prompts, []
    # The bounds keep a small dataset from ending up on one side.
    limit = min(max(fraction, min(places) + 2**-53), max(places))
    train = [prompt for prompt, place in zip(prompts, places, strict=True) if place >= limit]
    held_out = [prompt for prompt, place in zip(prompts, places, strict=True) if place < limit]
    return train, held_out


def _place(prompt: Prompt, seed: int) -> float:
    """A number in [0, 1) that depends on the seed and the question only."""
    digest = hashlib.sha256(f"{seed}/{question_id(prompt)}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _without_overlap(train: list[Prompt], held_out: list[Prompt], config: DataConfig) -> list[Prompt]:
    """The training prompts whose question is not held out; an overlap is an error unless bad rows are skipped."""
    questions = {question_id(prompt) for prompt in held_out}
    common = [prompt for prompt in train if question_id(prompt) in questions]
    if not common:
        return train
    found = f"{len(common)} prompts of data.train are in data.eval too, the first {describe(common[0])}"
    if config.on_bad_row == "error":
        raise DataError(f"{found}; take them out of one, or set data.on_bad_row=skip to leave them out of training")
    if len(common) == len(train):
        raise DataError(
            f"all {len(train)} prompts of data.train are in data.eval too: there is nothing left to train on"
        )
    logger.warning("%s; they are left out of training", found)
    taken = {prompt.id for prompt in common}
    return [prompt for prompt in train if prompt.id not in taken]
