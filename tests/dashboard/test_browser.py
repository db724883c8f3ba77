"""The dashboard in a real browser: every page at two widths, numbers read from the page, hostile text, axe-core.

It takes Debian's chromium. Without one these tests are skipped, unless RLCS_REQUIRE_BROWSER is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlcs.dashboard.pages import PAGES
from rlcs.dashboard.report import MOST_BYTES, write_report
from rlcs.runlog import read_draws

from .conftest import HOSTILE, write_steps

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = os.environ.get("RLCS_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDTHS = (1440, 900)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

if not Path(CHROMIUM).exists() and not os.environ.get("RLCS_REQUIRE_BROWSER"):
    pytest.skip("there is no chromium here (apt install chromium, or RLCS_CHROMIUM=PATH)", allow_module_level=True)


@pytest.fixture(scope="module")
def runs(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("first", "second"):
        shutil.copytree(whole_run, folder / name)
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """Of `rlcs dashboard` in a process of its own."""
    command = [sys.executable, "-m", "rlcs.cli", "dashboard", str(runs), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield line.split(" at ")[1].split()[0].rstrip("/")
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test with what its console said."""
    context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "requestfailed", lambda request: said.append(f"{request.url} failed") if "events" not in request.url else None
    )
    yield page
    context.close()
    assert said == []


def until(page: Any, condition: str, timeout_s: float = 20.0) -> None:
    """Wait for a condition; asked by the driver again and again, since the page's policy forbids it to do so itself."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.05)


def drawn(page: Any) -> None:
    """Wait until every plot that has something to draw was drawn."""
    until(page, "window.rlcsFigures !== undefined")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    until(
        page,
        "[...document.querySelectorAll('.chart')].every((c) => c.dataset.drawn || rlcsFigures()[c.dataset.figure].empty)",
    )


def option(page: Any, figure: str) -> Any:
    """What ECharts itself holds of a plot."""
    return page.evaluate(
        "(id) => JSON.parse(JSON.stringify(echarts.getInstanceByDom(document.querySelector(`[data-figure='${id}'].chart`))"
        ".getOption(), (key, value) => typeof value === 'function' ? undefined : value))",
        figure,
    )


def axe(page: Any) -> list[str]:
    """Serious violations that axe-core finds."""
    # Evaluated by the driver, which no Content-Security-Policy of the page hinders.
    page.evaluate(AXE.read_text())
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {v['help']}: {node['html'][:200]}" for v in serious for node in v["nodes"][:3]]


PATHS = [
    "/",
    *(f"/runs/first/{name}" for name, _ in PAGES),
    "/compare?run=first&run=second",
    "/runs/first/prompts?id={id}",
]


@pytest.mark.parametrize("path", PATHS)
def test_page_is_drawn_without_an_error_and_without_a_serious_violation(page: Any, address: str, path: str) -> None:
    page.goto(address + path.replace("{id}", f"{1:016x}"))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if path not in ("/", "/runs/first/prompts", "/runs/first/rollouts"):
            drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    assert axe(page) == []
    page.emulate_media(color_scheme="dark")
    assert axe(page) == []
    assert page.evaluate("window.hacked") is None
    assert page.query_selector("#bold") is None


def test_plots_of_the_curriculum_hold_the_numbers_of_the_run(page: Any, address: str, runs: Path) -> None:
    page.goto(f"{address}/runs/first/curriculum?a=3&b=12")
    drawn(page)
    table = read_draws(runs / "first").to_pylist()
    shown = option(page, "pass_rates")["series"][0]["data"]
    for step in (1, 7, 12):
        for bin_index in range(5):
            count = sum(row["step"] == step and row["pass_rate"] == bin_index / 4 for row in table)
            assert [cell[3] for cell in shown if cell[:2] == [step - 1, bin_index]] == [count]
    tiers = {series["name"]: series["data"] for series in option(page, "tiers")["series"]}
    for tier in range(5):
        share = sum(row["tier"] == tier for row in table) / len(table)
        assert tiers["drawn"][tier] == pytest.approx(share, abs=1e-5)
    links = option(page, "migration")["series"][0]["links"]
    assert sum(link["value"] for link in links) == len({row["prompt_id"] for row in table})
    curve = option(page, "reliability")["series"][-1]["data"]
    first = [row for row in table if row["predicted_pass_rate"] < 0.4]
    assert curve[0][1] == pytest.approx(sum(row["pass_rate"] for row in first) / len(first), abs=1e-5)


def test_hostile_text_stays_text(page: Any, address: str) -> None:
    page.goto(f"{address}/runs/first/rollouts?step=5")
    text = page.inner_text(".responses")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert HOSTILE in page.inner_text(".responses") or HOSTILE in text
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("[...document.images].every((image) => image.src.includes('/images/') && image.complete)")


def test_a_new_iteration_shows_within_three_seconds_without_reloading(page: Any, address: str, runs: Path) -> None:
    page.goto(f"{address}/runs/second/overview")
    drawn(page)
    page.evaluate("window.stayed = true")
    write_steps(runs / "second", 13, 13)
    until(page, "document.getElementById('state').textContent.includes('iteration 13')", 3.0)
    until(page, "rlcsFigures().reward.series.at(-1).x.at(-1) === 13", 1.0)
    assert page.evaluate("window.stayed")


def test_all_controls_are_reached_with_the_keyboard(page: Any, address: str) -> None:
    page.goto(f"{address}/runs/first/overview")
    drawn(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"A", "smoothing", "log", "SUMMARY"} <= seen
    page.focus("#smoothing")
    page.keyboard.press("Home")
    assert page.inner_text("#smoothing-value") == "0.00"
    assert len([s for s in option(page, "useful")["series"] if s["type"] == "line"]) == 1


def test_the_report_works_from_a_file_alone(page: Any, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert write_report([runs / "first"], path) < MOST_BYTES
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    drawn(page)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert option(page, "pass_rates")["series"][0]["data"]
    assert page.evaluate("window.hacked") is None and page.query_selector("#bold") is None
    page.set_viewport_size({"width": 900, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 900
    assert axe(page) == []
    write_report([runs / "first", runs / "second"], path)
    page.goto(path.as_uri())
    drawn(page)
    assert len(page.evaluate("rlcsFigures()['reward-mean'].series")) == 2
