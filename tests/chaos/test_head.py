"""Ray's head is lost: the run ends with the command that resumes it, leaves nothing behind, and goes on by that command."""

from __future__ import annotations

from typing import Any

import pytest

from rlcs.checkpoint import latest_checkpoint, load_progress


@pytest.mark.slow
def test_a_run_that_loses_its_head_ends_with_the_command_that_resumes_it(
    run_with_faults: Any, run_cli: Any, tmp_path: Any
) -> None:
    outcome = run_with_faults(steps=100_000, faults=["kill head"])
    assert outcome.code == 1
    assert f"rlcs train --resume {outcome.run}" in outcome.output
    assert outcome.orphans == [] and outcome.shared_memory == []
    done = load_progress(latest_checkpoint(outcome.run)).step
    config = outcome.run / "config.yaml"
    config.write_text(config.read_text().replace("steps: 100000", f"steps: {done + 2}"))
    (tmp_path / "sitecustomize.py").unlink()
    result = run_cli("train", "--resume", outcome.run, timeout_s=280)
    assert result.code == 0, result.stdout + result.stderr
    assert load_progress(latest_checkpoint(outcome.run)).step == done + 2
