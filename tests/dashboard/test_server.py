"""The dashboard over HTTP: every page, every state of a folder, and who is let in."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import PIL.Image
import pytest
from httpx2 import InvalidURL
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from rlcs.config import LoggingConfig
from rlcs.dashboard.guard import COOKIE, is_host, is_local, known_hosts
from rlcs.dashboard.pages import PAGES
from rlcs.dashboard.pictures import box_rows, boxes, overlap
from rlcs.dashboard.report import MOST_BYTES, write_report
from rlcs.dashboard.server import create_app
from rlcs.runlog import RunLog
from rlcs.types import Group, Image, Prompt, Video

from .conftest import DOMAINS, HOSTILE, response, write_steps

MakeRun = Callable[..., Path]


def client(folder: Path, **options: Any) -> TestClient:
    return TestClient(create_app(folder, **options), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def traversal_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server of a folder with an empty run, links out of it, and a secret beside it."""
    folder = tmp_path_factory.mktemp("site")
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("model: {init: tiny}\ndata: {train: x.jsonl}\n")
    (folder / "secret.txt").write_text("hunter2")
    (folder / "outside").mkdir()
    (folder / "outside" / "config.yaml").write_text("hunter2: 1")
    (folder / "runs" / "link").symlink_to(folder / "outside")
    (run / "rollouts" / "images").mkdir(parents=True)
    (run / "rollouts" / "images" / ("a" * 32 + ".jpg")).symlink_to(folder / "secret.txt")
    with client(folder / "runs") as site:
        yield site


