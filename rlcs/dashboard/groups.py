"""The responses of one group for a person: tokens with colours, folded thinking, reward parts, differences."""

from __future__ import annotations

import difflib
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlcs.dashboard.pictures import box_rows, first_turn
from rlcs.dashboard.pieces import Piece, split_thinking
from rlcs.dashboard.responses import parts_of
from rlcs.dashboard.store import Run
from rlcs.dashboard.turns import ShownTurn, turns_of

_COLUMNS = (
    "step, prompt_id, domain, tier, prompt, answer, sample, response, num_tokens, finish_reason, policy_version, \
reward, correct, parts, detail, kept"
)
LEVELS = 6
"""Steps of colour for log-probabilities."""
_MOST_LISTED = 400
_SEARCH_S = 0.5
"""Time after which a search in all iterations pauses and says how far it came."""


@dataclass(slots=True)
class Shown:
    """A response, ready to be shown."""

    row: dict[str, Any]
    advantage: float | None
    """Reward minus the mean of the group, over its standard deviation."""
    parts: dict[str, float]
    thinking: list[Piece] = field(default_factory=list)
    rest: list[Piece] = field(default_factory=list)
    has_tokens: bool = False
    boxes: list[tuple[str, str, float | None]] = field(default_factory=list)
    """Reference box, answered box, and their overlap (`pictures.box_rows`)."""
    turns: list[ShownTurn] = field(default_factory=list)
    """The parts of an episode; `thinking` and `rest` are empty then."""


@dataclass(slots=True)
class GroupRow:
    """A group in the list of an iteration."""

    prompt_id: str
    domain: str
    tier: int | None
    prompt: str
    rewards: list[float]
    kept: bool
    has_tokens: bool
    """Whether its tokens were recorded."""


def iterations(run: Run) -> list[int]:
    """First and last iteration with responses; empty where there are none."""
    files = run.database.rollout_files()
    return [files[0].first, files[-1].last] if files else []


def nearest(run: Run, step: int) -> int | None:
    """The iteration with responses that is nearest to `step` from below, else from above."""
    files = run.database.rollout_files()
    below = [min(step, file.last) for file in files if file.first <= step]
    return below[-1] if below else (files[0].first if files else None)


def groups_of(run: Run, step: int, *, domain: str = "", kind: str = "", text: str = "") -> list[GroupRow]:
    """The groups of an iteration; `kind` is mixed, right or wrong."""
    where = "step = ?"
    parameters: list[Any] = [step]
    having = {
        "mixed": "max(reward) - min(reward) > 1e-9",
        "right": "min(reward) >= 1 - 1e-9",
        "wrong": "max(reward) <= 1e-9",
    }.get(kind, "true")
    if domain:
        where, parameters = f"{where} AND domain = ?", [*parameters, domain]
    if text:
        having += " AND (bool_or(contains(lower(response), lower(?))) OR bool_or(contains(lower(prompt), lower(?))))"
        parameters += [text, text]
    files = run.database.rollout_files(step, step)
    known = files and "token_ids" in run.database.has_columns(files[0])
    tokens = "bool_or(token_ids IS NOT NULL)" if known else "false"
    rows = run.database.rollouts(
        f"{tokens} AS has_tokens, prompt_id, any_value(domain) AS domain, any_value(tier) AS tier, any_value(prompt) AS prompt, "
        "list(coalesce(reward, 0) ORDER BY reward DESC) AS rewards, any_value(kept) AS kept",
        f"{where} GROUP BY prompt_id HAVING {having} ORDER BY avg(reward), prompt_id LIMIT {_MOST_LISTED}",
        parameters,
        files,
    )
    return [
        GroupRow(
            row["prompt_id"],
            row["domain"],
            row["tier"],
            row["prompt"] or "",
            [float(reward) for reward in row["rewards"]],
            bool(row["kept"]),
            bool(row["has_tokens"]),
        )
        for row in rows
    ]


def search(
    run: Run, text: str, until: int | None = None, limit: int = 50, budget_s: float = _SEARCH_S
) -> tuple[list[dict[str, Any]], int]:
    """The newest responses that hold a text, and the iteration back to which was read.

    Files are read from iteration `until` back, until there are enough responses or the time is used.
    """
    found: list[dict[str, Any]] = []
    files = list(reversed(run.database.rollout_files(0, until)))
    started, reached = time.monotonic(), 0
    while files and len(found) < limit and time.monotonic() - started < budget_s:
        loose = next((i for i, file in enumerate(files) if file.first < file.last), len(files))
        size = min(32, loose) or 1  # small files of one iteration together, large ones one by one
        part, files = files[:size], files[size:]
        reached = part[-1].first
        found += run.database.rollouts(
            "step, prompt_id, domain, sample, reward, response",
            "contains(lower(response), lower(?)) ORDER BY step DESC, prompt_id, sample LIMIT ?",
            [text, limit - len(found)],
            part,
        )
    return found, reached


