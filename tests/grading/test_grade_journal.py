"""The journal of a grading: nothing that was saved is lost, and nothing else is mixed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlcs.errors import CheckpointError, ConfigError
from rlcs.grading.journal import Graded, Journal, journal_path

SETTINGS = {"samples": 4, "models": [["m", 1]], "rollout.temperature": 1.0}
CHUNK = [Graded(0, "a" * 16, 3, 0.75, 40), Graded(0, "b" * 16, 0, 0.1, 44)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A grading with one chunk saved."""
    path = tmp_path / "graded.parquet"
    journal = Journal.begin(path, SETTINGS)
    journal.append(CHUNK)
    journal.close()
    return path


def test_a_journal_goes_on_after_every_possible_kill(output: Path) -> None:
    path = journal_path(output)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(first, len(content) + 1):
        path.write_bytes(content[:cut])
        journal = Journal.reopen(output, SETTINGS)
        kept = journal.records
        assert kept == CHUNK[: content[:cut].count(b"\n") - 1]
        journal.append(CHUNK[len(kept) :])
        journal.close()
        assert path.read_bytes() == content


def test_other_settings_are_refused_by_name(output: Path) -> None:
    with pytest.raises(ConfigError, match=r"another rollout\.temperature \(1\.0, now 0\.5\)"):
        Journal.reopen(output, {**SETTINGS, "rollout.temperature": 0.5})
    Journal.reopen(output, SETTINGS).close()


def test_one_process_at_a_time(output: Path) -> None:
    journal = Journal.reopen(output, SETTINGS)
    with pytest.raises(ConfigError, match="another `rlcs grade`"):
        Journal.begin(output, SETTINGS)
    journal.close()
    assert Journal.reopen(output, SETTINGS).records == CHUNK


def test_without_a_journal_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no grading of .* was begun"):
        Journal.reopen(tmp_path / "other.parquet", SETTINGS)
    (tmp_path / "done.parquet").touch()
    with pytest.raises(CheckpointError, match=r"done\.parquet is finished"):
        Journal.reopen(tmp_path / "done.parquet", SETTINGS)


@pytest.mark.parametrize("line", ["{", "[]", '{"model": 0}'])
def test_a_damaged_line_is_named(output: Path, line: str) -> None:
    path = journal_path(output)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(CheckpointError, match="line 2"):
        Journal.reopen(output, SETTINGS)


def test_a_journal_of_another_version_is_refused(output: Path) -> None:
    path = journal_path(output)
    header = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps({**header, "schema": 99}) + "\n")
    with pytest.raises(CheckpointError, match="version"):
        Journal.reopen(output, SETTINGS)


def test_removing_leaves_nothing(output: Path) -> None:
    Journal.reopen(output, SETTINGS).remove()
    assert list(output.parent.iterdir()) == []
