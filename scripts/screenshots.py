"""The pictures of the dashboard in docs/images, taken from a finished run by a real browser.

    python scripts/screenshots.py RUN_DIR [--step 200] [--domain NAME]

Needs Playwright and a chromium (RLCS_CHROMIUM=PATH, or one on the PATH). `--step` and `--domain`: whose rollouts are shown.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDTH = 1440
SCALE = 0.75
"""Pixels of a picture for one of the page."""
HEIGHTS = {"overview": 2000, "prompts": 900, "rollouts": 1150, "system": 3200}
"""At most so much of a page, in its own pixels; of the others all."""
TOP = 692
"""Of the curriculum page, for the README."""


def wait_until_drawn(page: Any) -> None:
    """Until each plot on the page has been drawn, those below the window too."""
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    condition = "[...document.querySelectorAll('.chart')].every((c) => c.dataset.drawn || rlcsFigures()[c.dataset.figure].empty)"
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise SystemExit(f"{page.url}: not drawn within 30 s")
        time.sleep(0.1)
    time.sleep(1.5)  # plots grow into place


def picture(page: Any, height: int | None) -> Image.Image:
    """The page from its top, with 256 colours."""
    full = int(page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": WIDTH, "height": min(full, height or full)})
    wait_until_drawn(page)
    return (
        Image.open(io.BytesIO(page.screenshot()))
        .convert("RGB")
        .quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, default=200)
    parser.add_argument("--domain", default="")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("RLCS_CHROMIUM") or shutil.which("chromium")
    run: Path = arguments.run.resolve()
    command = [sys.executable, "-m", "rlcs.cli", "dashboard", str(run.parent), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].split()[0].rstrip("/")
        pages = {"runs": "/"}
        for name in ("overview", "curriculum", "prompts", "rollouts", "rewards", "system"):
            pages[name] = f"/runs/{run.name}/{name}"
        pages["rollouts"] += "?" + urlencode({"step": arguments.step, "domain": arguments.domain})
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
            page = browser.new_context(
                viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE, reduced_motion="reduce"
            ).new_page()
            for name, path in pages.items():
                page.set_viewport_size({"width": WIDTH, "height": 300 if name == "runs" else 900})
                page.goto(address + path)
                page.wait_for_load_state("load")
                image = picture(page, HEIGHTS.get(name))
                image.save(IMAGES / f"dashboard-{name}.png", optimize=True)
                if name == "curriculum":
                    image.crop((0, 0, image.width, int(TOP * SCALE))).save(
                        IMAGES / "dashboard-curriculum-top.png", optimize=True
                    )
            browser.close()
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