def group(run: Run, step: int, prompt_id: str, colour: str = "logprob", *, inline: bool = False) -> list[Shown]:
    """The responses of a prompt in an iteration, best first. `inline`: with the files of observations' pictures in it."""
    files = run.database.rollout_files(step, step)
    tokens = bool(files) and "logprobs" in run.database.has_columns(files[0])
    columns = _COLUMNS + (", token_ids, logprobs, loss_mask" if tokens else "")
    columns += "".join(
        f", {name}"
        for name in ("images", "videos", "observations")
        if files and name in run.database.has_columns(files[0])
    )
    where = "step = ? AND prompt_id = ? ORDER BY reward DESC, sample"
    rows = run.database.rollouts(columns, where, [step, prompt_id], files)
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    mean = sum(rewards) / len(rewards) if rewards else 0.0
    spread = (sum((reward - mean) ** 2 for reward in rewards) / max(1, len(rewards) - 1)) ** 0.5
    shown = []
    for row in rows:
        advantage = None if row["reward"] is None else (row["reward"] - mean) / (spread + 1e-6)
        response = Shown(row, advantage, parts_of(row["parts"]))
        if row.get("images") or row.get("videos"):
            response.boxes = box_rows(row["answer"] or "", first_turn(row))
        pieces = _token_pieces(run, row) if row.get("token_ids") is not None else None
        response.has_tokens = pieces is not None
        if pieces is not None and colour == "none":
            pieces = [Piece(p.text, _forced(p.css), p.title) for p in pieces]
        elif pieces is not None and colour == "advantage":
            css = _advantage_class(advantage)
            pieces = [Piece(p.text, f"{css} {_forced(p.css)}".strip(), p.title) for p in pieces]
        response.turns = turns_of(run, row, pieces, inline=inline)
        if not response.turns:
            known = [Piece(row["response"])] if pieces is None else [piece for piece in pieces if piece.text]
            response.thinking, response.rest = split_thinking(known, row["response"])
        shown.append(response)
    return shown


def steps_of(run: Run, prompt_id: str) -> list[int]:
    """The iterations in which a prompt was drawn."""
    return [
        row["step"] for row in run.database.ask("SELECT step FROM draws WHERE prompt_id = ? ORDER BY step", prompt_id)
    ]


def differences(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts, with the words marked that only one of them has."""
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text)[:4000] for text in (before, after))
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=len(a) > 500).get_opcodes():
        left.append(Piece("".join(a[a0:a1]), "" if tag == "equal" else "gone"))
        right.append(Piece("".join(b[b0:b1]), "" if tag == "equal" else "new"))
    return [p for p in left if p.text], [p for p in right if p.text]


def _token_pieces(run: Run, row: dict[str, Any]) -> list[Piece] | None:
    """The response, a piece for each token; None where the run's tokenizer is not to be found."""
    texts = _decoded(run.path, tuple(row["token_ids"]))
    if texts is None:
        return None
    pieces = []
    for text, logprob, chosen in zip(texts, row["logprobs"], row["loss_mask"], strict=True):
        if chosen:
            probability = 2.718281828 ** min(0.0, logprob)
            pieces.append(Piece(text, f"p{_level(probability)}", f"probability {probability:.3g}, log {logprob:.3f}"))
        else:
            pieces.append(Piece(text, "forced", "forced: not the policy's choice, not learned from"))
    return pieces


def _decoded(run_dir: Path, token_ids: tuple[int, ...]) -> list[str] | None:
    """The characters that each token adds; bytes of one character go to its last token."""
    tokenizer = _tokenizer(run_dir)
    if tokenizer is None:
        return None
    texts: list[str] = []
    waiting: list[int] = []
    for token in token_ids:
        waiting.append(int(token))
        text = tokenizer.decode(waiting, skip_special_tokens=False)
        if text.endswith("\ufffd") and len(waiting) < 8:
            texts.append("")
            continue
        texts.append(text)
        waiting = []
    return texts


@lru_cache(maxsize=8)
def _tokenizer(run_dir: Path) -> Any:
    """The tokenizer of the run's policy, from the newest checkpoint or the beginning."""
    from tokenizers import Tokenizer

    folders = [
        *sorted(run_dir.glob("checkpoints/step-*/policy"), reverse=True),
        run_dir / "policy-sft",
        run_dir / "policy-init",
    ]
    for folder in folders:
        path = folder / "tokenizer.json"
        if path.is_file():
            try:
                return Tokenizer.from_file(str(path))
            except Exception:  # nosec B112 # noqa: S112
                continue  # the library raises plain Exceptions; another checkpoint may have a whole file
    return None


def _level(probability: float) -> int:
    """0 for a token that was certain, `LEVELS` - 1 for the least likely."""
    edges = (0.9, 0.6, 0.3, 0.1, 0.02)
    return next((i for i, edge in enumerate(edges) if probability >= edge), LEVELS - 1)


def _advantage_class(advantage: float | None) -> str:
    if advantage is None or abs(advantage) < 0.05:
        return "a0"
    size = 1 if abs(advantage) < 0.7 else 2
    return f"up{size}" if advantage > 0 else f"down{size}"


def _forced(css: str) -> str:
    return css if css == "forced" else ""