def figures(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    assert match is not None
    return {figure["id"]: figure for figure in json.loads(match[1])}


class Tags(HTMLParser):
    """The elements and attributes of a page, as a browser would read them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("page", [path for path, _ in PAGES])
def test_every_page_answers_and_escapes_what_the_model_said(make_run: MakeRun, page: str) -> None:
    run = make_run()
    with client(run.parent) as site:
        answer = site.get(f"/runs/first/{page}")
        assert answer.status_code == 200
        assert HOSTILE not in answer.text and "<script>window" not in answer.text and "<img src=x" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        tags = Tags()
        tags.feed(answer.text)
        assert not {name for name in tags.attributes if name == "style" or name.startswith("on")}
        assert (
            tags.names.count("img") == (page == "rollouts")
            and "b" not in tags.names
            and tags.names.count("script") <= 3
        )


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("page", [path for path, _ in PAGES])
def test_a_run_at_its_very_beginning_has_every_page(make_run: MakeRun, page: str, steps: int) -> None:
    run = make_run(steps=steps)
    with client(run.parent) as site:
        assert site.get(f"/runs/first/{page}").status_code == 200


def test_a_page_of_one_prompt_has_its_history_and_asks_why(make_run: MakeRun) -> None:
    run = make_run()
    with client(run.parent, explain=lambda folder, name: [f"because of <{name}>"]) as site:
        listed = site.get("/runs/first/prompts?sort=draws").text
        (prompt_id, *_) = re.findall(r'href="\?id=(\w+)"', listed)
        page = site.get(f"/runs/first/prompts?id={prompt_id}&why=1").text
        assert f"because of &lt;{prompt_id}&gt;" in page
        assert len(figures(page)["history"]["series"][0]["x"]) >= 1
        assert site.get("/runs/first/prompts?id=nonsense").status_code == 404


@pytest.mark.parametrize(
    "sort", ["draws", "least_draws", "hardest", "easiest", "unsure", "newest", "surprise", "x; DROP"]
)
def test_prompts_are_filtered_and_sorted(make_run: MakeRun, sort: str) -> None:
    run = make_run()
    with client(run.parent) as site:
        text = site.get(f"/runs/first/prompts?sort={sort}&domain=gcd&tier=2&least=0.1&most=0.9").text
        assert "<td>sums</td>" not in text
        assert site.get("/runs/first/prompts?state=never").status_code == 200
        assert site.get("/runs/first/prompts?tier=x&least=nan&most=-4&page=999999").status_code == 200


def test_pictures_are_shown_with_boxes_and_nothing_else_is_served_as_one(make_run: MakeRun) -> None:
    run = make_run()
    (run / "rollouts" / "images" / f"{'0' * 32}.jpg").symlink_to(run / "config.yaml")
    with client(run.parent) as site:
        page = site.get("/runs/first/rollouts").text
        source = re.search(r'<img src="([^"]+)"', page)
        assert source is not None
        assert site.get(source[1]).headers["content-type"] == "image/jpeg"
        assert '<rect class="reference" x="100.0" y="200.0" width="400.0" height="400.0"/>' in page
        for name in ("0" * 32, "..%2f..%2fconfig", "x"):
            assert site.get(f"/runs/first/images/{name}.jpg").status_code == 404


def test_a_video_is_shown_as_frames_and_boxes_with_their_coordinates(make_run: MakeRun) -> None:
    run = make_run()
    text = "<think>[1, 1, 2, 2]</think><answer><|begin_of_box|>[[100, 200, 500, 400]]<|end_of_box|></answer>"
    log = RunLog(run, LoggingConfig(tensorboard=False), {})
    log.write_rollouts(13, [Group(film(20), np.asarray([1], np.int32), [response(text, 0.5, [1, 2])])], [0])
    log.close()
    with client(run.parent) as site:
        page = site.get("/runs/first/rollouts?step=13").text
        assert re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", page) == [
            f"Video, {place / 4:.3g} s" for place in (0, 3, 5, 8, 11, 14, 16, 19)
        ]
        sources = re.findall(r'<img src="([^"]+)"', page)
        assert len(set(sources)) == 8
        assert {site.get(source).headers["content-type"] for source in sources} == {"image/jpeg"}
        assert "[100, 200, 500, 600]" in page and "[100, 200, 500, 400]" in page
        assert '<td class="n">0.50</td>' in page  # the overlap: half of the reference


def film(length: int) -> Prompt:
    """A prompt that shows a video of so many frames, four a second."""
    frames = []
    for i in range(length):
        data = io.BytesIO()
        PIL.Image.new("RGB", (40, 30), (10 * i, 99, 200)).save(data, "PNG")
        frames.append(Image.of(data.getvalue()))
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "When?"}]}]
    return Prompt("f" * 16, messages, "[100, 200, 500, 600]", "gcd", 1, videos=(Video(tuple(frames), 4.0),))


def test_boxes_are_paired_by_their_overlap() -> None:
    rows = box_rows("[0, 0, 10, 10] [50, 50, 60, 60]", "</think>[50, 50, 60, 55] [0, 0, 10, 10] [90, 90, 95, 95]")
    assert rows == [
        ("[0, 0, 10, 10]", "[0, 0, 10, 10]", 1.0),
        ("[50, 50, 60, 60]", "[50, 50, 60, 55]", 0.5),
        ("", "[90, 90, 95, 95]", None),
    ]
    assert box_rows("[0, 0, 10, 10]", "[0, 0, 10, 10]</think>none") == [("[0, 0, 10, 10]", "", None)]
    assert box_rows("7", "[0, 0, 10, 10]") == []
    degenerate = boxes("[5, 5, 5, 5]")[0]
    assert overlap(degenerate, degenerate) == 0.0


def test_verifiers_are_timed_and_the_slowest_responses_named(make_run: MakeRun) -> None:
    run = make_run()
    with client(run.parent) as site:
        page = site.get("/runs/first/rewards").text
    shown = figures(page)
    assert [series["name"] for series in shown["latency"]["series"]] == ["math", "style"]
    assert shown["latency"]["series"][0]["y"][-1] == pytest.approx(3.0)
    assert [series["y"][-1] for series in shown["failing"]["series"]] == [0.0, 0.0]
    table = page.partition('aria-label="Slowest responses"')[2]
    assert re.findall(r'<td class="n">(.*?) ms</td><td>(.*?)</td>', table)[0] == ("3", "math")
    assert table.count(" ms</td>") == 12


def test_actors_are_listed_and_a_damaged_list_of_them_is_passed_over(make_run: MakeRun) -> None:
    run = make_run()
    with client(run.parent) as site:
        page = site.get("/runs/first/system").text
        assert "waiting: rollouts" in page and "<td>engine-0</td><td>rollouts</td><td>busy</td>" in page
        assert figures(page)["restarts"]["series"][0]["y"][-1] == 1
        assert figures(page)["actor_memory"]["series"][0]["y"][-1] == 1.5
        for damaged in ("{", "[1]", '{"actors": 3}', '{"actors": [{"name": "x"}, 7], "queues": []}'):
            (run / "actors.json").write_text(damaged)
            assert "its actors have not started" in site.get("/runs/first/system").text


def test_faults_are_listed_newest_first_also_odd_ones(make_run: MakeRun) -> None:
    run = make_run()
    with (run / "faults.jsonl").open("a") as file:
        file.write(json.dumps({"who": "prompt 7", "kind": None, "time": "x", "step": {}, "reason": 4}) + "\n")
    with client(run.parent) as site:
        page = site.get("/runs/first/system").text
        table = page.partition('aria-label="Table of faults"')[2].partition("</table>")[0]
        assert re.findall(r'<td class="mono">(.*?)</td>', table) == ["prompt 7", "engine-0"]
        assert "engine restarts" in table
        (run / "faults.jsonl").unlink()
        assert "training has looked healthy" in site.get("/runs/first/system").text


def test_odd_starts_and_checkpoints_are_passed_over(make_run: MakeRun) -> None:
    run = make_run()
    folder = run / "checkpoints" / "step-000004"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"step": [], "generated_tokens": {}}))
    lines = [
        {"time": None},
        {"time": 1.0, "command": ["rlcs", "train"], "gpus": 3},
        {"time": 1.0, "command": ["rlcs", "eval"]},
    ]
    (run / "starts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with client(run.parent) as site:
        page = site.get("/runs/first/system").text
        assert page.count("<h2>Started ") == 1 and "rlcs eval" in page
        assert "step-000004" in page and "no manifest: damaged, or being written" in page


def test_a_table_that_is_damaged_past_its_footer_is_named_and_the_others_are_shown(make_run: MakeRun) -> None:
    run = make_run()
    path = run / "rollouts" / "step-000012.parquet"
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    for name in ("curriculum/step-000011.parquet", "curriculum/prompts.parquet"):
        damaged = bytearray((run / name).read_bytes())
        damaged[4:60] = b"\xff" * 56
        (run / name).write_bytes(damaged)
    with client(run.parent) as site:
        for page, _ in PAGES:
            assert site.get(f"/runs/first/{page}").status_code == 200
        text = site.get("/runs/first/rewards").text
        assert "step-000012.parquet cannot be read" in text and "step-000011.parquet cannot be read" in text


def test_a_page_that_fails_says_so_in_one_line(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    monkeypatch.setattr("rlcs.dashboard.server.page_values", lambda *_: 1 / 0)
    app = create_app(run.parent)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as site:
        answer = site.get("/runs/first/overview")
        assert answer.status_code == 500
        assert "This page cannot be shown (ZeroDivisionError: division by zero)." in answer.text


def test_the_report_has_held_out_results_verifiers_actors_and_pictures_of_every_domain(
    make_run: MakeRun, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    assert write_report([make_run()], path) == path.stat().st_size < MOST_BYTES
    page = path.read_text()
    table = re.search(r'<section class="card" id="held-out".*?</section>', page, re.S)
    assert table is not None
    # Of both domains and of all: before 0.4, after twelve iterations 0.64; their mean reward stays 0.5.
    assert len(re.findall(r'<td class="n">40.0 %</td><td class="n">64.0 %</td>', table[0])) == 3
    assert table[0].count('<td class="n">+0.000</td>') == 3
    verifiers = re.search(r'aria-label="Table of verifiers".*?</table>', page, re.S)
    assert verifiers is not None and "<td>math</td>" in verifiers[0] and '<th class="n">time-outs</th>' in verifiers[0]
    actors = re.search(r'aria-label="Table of actors".*?</table>', page, re.S)
    assert actors is not None and "<td>engine-0</td><td>rollouts</td><td>busy</td>" in actors[0]
    responses = page[page.index('id="s-responses"') :]
    assert {name for name in DOMAINS if f"<h3>{name} · " in responses} == set(DOMAINS)
    assert '<img src="data:image/jpeg;base64,' in responses and '<rect class="reference"' in responses
    assert "window.hacked=1</script>" not in page


def test_the_report_leaves_out_pictures_that_would_make_it_too_large(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcs.dashboard.report._PICTURE_BYTES", 2000)
    write_report([make_run()], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    sources = re.findall(r'<img src="(data:[^"]+)"', text)
    assert sources and sum(map(len, sources)) <= 2000
    assert text.count("Reference answer:") > len(sources)


def test_rollouts_are_found_by_text_compared_and_coloured(make_run: MakeRun) -> None:
    run = make_run()
    with client(run.parent) as site:
        hits = site.get("/runs/first/rollouts?text=SO+11&everywhere=1").text
        assert "responses hold" in hits and "step=11" in hits
        page = site.get("/runs/first/rollouts?step=3").text
        assert 'class="forced"' in page and re.search(r'class="p[0-5]"', page)
        assert 'class="up' in page or 'class="down' in site.get("/runs/first/rollouts?step=3&colour=advantage").text
        drawn_twice = re.search(r"<option>(\d+)</option>", page)
        if drawn_twice:
            group = re.search(r'name="group" value="(\w+)"', page)
            assert group is not None
            both = site.get(f"/runs/first/rollouts?step=3&group={group[1]}&with={drawn_twice[1]}").text
            assert f"Iteration {drawn_twice[1]}" in both


def test_what_the_curriculum_page_shows_is_what_was_recorded(make_run: MakeRun) -> None:
    run = make_run()
    with client(run.parent) as site:
        shown = figures(site.get("/runs/first/curriculum?a=4&b=12").text)
    assert sum(cell[3] for cell in shown["pass_rates"]["extra"]["cells"]) == 12 * 10
    assert sum(shown["reliability"]["extra"]["counts"]) == 120
    coverage = {series["name"]: series["y"][-1] for series in shown["coverage"]["series"]}
    assert sum(coverage.values()) == 40
    assert shown["migration"]["extra"]["before"] == 4
    assert sum(link["value"] for link in shown["migration"]["extra"]["links"]) == 40 - coverage["never drawn"]
    for name in ("tiers", "domains"):
        for series in shown[name]["series"]:
            assert sum(series["y"]) == pytest.approx(1)


def test_runs_are_compared_and_seeds_grouped(make_run: MakeRun) -> None:
    make_run("seed-0")
    run = make_run("seed-1")
    with client(run.parent) as site:
        lines = figures(site.get("/compare?run=seed-0&run=seed-1&group=1").text)["reward-mean"]["series"]
        assert len(lines) == 1 and lines[0]["low"] is not None and lines[0]["name"] == "seed (mean of 2 runs)"
        assert len(figures(site.get("/compare?run=seed-0&run=seed-1").text)["reward-mean"]["series"]) == 2
        assert site.get("/compare", follow_redirects=False).status_code == 303


def test_bad_folders_get_a_page_and_the_others_still_work(make_run: MakeRun) -> None:
    run = make_run()
    runs = run.parent
    shutil.copytree(run, runs / "newer")
    (runs / "newer" / "metrics.jsonl").write_text('{"schema": 99, "step": 1}\n')
    shutil.copytree(run, runs / "torn")
    (runs / "torn" / "curriculum" / "step-000003.parquet").write_bytes(b"PAR1")
    (runs / "torn" / "rollouts" / "step-000003.parquet").write_bytes(b"PAR1")
    with (runs / "torn" / "metrics.jsonl").open("r+") as file:
        file.write("#")
    (runs / "nothing").mkdir()
    with client(runs) as site:
        index = site.get("/").text
        assert "upgrade rlcs" in index and "left out: nothing" in index
        assert "upgrade rlcs" in site.get("/runs/newer/overview").text
        assert site.get("/runs/nothing/overview").status_code == 404
        for page, _ in PAGES:
            assert site.get(f"/runs/torn/{page}?step=3").status_code == 200
            assert site.get(f"/runs/first/{page}").status_code == 200
        notes = site.get("/runs/torn/curriculum").text
        assert "line 1 is damaged" in notes and "step-000003.parquet cannot be read" in notes


def test_a_folder_that_is_a_run_itself_is_shown(make_run: MakeRun) -> None:
    run = make_run()
    with client(run) as site:
        assert "/runs/first/overview" in site.get("/").text
        assert site.get("/runs/first/overview").status_code == 200


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..", "first%2f..%2f..", ".hidden", "%00", "link"])
def test_no_name_leads_out_of_the_folder(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    run = make_run()
    shutil.copytree(run, tmp_path / "outside")
    (run.parent / "link").symlink_to(tmp_path / "outside")
    with client(run.parent) as site:
        assert site.get(f"/runs/{name}/overview").status_code in (404, 405)
        assert site.get(f"/static/{name}/server.py").status_code == 404


PIECES = st.sampled_from(
    [
        "..",
        ".",
        "",
        "first",
        "runs",
        "static",
        "images",
        "overview",
        "outside",
        "secret.txt",
        "config.yaml",
        "%2e%2e",
        "%2f",
    ]
    + [
        "%5c",
        "..%2f..%2f",
        "..%5c",
        "%00",
        "~",
        "C:",
        "file:",
        "%c0%ae%c0%ae",
        "....",
        "..;",
        "link",
        "etc",
        "passwd",
        "\u2025",
    ]
)


@example(["runs", "first", "images", "a" * 32 + ".jpg"], "")
@example(["runs", "first", "images", "..%2f..%2f..%2fsecret.txt.jpg"], "")
@settings(max_examples=int(os.environ.get("RLCS_FUZZ_EXAMPLES", "200")), deadline=None)
@given(
    st.lists(PIECES | st.text(max_size=4), min_size=1, max_size=8),
    st.sampled_from(
        ["", "?step=../../secret.txt", "?group=..%2f..&search=%00", "?sort=1;--&page=-1", "?prompt=../secret.txt"]
    ),
)
def test_no_path_leads_out_of_the_folder(traversal_site: TestClient, pieces: list[str], query: str) -> None:
    path = "/" + "/".join(quote(piece, safe="%~:;.") for piece in pieces)
    try:
        answer = traversal_site.get(path + query)
    except InvalidURL:  # by the client's own rules
        return
    assert answer.status_code < 500
    assert "hunter2" not in answer.text and "root:" not in answer.text


def test_only_get_and_known_hosts_pass(tmp_path: Path) -> None:
    with client(tmp_path) as site:
        assert site.post("/").status_code == 405
        assert site.delete("/runs/first/overview").status_code == 405
        assert site.get("/", headers={"host": "evil.example"}).status_code == 421
        assert site.get("/", headers={"host": "localhost:7860"}).status_code == 200


def test_beyond_this_machine_a_token_opens_the_door_once_and_a_cookie_keeps_it_open(tmp_path: Path) -> None:
    with client(tmp_path, host="10.0.0.5", token="secret") as site:
        assert site.get("/").status_code == 401
        assert site.get("/?token=wrong").status_code == 401
        assert site.get("/static/page.js").status_code == 401
        entry = site.get("/?token=secret&x=1", follow_redirects=False)
        assert entry.status_code == 303 and entry.headers["location"] == "/?x=1"
        assert "secret" not in entry.headers["set-cookie"]
        assert (
            "httponly" in entry.headers["set-cookie"].lower()
            and "samesite=strict" in entry.headers["set-cookie"].lower()
        )
        assert site.get("/").status_code == 200
        assert (
            site.get("//evil.example/?token=secret", follow_redirects=False).headers.get("location", "/").count("//")
            == 0
        )
        site.cookies.clear()
        site.cookies.set(COOKIE, "forged")
        assert site.get("/").status_code == 401


def test_names_of_hosts() -> None:
    assert is_host("[::1]:80", known_hosts("127.0.0.1"))
    assert is_host("192.168.0.4:7860", known_hosts("0.0.0.0"))
    assert not is_host("evil.example", known_hosts("0.0.0.0"))
    assert not is_host("192.168.0.4", known_hosts("127.0.0.1"))
    assert is_local("127.0.0.1") and is_local("::1") and is_local("localhost") and not is_local("0.0.0.0")


def test_a_new_iteration_is_told_of_and_shown(make_run: MakeRun) -> None:
    run = make_run()
    with client(run.parent) as site:
        assert "iteration 12 of 12" in site.get("/runs/first/overview").text
        threading.Timer(0.3, write_steps, (run, 13, 13)).start()
        deadline = time.monotonic() + 20
        while "iteration 13 of 12" not in site.get("/runs/first/overview").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        cells = figures(site.get("/runs/first/curriculum").text)["pass_rates"]["extra"]["cells"]
        assert sum(cell[3] for cell in cells) == 130
