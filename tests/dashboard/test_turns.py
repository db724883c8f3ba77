"""Episodes in the dashboard: every turn, what the environment said and showed between them, folded thinking a turn."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from rlcs.config import LoggingConfig
from rlcs.dashboard.report import write_report
from rlcs.dashboard.server import create_app
from rlcs.runlog import RunLog
from rlcs.types import Group, Image, Observation, Prompt, Response

from .conftest import HOSTILE, response

FIRST = "<think>open it</think><answer><|begin_of_box|>[[100, 200, 300, 400]]<|end_of_box|></answer>"
SECOND = "<think>press it</think><answer><|begin_of_box|>[[500, 600, 700, 800]]<|end_of_box|></answer>"
TOLD = f"<|user|><|image|>Error: {HOSTILE}<|assistant|>"


def screen() -> Image:
    data = io.BytesIO()
    PIL.Image.new("RGB", (30, 20), (9, 99, 200)).save(data, "PNG")
    return Image.of(data.getvalue())


def episode(run: Path) -> Response:
    """Two turns and an observation between them, whose picture is two tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(run / "policy-init" / "tokenizer.json"))
    parts = [tokenizer.encode(text).ids for text in (FIRST, TOLD, SECOND)]
    parts[1].insert(1, parts[1][0])
    start, end = len(parts[0]), len(parts[0]) + len(parts[1])
    whole = response(FIRST + TOLD + SECOND, 1.0, [token for part in parts for token in part])
    whole.loss_mask[:] = True
    whole.loss_mask[start:end] = False
    told = Observation(start, end, len(FIRST), len(FIRST + TOLD), (screen(),))
    return replace(whole, observations=(told,))


@pytest.mark.parametrize("token_groups", [8, 0])
def test_turns_are_told_from_what_the_environment_said(make_run: Callable[..., Path], token_groups: int) -> None:
    run = make_run()
    log = RunLog(run, LoggingConfig(tensorboard=False, token_groups=token_groups), {})
    messages = [{"role": "user", "content": "Open the door."}]
    prompt = Prompt("e" * 16, messages, "[100, 200, 300, 400]", "gcd", 1, images=(screen(),))
    log.write_rollouts(13, [Group(prompt, np.asarray([1], np.int32), [episode(run)])], [0])
    log.close()
    (row,) = pq.read_table(run / "rollouts" / "step-000013.parquet").to_pylist()
    assert row["observations"][0]["images"] == [screen().digest]
    with TestClient(create_app(run.parent), base_url="http://127.0.0.1") as site:
        page = site.get("/runs/first/rollouts?step=13").text
    (card,) = re.findall(r'<section class="card response".*?</section>', page, re.S)
    assert card.count("<summary>Thinking</summary>") == 2, "each turn's thinking is folded"
    (told,) = re.findall(r'<div class="observation".*?</div>\n', card, re.S)
    assert "<|" not in told and "Error: &lt;/script&gt;" in told and "<script>window" not in page
    plain = re.sub(r"<[^>]+>", "", card)
    assert plain.index("open it") < plain.index("Error: ") < plain.index("press it")
    assert ("probability" in card) == bool(token_groups)
    if token_groups:
        assert '[100, 200, 300, 400]</td><td class="n">1.00</td>' in card, "the first action, beside the reference"
        assert screen().digest in told, "the picture that was seen"
        assert '<rect class="predicted" x="500.0" y="600.0" width="200.0" height="200.0"/>' in told
    write_report([run], run / "report.html")
    assert (run / "report.html").read_text().count('class="observation"') == 1
